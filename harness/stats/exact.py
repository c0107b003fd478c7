"""Paired tests of two checkpoints on the same items, and the correction for several comparisons.

These speak of two checkpoints, not of two recipes: they know nothing of the noise between training seeds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal

from harness.errors import CannotTell
from harness.stats._values import Clusters

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Test = Literal["mcnemar", "permutation", "wilcoxon"]


FLIPS = 10_000
_EXACT_RANKS = 50
"""Up to so many differences the signed ranks are enumerated, beyond they are taken as normal (MLflow's rule too)."""


def paired_test(
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    test: Test | None = None,
    *,
    clusters: Clusters = None,
    seed: int = 0,
) -> tuple[float, Test]:
    """Two-sided p-value of a paired test on items that both arms have, and which test it was.

    None chooses: McNemar's exact test where both hold only 0 and 1, else a permutation test of the mean difference.
    Where items share a question the two models are exchanged question by question, which leaves the permutation test.

    Args:
        candidate: values per item, shape (items,); NaN is missing and leaves the pair out.
        baseline: likewise, in the same order.
        test: `mcnemar` (exact), `permutation` (10,000 sign flips, exact up to 13 items) or `wilcoxon` (signed ranks,
            exact up to 50 differences).
        clusters: per item, the question that it belongs to.
        seed: of the sign flips.

    Raises:
        CannotTell: no item has both grades.
        ValueError: McNemar's test on values other than 0 and 1, unequal lengths, or another test than `permutation`
            of items that share a question.
    """
    import numpy as np

    a, b = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two lists of equal length, not {a.shape} and {b.shape}")
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        raise CannotTell("no item has a grade in both arms")
    a, b = a[both], b[both]
    names = None if clusters is None else [name for name, there in zip(clusters, both.tolist(), strict=True) if there]
    shared = names is not None and len(set(names)) < len(names)
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    chosen: Test = test or ("mcnemar" if binary and not shared else "permutation")
    if chosen == "mcnemar" and not binary:
        raise ValueError("McNemar's test compares 0 and 1 only; use permutation or wilcoxon")
    if shared and chosen != "permutation":
        raise ValueError(f"items share questions, so {chosen} would count them as independent; use permutation")
    if chosen == "mcnemar":
        return _mcnemar(a, b), chosen
    gaps = _sums(a - b, names) if shared and names is not None else a - b
    return _on_differences(gaps, chosen, seed), chosen


def _sums(gaps: Floats, names: Sequence[Hashable]) -> Floats:
    """The sum of the differences of each question: what changes its sign when the two models are exchanged on it."""
    import numpy as np

    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.asarray(np.bincount([places[name] for name in names], weights=gaps), dtype=np.float64)


def _mcnemar(a: Floats, b: Floats) -> float:
    """Twice the smaller tail of a fair binomial over the items on which the two differ."""
    from scipy.special import bdtr

    won, lost = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0


def _on_differences(gaps: Floats, test: Test, seed: int) -> float:
    import numpy as np
    from scipy import stats

    gaps = gaps[gaps != 0]
    if not gaps.size:
        return 1.0
    if test == "wilcoxon":
        return float(stats.wilcoxon(gaps, method="exact" if gaps.size <= _EXACT_RANKS else "approx").pvalue)
    if 2**gaps.size <= FLIPS:
        exact = stats.permutation_test(
            (gaps,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=seed
        )
        return float(exact.pvalue)
    return _sampled(gaps, seed)


def _sampled(gaps: Floats, seed: int) -> float:
    """The p-value of scipy's `permutation_test` on samples but for its random numbers, many times faster."""
    import numpy as np

    rng, sizes = np.random.default_rng(seed), np.abs(gaps)
    distinct, counts = np.unique(sizes, return_counts=True)
    if distinct.size <= sizes.size // 8:
        sums = (2 * rng.binomial(counts, 0.5, (FLIPS, counts.size)) - counts) @ distinct
    else:
        parts = (rng.integers(0, 2, (FLIPS // 10, sizes.size), dtype=np.int8) for _ in range(10))
        sums = np.concatenate([2 * (part @ sizes) - sizes.sum() for part in parts])
    seen, slack = gaps.sum(), 1e-9 * sizes.sum()
    more, less = int((sums >= seen - slack).sum()), int((sums <= seen + slack).sum())
    return min(1.0, 2 * (min(more, less) + 1) / (FLIPS + 1))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction for a family of comparisons; adjusted p-values in the same order.

    Written out here because importing statsmodels takes longer than a whole comparison; the tests hold both to the
    same figures (and McNemar's test above likewise).
    """
    ordered = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(ordered):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)
