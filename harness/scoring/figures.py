"""Numbers from grades: means with intervals, the suite's own figures, and paired differences between sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import Grade, Metric
from harness.errors import CannotTell
from harness.scoring.judging import Graded
from harness.scoring.result import CANNOT_TELL, HIGHER, LOWER, Difference, Figure
from harness.scoring.stored import Run
from harness.stats import ALPHA, difference, holm, paired_test, score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FLAG = "flag"
"""The tag of grades whose answer looks like an attack on the judge."""
Z = 1.959963984540054
"""Half width of a 95 % normal interval, in standard errors."""
_ERRORS = {"win_rate": "standard_error", "length_controlled_winrate": "lc_standard_error"}
"""Figures to which alpaca-eval gives a standard error of its own."""
_UNITS = ("win_rate", "winrate", "rate")


@dataclass(frozen=True, kw_only=True)
class Values:
    """A metric's values of a source: (runs, grades, judge's repeats), NaN where missing, with what joins grades."""

    values: Floats
    grades: tuple[Grade, ...]
    """Of the first run: ids, clusters and categories are alike in all."""

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(grade.cluster or grade.item for grade in self.grades)

    def where(self, keep: Callable[[Grade], bool]) -> Values:
        """Only some grades."""
        chosen = [index for index, grade in enumerate(self.grades) if keep(grade)]
        return Values(values=self.values[:, chosen], grades=tuple(self.grades[i] for i in chosen))


def values_of(runs: Mapping[Run, Graded], metric: str) -> Values:
    """The values of a metric over all runs."""
    import numpy as np

    rows = [[_repeats(grade, metric) for grade in graded.grades] for graded in runs.values()]
    most = max((len(cell) for row in rows for cell in row), default=1)
    # Fewer repeats than elsewhere (an item that needed no judge): each counts as often, so that the mean is the same.
    filled = [[[cell[k % len(cell)] for k in range(most)] for cell in row] for row in rows]
    return Values(values=np.array(filled, dtype=np.float64), grades=next(iter(runs.values())).grades)


def figure(name: str, of: Values, metric: Metric) -> Figure:
    """The mean of a metric with its interval; clusters are questions, so two turns of one count together."""
    import numpy as np

    missing = int(np.isnan(of.values).all(axis=-1).sum())
    items = len(set(of.clusters))
    common: dict[str, Any] = {"name": name, "n": items, "missing": missing, "unit": metric.unit}
    try:
        found = score(of.values, clusters=of.clusters, bounds=metric.bounds)
    except CannotTell as error:
        value = None if np.isnan(of.values).all() else float(np.nanmean(of.values))
        return Figure(value=value, low=None, high=None, reason=str(error), **common)
    return Figure(value=found.value, low=found.low, high=found.high, random_runs=found.random_runs, **common)


def figures(runs: Mapping[Run, Graded], metrics: Sequence[Metric]) -> tuple[Figure, ...]:
    """All metrics, headline first; the headline also without flagged answers, per turn and per category."""
    found = [figure(metric.name, values_of(runs, metric.name), metric) for metric in metrics]
    head = values_of(runs, metrics[0].name)
    turns = _names(grade.tags.get("turn", "") for grade in head.grades)
    categories = _names(grade.category for grade in head.grades)
    parts = [("unflagged", head.where(lambda g: FLAG not in g.tags))] if _flagged(head) else []
    parts += [(f"turn-{turn}", head.where(partial(_has_turn, turn))) for turn in turns]
    parts += [(category, head.where(partial(_has_category, category))) for category in categories]
    name = metrics[0].name
    return (*found, *(figure(f"{name}:{part}", of, metrics[0]) for part, of in parts if of.grades))


def _flagged(of: Values) -> bool:
    return any(FLAG in grade.tags for grade in of.grades)


def _has_turn(turn: str, grade: Grade) -> bool:
    return grade.tags.get("turn", "") == turn


def _has_category(category: str, grade: Grade) -> bool:
    return grade.category == category


def suite_figures(runs: Mapping[Run, Graded], known: Sequence[Figure]) -> tuple[tuple[Figure, ...], dict[str, float]]:
    """The suite's own figures (see `Suite.summarise`) with the intervals that it gives, and its plain counts.

    A figure that `known` has with an interval is left out. Of several runs, the mean is given with the widest interval.
    """
    n, missing = known[0].n, known[0].missing
    summaries = [graded.summary for graded in runs.values()]
    names = [name for name in summaries[0] if name not in {f.name for f in known} and not _is_end(name, summaries[0])]
    errors = [error for name, error in _ERRORS.items() if name in summaries[0]]
    counts = {name: _mean(summaries, name) for name in names if name.startswith("n_")}
    own = [name for name in names if name not in counts and name not in errors]
    made = tuple(_own(name, summaries, n, missing) for name in own)
    return made, {name: value for name, value in counts.items() if value is not None}


def _own(name: str, summaries: Sequence[Mapping[str, float | None]], n: int, missing: int) -> Figure:
    ends = [_ends(name, summary) for summary in summaries]
    whole = [end for end in ends if end is not None]
    value = _mean(summaries, name)
    counted = _mean(summaries, f"{name}.n")
    lost = [found for summary in summaries if (found := summary.get(f"{name}.missing")) is not None]
    complete = len(whole) == len(ends) and value is not None
    return Figure(
        name=name,
        value=value,
        low=min(low for low, _ in whole) if complete else None,
        high=max(high for _, high in whole) if complete else None,
        n=n if counted is None else round(counted),
        missing=round(sum(lost)) if lost else missing,
        unit="percent" if name.partition(":")[0].endswith(_UNITS) else "",
        origin="suite",
        reason="" if complete else "not available" if value is None else "the suite gives no interval to it",
        error=_mean(summaries, _ERRORS.get(name, "")),
    )


def _ends(name: str, summary: Mapping[str, float | None]) -> tuple[float, float] | None:
    value, low, high = (summary.get(key) for key in (name, f"{name}.low", f"{name}.high"))
    if low is not None and high is not None:
        return low, high
    error = summary.get(_ERRORS.get(name, ""))
    return None if value is None or error is None else (value - Z * error, value + Z * error)


def _is_end(name: str, summary: Mapping[str, float | None]) -> bool:
    """Whether a name is the end of another figure's interval, or its n."""
    base, _, part = name.rpartition(".")
    return part in ("low", "high", "n", "missing") and base in summary


def _mean(summaries: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    given = [value for summary in summaries if (value := summary.get(name)) is not None]
    return sum(given) / len(given) if len(given) == len(summaries) else None


def differences(
    sources: Mapping[str, Mapping[Run, Graded]], metrics: Sequence[Metric]
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Every source minus the first, for each metric; p-values corrected by Holm over the sources of a metric.

    Runs pair by their seeds where both sides have the same ones; else a side is the mean of its runs. The texts say
    which differences cannot be told, and why.

    Raises:
        CannotTell: two sources were graded on different items.
    """
    names = list(sources)
    found: list[Difference] = []
    untold: list[str] = []
    for metric in metrics:
        base = values_of(sources[names[0]], metric.name)
        paired = [sources[name].keys() == sources[names[0]].keys() for name in names]
        made = []
        for name, pairs in zip(names[1:], paired[1:], strict=True):
            one = _difference(name, names[0], values_of(sources[name], metric.name), base, metric, pairs)
            if isinstance(one, Difference):
                made.append(one)
            else:
                untold.append(f"no difference of {name} to {names[0]} in {metric.name}: {one}")
        for one, p in zip(made, holm([one.p for one in made]), strict=True):
            found.append(_judged(one, p))
    return tuple(found), tuple(untold)


def _difference(name: str, base: str, mine: Values, theirs: Values, metric: Metric, pairs: bool) -> Difference | str:
    """The difference, or why there is none."""
    if [g.id for g in mine.grades] != [g.id for g in theirs.grades]:
        raise CannotTell(f"{name} and {base} were graded on different items, so they cannot be compared")
    a, b = (mine.values, theirs.values) if pairs else (_over_runs(mine.values), _over_runs(theirs.values))
    try:
        found = difference(a, b, clusters=mine.clusters, bounds=metric.bounds)
    except CannotTell as error:
        return str(error)
    p, test = _exact(a.mean(axis=-1), b.mean(axis=-1), mine.clusters)
    return Difference(
        name=name,
        baseline=base,
        metric=metric.name,
        unit=metric.unit,
        value=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=found.p,
        exact=p,
        exact_test=test,
        n=len(set(mine.clusters)),
        missing=found.missing,
        runs=found.runs,
        verdict=CANNOT_TELL,
    )


def _judged(one: Difference, p: float) -> Difference:
    verdict = CANNOT_TELL if p >= ALPHA else HIGHER if one.value > 0 else LOWER
    return replace(one, p_holm=p, verdict=verdict)


def _exact(a: Floats, b: Floats, clusters: Sequence[str]) -> tuple[float | None, str | None]:
    """An exact paired test of one run each, that exchanges whole questions."""
    import numpy as np

    if len(a) != 1 or len(b) != 1 or np.isnan(a).any() or np.isnan(b).any():
        return None, None
    return paired_test(a[0], b[0], clusters=clusters)


def _over_runs(values: Floats) -> Floats:
    mean: Floats = values.mean(axis=0, keepdims=True)
    return mean


def _names(texts: Any) -> list[str]:
    """Distinct names in the order of appearance, none where there is only one."""
    found = [text for text in dict.fromkeys(texts) if text]
    return found if len(found) > 1 else []


def _repeats(grade: Grade, metric: str) -> tuple[float, ...]:
    """What each repeat of the judgement gave, or the value alone."""
    given = grade.repeats.get(metric) or (grade.values.get(metric),)
    return tuple(float("nan") if value is None else float(value) for value in given)
