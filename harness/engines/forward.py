"""One Hugging Face causal language model, seen as two functions: hidden states of ids, and logits of hidden states.

The decode loop keeps its own key/value store and tells the model where each row stands by explicit position ids and
an explicit mask. Both are conventions that nearly all architectures follow but none promises, so `verify` compares
them with the model's plain forward once, when it is opened, and refuses a model that would be decoded wrongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.engines.kv import Nothing, Prefill, Slots, Store, as_cache, without_cache
from harness.errors import UserError

if TYPE_CHECKING:
    import torch

_SHAPED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Config entries of models that do more to their logits than the output layer does."""
SHARED = 16
"""Tokens from which on a beginning that rows share is read apart."""
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


@dataclass
class Forward:
    """A model in evaluation mode. Shapes: n rows, T positions, W columns of the store, V vocabulary entries."""

    model: Any
    base: Any
    head: Any
    """The output layer where logits are exactly `head(hidden)`; None where the model does more to them."""
    device: Any
    dtype: Any
    context: int | None
    """Longest sequence that the model was made for, None where its config tells none."""
    size: int
    """Vocabulary entries that have a logit."""
    window: int | None
    """Width of sliding attention layers, None where all layers see everything."""
    mixed: bool
    """True where only some layers slide."""
    continues: bool = True
    """Whether rows may be read behind a beginning that was read before; `verify` finds out."""

    @classmethod
    def of(cls, model: Any) -> Forward:
        """Wraps and verifies a loaded model.

        Raises:
            UserError: an architecture that this engine cannot decode or score correctly.
        """
        config = model.config.get_text_config()
        base = getattr(model, model.base_model_prefix, None)
        _check_kind(model, base, config)
        kinds = set(getattr(config, "layer_types", None) or ())
        window = getattr(config, "sliding_window", None)
        slides = "sliding_attention" in kinds if kinds else bool(window) and getattr(config, "use_sliding_window", True)
        forward = cls(
            model=model,
            base=base,
            head=None if any(getattr(config, name, None) for name in _SHAPED) else model.get_output_embeddings(),
            device=model.device,
            dtype=model.dtype,
            context=getattr(config, "max_position_embeddings", None),
            size=config.vocab_size,
            window=window if slides else None,
            mixed=len(kinds) > 1,
        )
        forward.verify()
        return forward

    def hidden(self, ids: torch.Tensor, keep: Store | None = None) -> torch.Tensor:
        """Last hidden states of right-padded rows, shape (n, T, hidden); no token sees the padding behind it."""
        cache = as_cache(keep) if keep is not None else without_cache()
        out: torch.Tensor = self.base(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return out

    def step(self, ids: torch.Tensor, slots: Slots) -> torch.Tensor:
        """Logits after one more token per active row: ids (n,), result (n, V) float32. The token enters the store."""
        n, at = len(ids), slots.at
        starts = slots.start[:n]
        mask = self._mask(slots, starts, at)
        inputs = {"input_ids": ids[:, None], "position_ids": (at - starts)[:, None], "attention_mask": mask}
        inputs |= {"past_key_values": as_cache(slots), "use_cache": True}
        if self.head is None:
            return self.model(**inputs).logits[:, -1].float()
        return self.head(self.base(**inputs).last_hidden_state[:, -1]).float()

    def prefill(self, ids: torch.Tensor, last: torch.Tensor, keep: Prefill) -> torch.Tensor:
        """Logits (n, V) float32 at position `last` (n,) of right-padded prompts (n, T), whose keys `keep` receives."""
        import torch

        rows = torch.arange(len(ids), device=ids.device)
        if self.head is None:
            cache = as_cache(keep)
            return self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits[rows, last].float()
        return self.head(self.hidden(ids, keep)[rows, last]).float()

    def beginning(self, rows: Sequence[Sequence[int]], least: int, longest: int) -> Prefill | None:
        """What all these rows begin with, read once; None where it is not worth a pass of its own.

        Args:
            rows: ids of at least one row.
            least: tokens that must be spared over all rows.
            longest: tokens that the beginning may have at most.
        """
        import torch

        count = min(_common(rows), longest)
        if not self.continues or len(rows) < 2 or count < SHARED or count * (len(rows) - 1) < least:
            return None
        before = Prefill()
        self.hidden(torch.tensor([list(rows[0][:count])], device=self.device), before)
        return before

    def logits_in_parts(
        self,
        ids: torch.Tensor,
        rows: torch.Tensor,
        at: torch.Tensor,
        targets: torch.Tensor,
        size: int,
        before: Prefill | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Logits at chosen (row, position) pairs of right-padded ids (n, T), `size` pairs at a time.

        With `before`, ids and positions are those behind this beginning.

        Yields logits (part, V) in the model's number format, with their targets (part,). The vocabulary is computed at
        no other position, except for models whose logits are more than their output layer (a soft cap, a scale): those
        compute it everywhere.
        """
        if self.head is None:
            cache = without_cache(before)
            states = self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits[rows, at]
        else:
            states = self.hidden(ids, Nothing(before))[rows, at]
        for part, wanted in zip(states.split(size), targets.split(size), strict=True):
            yield (part if self.head is None else self.head(part)), wanted

    def _mask(self, slots: Slots, starts: torch.Tensor, at: int) -> Any:
        """Additive mask (n, 1, 1, W) over the columns in use; by layer kind where some layers slide."""
        columns = slots.columns[slots.low : at + 1]
        full = self._additive(columns >= starts[:, None])
        if self.window is None or at + 1 - slots.low <= self.window:
            return {"full_attention": full, "sliding_attention": full} if self.window and self.mixed else full
        near = self._additive((columns >= starts[:, None]) & (columns > at - self.window))
        return {"full_attention": full, "sliding_attention": near} if self.mixed else near

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        import torch

        least = torch.finfo(self.dtype).min
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill_(~seen, least)
        return mask[:, None, None, :]

    def verify(self) -> None:
        """Compares head and stored decoding with the model's own forward on a few tokens.

        Raises:
            UserError: the stored decoding gives other logits.
        """
        import torch

        size = self.model.config.get_text_config().vocab_size
        ids = (torch.arange(2 * 6, device=self.device).reshape(2, 6) * 7 + 3) % min(size, 97)
        ids[1, :2] = ids[0, :2]
        with torch.inference_mode():
            truth = self.model(input_ids=ids).logits.float()
            scale = float(truth.abs().max()) + 1e-6
            tolerance = (1e-3 if self.dtype == torch.float32 else 6e-2) * scale
            plain = None if self.head is None else self.head(self.hidden(ids)).float()
            if plain is None or not torch.allclose(plain, truth, atol=tolerance):
                self.head = None
            got = self._decoded(ids)
            self.continues = self.window is None and torch.allclose(self._continued(ids), truth[:, -1], atol=tolerance)
        if not torch.allclose(got, torch.stack([truth[0, -1], truth[1, -2]]), atol=tolerance):
            name = type(self.model).__name__
            raise UserError(
                f"{name} cannot be decoded by the transformers engine of this version: continued from stored keys it "
                f"gives other logits than its plain forward. Try a model of the Llama, Qwen, Mistral or GPT-2 kind."
            )

    def _decoded(self, ids: torch.Tensor) -> torch.Tensor:
        """The last logits of row 0 and the last but one of row 1, by prefill, shifted insertion and one step."""
        import torch

        slots, keep = Slots(2, self.device), Prefill()
        self.hidden(ids[:, :5], keep)
        slots.place_for(5)
        slots.insert(keep, [(0, 5), (1, 4)])
        return self.step(torch.stack([ids[0, 5], ids[1, 4]]), slots)

    def _continued(self, ids: torch.Tensor) -> torch.Tensor:
        """The last logits of rows whose first two tokens are those of row 0, read before."""
        import torch

        before = Prefill()
        self.hidden(ids[:1, :2], before)
        last = torch.full((len(ids),), ids.shape[1] - 3, device=self.device)
        return self.prefill(ids[:, 2:], last, Prefill(before))


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many ids all rows begin with: as many as the first and the last of them in order do."""
    ordered = [tuple(row) for row in rows]
    pairs = list(zip(min(ordered), max(ordered), strict=False))
    return next((at for at, (one, other) in enumerate(pairs) if one != other), len(pairs))


def _check_kind(model: Any, base: Any, config: Any) -> None:
    name = type(model).__name__
    strange = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if strange or getattr(model, "_is_stateful", False):
        what = ", ".join(sorted(strange)) or "a recurrent state"
        raise UserError(f"{name} has layers with {what}, which the transformers engine of this version cannot decode.")
    if base is None or "position_ids" not in inspect.signature(base.forward).parameters:
        raise UserError(
            f"{name} takes no position_ids, so the transformers engine of this version cannot decode it in batches."
        )
