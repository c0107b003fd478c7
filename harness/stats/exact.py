"""Paired tests of two checkpoints on the same items, and the correction for several comparisons.

These speak of two checkpoints, not of two recipes: they know nothing of the noise between training seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.errors import CannotTell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Test = Literal["mcnemar", "permutation", "wilcoxon"]


def paired_test(
    candidate: npt.ArrayLike, baseline: npt.ArrayLike, test: Test | None = None, *, seed: int = 0
) -> tuple[float, Test]:
    """Two-sided p-value of a paired test on items that both arms have, and which test it was.

    None chooses: McNemar's exact test where both hold only 0 and 1, else a permutation test of the mean difference.

    Args:
        candidate: values per item, shape (items,); NaN is missing and leaves the pair out.
        baseline: likewise, in the same order.
        test: `mcnemar` (exact), `permutation` (10,000 sign flips, exact up to 13 items) or `wilcoxon` (signed ranks).
        seed: of the sign flips.

    Raises:
        CannotTell: no item has both grades.
        ValueError: McNemar's test on values other than 0 and 1, or unequal lengths.
    """
    import numpy as np

    a, b = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two lists of equal length, not {a.shape} and {b.shape}")
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        raise CannotTell("no item has a grade in both arms")
    a, b = a[both], b[both]
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    chosen: Test = test or ("mcnemar" if binary else "permutation")
    if chosen == "mcnemar" and not binary:
        raise ValueError("McNemar's test compares 0 and 1 only; use permutation or wilcoxon")
    return (_mcnemar(a, b) if chosen == "mcnemar" else _on_differences(a - b, chosen, seed)), chosen


def _mcnemar(a: Floats, b: Floats) -> float:
    """Twice the smaller tail of a fair binomial over the items on which the two differ."""
    from scipy.special import bdtr

    won, lost = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0


def _on_differences(gaps: Floats, test: Test, seed: int) -> float:
    import numpy as np
    from scipy import stats

    if not gaps.any():
        return 1.0
    if test == "wilcoxon":
        return float(stats.wilcoxon(gaps).pvalue)
    flips = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", vectorized=True, n_resamples=10_000, batch=500, rng=seed
    )
    return float(flips.pvalue)


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
