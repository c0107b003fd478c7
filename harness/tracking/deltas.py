"""The comparison with the baseline, as metrics of the parent run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis.grid import Grid
from harness.errors import CannotTell
from harness.tracking.points import Point, bounded, safe, safe_names

if TYPE_CHECKING:
    from harness.analysis.claim_result import Claims
    from harness.analysis.result import ArmResult, Comparison, SuiteResult
    from harness.stats import Difference, Estimate


@dataclass(frozen=True)
class Found:
    """The comparison as a JSON document, and what it was made from (None where it cannot be made)."""

    document: Mapping[str, Any]
    result: Comparison | None = None
    claims: Claims | None = None
    """What became of the experiment's claims, where it makes some."""

    def points(self, time: int) -> list[Point]:
        """`delta/<suite>/<metric>/<recipe>` with `.low .high .n .runs .missing .p_holm`, at the last iteration.

        `score/<suite>/<metric>/<recipe>` is the recipe's score over its seeds, with the same parts. `:not_flagged` and
        `:not_leaked` are the same without suspect answers or items seen in training. `claim/<id>` with `.low .high
        .p_holm` is what was measured for a claim.

        With several students, the student's role is appended. `time` is unix milliseconds.
        """
        if self.result is None:
            return []
        claims = () if self.claims is None else _claims(self.claims, time, self.result.iterations)
        return [*_points(self.result, time), *claims]

    def note(self) -> str:
        """The comparison as Markdown: the description of the parent run."""
        if self.result is None:
            return f"No comparison: {self.document['cannot_tell']}"
        results = () if self.claims is None else self.claims.results
        lines = [f"- **{one.verdict}** {one.id}: {one.text}" for one in results]
        return "\n\n".join([*map(_suite_note, self.result.suites), *(["\n".join(lines)] if lines else [])])


def comparison(grid: Grid) -> Found:
    """Compares what is graded on the test split; where nothing can be said, the document says why."""
    from harness.analysis.claims import read_claims
    from harness.analysis.compare import compare
    from harness.analysis.items import read_items

    try:
        result = compare(read_items(grid), grid)
    except CannotTell as error:
        return Found({"cannot_tell": str(error)})
    if not grid.resolved.get("claims"):
        return Found(result.to_json(), result)
    claims = read_claims(grid)
    return Found(result.to_json() | {"claims": claims.to_json()}, result, claims)


def _claims(claims: Claims, time: int, step: int) -> Iterator[Point]:
    names = safe_names(tuple(one.id for one in claims.results))
    for one in claims.results:
        if one.value is not None:
            key = f"claim/{names[one.id]}"
            yield from bounded(key, one.value, one.low, one.high, time, step)
            if one.p_holm is not None:
                yield Point(f"{key}.p_holm", one.p_holm, time, step)


def _points(result: Comparison, time: int) -> Iterator[Point]:
    names = safe_names(result.recipes)
    for suite in result.suites:
        tail = f"/{safe(suite.student)}" if len(result.students) > 1 else ""
        for arm in suite.arms:
            key = f"{safe(f'delta/{suite.suite}/{suite.metric}')}/{names[arm.recipe]}{tail}"
            score = "score" + key.removeprefix("delta")
            if arm.score is not None:
                yield from _arm(score, arm.score, time, result.iterations)
            if arm.difference is not None:
                yield from _arm(key, arm.difference, time, result.iterations)
                if arm.p_holm is not None:
                    yield Point(f"{key}.p_holm", arm.p_holm, time, result.iterations)
            for what, found in arm.without.items():
                if found.score is not None:
                    yield from _arm(f"{score}:not_{what}", found.score, time, result.iterations)
                if found.difference is not None:
                    yield from _arm(f"{key}:not_{what}", found.difference, time, result.iterations)


def _arm(key: str, found: Estimate | Difference, time: int, step: int) -> Iterator[Point]:
    """The score or difference with its interval, the number of items and runs behind it, and the missing grades."""
    yield from bounded(key, found.value, found.low, found.high, time, step)
    for name, count in (("n", found.n), ("runs", found.runs), ("missing", found.missing)):
        yield Point(f"{key}.{name}", float(count), time, step)


def _suite_note(suite: SuiteResult) -> str:
    judge = f", {suite.label}" if suite.label else ""
    student = f"student {suite.student}; {suite.scope}"
    size = f"{suite.items:,} items, {suite.missing:,} grades missing"
    head = f"**{suite.suite}** v{suite.version}, {suite.split} split, {size}{judge}; {student}"
    columns = ("recipe", suite.metric, f"vs {suite.baseline}", "p Holm", "verdict")
    lines = [_row(columns), _row("---" for _ in columns), *(_arm_note(arm) for arm in suite.arms)]
    return head + "\n\n" + "\n".join(lines)


def _arm_note(arm: ArmResult) -> str:
    p = "" if arm.p_holm is None else f"{arm.p_holm:.3f}"
    return _row((arm.recipe, _span(arm.score, ""), _span(arm.difference, "+"), p, arm.words))


def _span(given: Estimate | Difference | None, sign: str) -> str:
    return "" if given is None else f"{given.value:{sign}.3g} [{given.low:{sign}.3g}, {given.high:{sign}.3g}]"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
