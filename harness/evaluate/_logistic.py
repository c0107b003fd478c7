"""Logistic models of preferences: a fit, and how uncertain the win rate is that one predicts.

Only the mean prediction at chosen values of the features is of interest (what would the win rate be at equal length?),
so its standard error comes from the influence of each item on it: through the coefficients (a sandwich estimate, with
the verdicts of one item joined) and through the item's own place in the mean. No refits are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


def fit(features: Floats, wins: Floats, weights: Floats) -> Floats | None:
    """Coefficients (no intercept of its own: give a column of ones) for shares of a win between 0 and 1.

    The penalty is so weak (C = 10,000) that it only keeps coefficients finite where wins and losses are separable.

    Args:
        features: (verdicts, features).
        wins: (verdicts,).
        weights: (verdicts,).

    Returns:
        Coefficients (features,), or None where all verdicts are equal, so that nothing can be fitted.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([features, features])
    labels = np.repeat([1, 0], len(wins))
    counts = np.concatenate([wins, 1 - wins]) * np.concatenate([weights, weights])
    kept = counts > 0
    if len(set(labels[kept])) < 2:
        return None
    model = LogisticRegression(C=1e4, fit_intercept=False, tol=1e-8, max_iter=1000)
    model.fit(rows[kept], labels[kept], sample_weight=counts[kept])
    coefficients: Floats = model.coef_[0]
    return coefficients


def coefficient_errors(features: Floats, wins: Floats, weights: Floats, items: Ints, coefficients: Floats) -> Floats:
    """Standard errors of the coefficients, (features,), by the same sandwich; arguments as for `mean_prediction`."""
    import numpy as np

    influence = _influence(features, wins, weights, items, coefficients)
    n = len(influence)
    errors: Floats = np.sqrt(n / max(n - 1, 1) * (influence**2).sum(axis=0))
    return errors


def mean_prediction(
    features: Floats, wins: Floats, weights: Floats, items: Ints, coefficients: Floats, at: Floats
) -> tuple[float, float]:
    """The mean prediction and its standard error.

    Args:
        features: (verdicts, features) of the fit.
        wins: (verdicts,), 0 to 1.
        weights: (verdicts,) of the fit.
        items: (verdicts,) place of the item in `at`, or -1 for rows that are given and no sample (a regulariser's).
        coefficients: (features,) of the fit.
        at: (items, features) where each item is predicted.
    """
    import numpy as np
    from scipy.special import expit

    there = expit(at @ coefficients)
    mean, n = float(there.mean()), len(at)
    slope = ((there * (1 - there))[:, None] * at).mean(axis=0)
    influence = _influence(features, wins, weights, items, coefficients) @ slope + (there - mean) / n
    return mean, float(np.sqrt(n / max(n - 1, 1) * (influence**2).sum()))


def _influence(features: Floats, wins: Floats, weights: Floats, items: Ints, coefficients: Floats) -> Floats:
    """What each item moves each coefficient by: (items, features)."""
    import numpy as np
    from scipy.special import expit

    predicted = expit(features @ coefficients)
    curvature = (features * (weights * predicted * (1 - predicted))[:, None]).T @ features
    scores = features * (weights * (wins - predicted))[:, None]
    sampled = items >= 0
    per_item = np.zeros((int(items.max()) + 1, features.shape[1]))
    np.add.at(per_item, items[sampled], scores[sampled])
    moved: Floats = per_item @ np.linalg.pinv(curvature)
    return moved
