"""What is told of a suite and of each source: figures, counts, what is missing, and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.blocks.kinds import EvalItem, Grade, Metric
from harness.config.model import SuiteRef
from harness.judges.replay import Replay
from harness.scoring.figures import FLAG, figures, suite_figures
from harness.scoring.judging import Graded, Judging, other_references
from harness.scoring.result import SourceResult, SuiteFacts
from harness.scoring.sensitivity import length_sensitivity
from harness.scoring.sources import Source
from harness.scoring.stored import Run

PACKAGES: Mapping[str, tuple[str, ...]] = {"lm_eval": ("lm_eval",), "pairwise": ("alpaca_eval",)}
"""Suite block to the packages that compute its figures: another version of one may compute others."""


def suite_facts(ref: SuiteRef, split: str, by: Judging, items: int) -> SuiteFacts:
    """What gives the figures of a suite their meaning, judged by the first source's judge."""
    return SuiteFacts(
        name=ref.name,
        block=ref.block_name,
        version=ref.block.version,
        scorer=ref.block.scorer,
        split=split,
        items=items,
        fingerprint=ref.block.fingerprint(split),
        options=ref.block.identity_options(),
        label=by.label,
        stand_in=by.judge is not None and by.judge.stand_in,
        real=ref.block_name != "pocket",
        notes=tuple(ref.block.notes()),
    )


def versions(ref: SuiteRef) -> dict[str, str]:
    """Of loopbench and of the packages that compute the suite's figures."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("loopbench", *PACKAGES.get(ref.block_name, ())):
        try:
            found[name.replace("_", "-")] = version(name)
        except PackageNotFoundError:
            found[name.replace("_", "-")] = "not installed"
    return found


def source_result(
    source: Source, runs: Mapping[Run, Graded], ref: SuiteRef, by: Judging, items: Sequence[EvalItem]
) -> SourceResult:
    """Everything that is told of one source."""
    means = figures(runs, ref.block.metrics())
    own, counts = suite_figures(runs, means)
    if ref.block.needs_judge() and not any(figure.name.startswith("length:") for figure in own):
        own = (*own, *length_sensitivity(runs, source.runs, ref.block.metrics()))
    grades = [grade for graded in runs.values() for grade in graded.grades]
    cost: Counter[str] = Counter()
    for graded in runs.values():
        cost.update({name: count for name, count in graded.cost.items() if name != "judged_tokens" or by.model})
    return SourceResult(
        name=source.name,
        where=source.where,
        form=source.form,
        sha256=source.sha256,
        runs=len(runs),
        figures=(*means, *own),
        counts=_hits(runs, ref.block.metrics()) | counts,
        missing=_missing(grades),
        flagged=_flags(grades),
        judge=by.facts(),
        cost=dict(cost),
        notes=(*source.notes, *_about_references(source, by, items)),
    )


def _about_references(source: Source, by: Judging, items: Sequence[EvalItem]) -> tuple[str, ...]:
    """Recorded verdicts against other texts than the suite's references: what became of them."""
    if not isinstance(by.judge, Replay):
        return ()
    others = sum(other_references(by.judge, items, answers) for answers in source.runs.values())
    if not others:
        return ()
    if by.judge.any_reference:
        return (f"{others:,} recorded verdicts are against another text by the reference's model than the suite holds",)
    how = f"{{judge: replay, options: {{path: {by.judge.path}, any_reference: true}}}}"
    return (f"verdicts against another reference text count with --judge '{how}' instead of --verdicts",)


def _hits(runs: Mapping[Run, Graded], metrics: Sequence[Metric]) -> dict[str, float]:
    """How many items each metric of rights and wrongs counts as right, where there is one run."""
    if len(runs) > 1:
        return {}
    (graded,) = runs.values()
    return {m.name: float(sum(g.values.get(m.name) == 1 for g in graded.grades)) for m in metrics if m.binary}


def _missing(grades: Sequence[Grade]) -> dict[str, int]:
    return dict(Counter(grade.missing for grade in grades if grade.missing).most_common())


def _flags(grades: Sequence[Grade]) -> dict[str, int]:
    """Flagged questions by kind of flag; an answer may have several."""
    found = {(name.strip(), g.item) for g in grades if FLAG in g.tags for name in g.tags[FLAG].split(",")}
    return dict(Counter(name for name, _ in sorted(found)).most_common())
