"""Draws the next token of many rows at once, each with random numbers of its own.

A token is drawn as argmax(logits / temperature + Gumbel noise), which is a sample of the softmax (the Gumbel-max
trick). The noise of a vocabulary entry is a hash of (request seed, draw, step, entry): it needs no generator state, is
the same on every device up to the last bit of a logarithm, and does not know which rows stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.engines.base import Sampling

if TYPE_CHECKING:
    import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NEVER = float("-inf")


def row_key(seed: int, draw: int) -> int:
    """The 64-bit key of all random numbers of one continuation."""
    with np.errstate(over="ignore"):
        mixed = _mix(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + _GOLDEN)
        return int(_mix(mixed ^ _mix(np.uint64(draw) + _GOLDEN)))


def step_keys(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Per row, two 32-bit words for one step: uint64 keys (n,), int64 steps (n,) to int32 (2, n)."""
    words = _mix(keys + (steps.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return np.stack([(words >> np.uint64(32)).astype(np.uint32), words.astype(np.uint32)]).view(np.int32)


def _mix(x: np.ndarray | np.uint64) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def gumbel(words: torch.Tensor, vocab: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float32 (n, V).

    Two rounds of a 32-bit mixer with one key word before each; 31 bits make a uniform number whose precision is best
    near 0, where it decides about rare tokens.

    Args:
        words: int32 (2, n), as `step_keys` gives them.
        vocab: int32 (V,), the entries' numbers times an odd constant (`entries`).
    """
    x = vocab ^ words[0][:, None]
    x ^= (x >> 16) & 0xFFFF
    x *= 0x7FEB352D
    x += words[1][:, None]
    x ^= (x >> 15) & 0x1FFFF
    x *= -0x7B935975
    x ^= (x >> 16) & 0xFFFF
    x &= 0x7FFFFFFF
    uniform = x.float().add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def entries(vocab: int, device: object) -> torch.Tensor:
    """The vocabulary's numbers as `gumbel` wants them."""
    import torch

    numbers = np.arange(vocab, dtype=np.uint32) * np.uint32(0x9E3779B1)
    return torch.from_numpy(numbers.view(np.int32)).to(device)


class Sampler:
    """The settings of the rows of one batch, as arrays; row i of every call is row i here.

    Built anew when rows join or leave, so that a step does nothing per row in Python.
    """

    def __init__(self, rows: Sequence[Sampling], keys: np.ndarray, vocab: torch.Tensor, first: bool) -> None:
        """`keys` are the rows' `row_key`s (uint64); `first` says that these rows draw their first token."""
        self._keys, self._vocab = keys, vocab
        heat = [s.first_temperature if first and s.first_temperature is not None else s.temperature for s in rows]
        self._drawn = any(t > 0 for t in heat)
        self._mixed = self._drawn and not all(t > 0 for t in heat)
        self._heat = vocab.new_tensor([t if t > 0 else 1.0 for t in heat], dtype=_float())[:, None]
        self._random = vocab.new_tensor([float(t > 0) for t in heat], dtype=_float())[:, None]
        self._unit = all(t in {0.0, 1.0} for t in heat)
        top = [s.top_p if t > 0 else 1.0 for s, t in zip(rows, heat, strict=True)]
        self._top_p = vocab.new_tensor(top, dtype=_float())[:, None] if any(p < 1 for p in top) else None
        self._bias = _table(rows, vocab, first)
        self.top_logprobs = max((s.top_logprobs for s in rows), default=0)

    def draw(self, logits: torch.Tensor, steps: np.ndarray) -> torch.Tensor:
        """Token ids (n,) from float32 logits (n, V); `steps` (n,) counts the tokens that each row has so far."""
        import torch

        if self._bias is not None:
            rows, ids, values = self._bias
            logits = logits.index_put((rows, ids), values, accumulate=True)
        if not self._drawn:
            return logits.argmax(-1)
        if not self._unit:
            logits = logits / self._heat
        noise = gumbel(torch.from_numpy(step_keys(self._keys, steps)).to(logits.device), self._vocab)
        if self._mixed:
            noise *= self._random
        tokens = (noise + logits).argmax(-1)
        return tokens if self._top_p is None else self._within(tokens, logits, noise)

    def _within(self, tokens: torch.Tensor, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draws again for rows whose token is outside the nucleus (Holtzman et al. 2019): few, so few rows are sorted.

        A token is inside where the mass of all strictly likelier tokens is below top_p. The best inside is the best
        of all whenever that is inside, so the first draw stands for the other rows.
        """
        shares = logits.softmax(-1)
        mine = shares.gather(1, tokens[:, None])
        above = (shares * (shares > mine)).sum(-1, keepdim=True)
        outside = (above >= self._top_p).squeeze(1).nonzero().squeeze(1)
        if len(outside) == 0:
            return tokens
        import torch

        limit = self._top_p[outside] if self._top_p is not None else 1.0
        ordered, order = shares[outside].sort(dim=-1, descending=True, stable=True)
        within = (ordered.cumsum(-1) - ordered) < limit
        within[:, 0] = True
        allowed = torch.zeros_like(within).scatter_(1, order, within)
        scores = (logits[outside] + noise[outside]).masked_fill_(~allowed, _NEVER)
        return tokens.index_copy(0, outside, scores.argmax(-1))


def _float() -> torch.dtype:
    import torch

    return torch.float32


def _table(rows: Sequence[Sampling], vocab: torch.Tensor, first: bool) -> tuple[torch.Tensor, ...] | None:
    """All biases and bans as (row, id, value) arrays; None where there are none."""
    import torch

    found = [(row, index, value) for row, s in enumerate(rows) for index, value in s.logit_bias.items()]
    if first:
        found += [(row, index, _NEVER) for row, s in enumerate(rows) for index in s.first_bans]
    if not found:
        return None
    where, ids, values = zip(*found, strict=True)
    made = (torch.tensor(where), torch.tensor(ids), torch.tensor(values, dtype=torch.float32))
    return tuple(side.to(vocab.device) for side in made)
