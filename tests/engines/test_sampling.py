"""The noise: its distribution, its independence, and that it never changes by accident."""

from __future__ import annotations

import numpy as np
import pytest

from harness.engines.base import Sampling
from harness.engines.sampling import Sampler, entries, gumbel, row_key, step_keys

VOCAB = 400


def noise(pairs: list[tuple[int, int]], steps: list[int]) -> np.ndarray:
    import torch

    keys = np.asarray([row_key(seed, draw) for seed, draw in pairs], dtype=np.uint64)
    words = torch.from_numpy(step_keys(keys, np.asarray(steps)))
    return np.asarray(gumbel(words, entries(VOCAB, "cpu")).numpy())


def test_the_noise_is_standard_gumbel() -> None:
    values = noise([(seed, 0) for seed in range(1500)], [0] * 1500).ravel()
    assert np.isfinite(values).all()
    assert values.mean() == pytest.approx(0.5772, abs=0.006)
    assert values.var() == pytest.approx(np.pi**2 / 6, rel=0.01)
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        quantile = -np.log(-np.log(share))
        assert (values < quantile).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / len(values)) ** 0.5)


@pytest.mark.parametrize("vary", ["seed", "draw", "step", "entry"])
def test_noise_of_different_places_is_unrelated(vary: str) -> None:
    count = 800
    ranks = range(count)
    pairs = [(at if vary in {"seed", "entry"} else 7, at if vary == "draw" else 0) for at in ranks]
    one = noise(pairs, list(ranks) if vary == "step" else [0] * count)
    if vary == "entry":
        one = one.T
    related = np.corrcoef(one[:60])
    np.fill_diagonal(related, 0)
    assert np.abs(related).max() < 6 / one.shape[1] ** 0.5
    assert len(np.unique(one[:, 0])) == len(one)


def test_the_noise_stays_what_it_is() -> None:
    """Stored answers were drawn with it: another value here means that every cached sample changes."""
    assert row_key(12345, 1) == 15768447460824751075
    assert noise([(12345, 1)], [0])[0, :3] == pytest.approx([-1.446076, -0.572737, 0.402822], abs=1e-5)


def test_a_rare_token_is_drawn_as_often_as_it_should_be() -> None:
    import torch

    logits = torch.zeros(20000, 2)
    logits[:, 1] = -6.0
    keys = np.asarray([row_key(seed, 0) for seed in range(20000)], dtype=np.uint64)
    sampler = Sampler([Sampling(temperature=1.0)] * 20000, keys, entries(2, "cpu"), first=False)
    share = float(sampler.draw(logits, np.zeros(20000, dtype=np.int64)).float().mean())
    assert share == pytest.approx(np.exp(-6) / (1 + np.exp(-6)), abs=0.0015)


@pytest.mark.parametrize(("top_p", "inside"), [(0.3, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.999, 4)])
def test_the_nucleus_holds_the_likeliest_tokens_that_reach_top_p(top_p: float, inside: int) -> None:
    import torch

    count = 3000
    shares = torch.tensor([0.05, 0.5, 0.15, 0.3])
    keys = np.asarray([row_key(seed, 0) for seed in range(count)], dtype=np.uint64)
    sampler = Sampler([Sampling(temperature=1.0, top_p=top_p)] * count, keys, entries(4, "cpu"), first=False)
    drawn = sampler.draw(shares.log().expand(count, 4), np.zeros(count, dtype=np.int64))
    seen = torch.bincount(drawn, minlength=4) / count
    order = [1, 3, 2, 0][:inside]
    kept = shares[order] / shares[order].sum()
    assert set(drawn.tolist()) == set(order)
    assert seen[order].tolist() == pytest.approx(kept.tolist(), abs=0.035)
