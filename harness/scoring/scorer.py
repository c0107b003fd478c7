"""From a suite and answers to a `Scoring`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.blocks.kinds import Answer, EvalItem, Grade, Metric
from harness.config.model import Model, SuiteRef
from harness.errors import CannotTell, UserError
from harness.judges.replay import Replay
from harness.scoring.align import Items
from harness.scoring.figures import FLAG, differences, figures, suite_figures
from harness.scoring.judging import Graded, Judging, grade, judging, other_references, recorded_judges
from harness.scoring.result import Difference, Scoring, SourceResult, SuiteFacts
from harness.scoring.sensitivity import length_sensitivity
from harness.scoring.sources import Source, read_sources
from harness.scoring.stored import Run
from harness.store.home import Home

PACKAGES: Mapping[str, tuple[str, ...]] = {"lm_eval": ("lm_eval",), "pairwise": ("alpaca_eval",)}
"""Suite block to the packages that compute its figures: another version of one may compute others."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A scoring with what is behind it: by source and run the answers, in the order of the items, and their grades."""

    scoring: Scoring
    graded: Mapping[str, Mapping[Run, Graded]]
    items: Sequence[EvalItem]
    answers: Mapping[str, Mapping[Run, Sequence[Answer]]]


def score(
    ref: SuiteRef,
    outputs: Sequence[str],
    *,
    verdicts: Sequence[str] = (),
    judge: Model | None = None,
    split: str = "test",
    home: Home | None = None,
    threads: int = 1,
    progress: Progress = lambda name, done, total: None,
) -> Done:
    """Scores files of answers, or answers that experiments stored, and compares each with the first.

    Args:
        ref: the suite.
        outputs: paths of files (see `harness.scoring.forms`), or `EXPERIMENT/RECIPE`.
        verdicts: recorded verdicts to replay: one file for all outputs, or one for each.
        judge: the judge to ask instead of the suite's own.
        split: of the suite.
        home: where experiments are stored, and new verdicts of judge models (None: `Home.find()`).
        threads: of a local judge model.
        progress: called with a source's name, grades done and grades in all.

    Raises:
        BadOutputs: mistakes in the files, all at once.
        UserError: a suite without the split or without a judge, verdicts that do not pair with the outputs.
        CannotTell: nothing could be graded.
    """
    _check(ref, outputs, verdicts, split)
    home = home or Home.find()
    by = judging(ref, judge, verdicts[0] if verdicts else None)
    judges = [by if len(verdicts) < 2 else judging(ref, judge, verdicts[i]) for i in range(len(outputs))]
    items = Items(ref.block, split)
    sources = read_sources(outputs, items, ref.name, split, home)
    metrics = ref.block.metrics()
    graded: dict[str, dict[Run, Graded]] = {}
    for source, mine in zip(sources, judges, strict=True):
        own = _for_model(ref, source, mine)
        graded[source.name] = {
            run: grade(
                own,
                split,
                answers,
                mine,
                label=source.name,
                home=home,
                threads=threads,
                progress=lambda done, total, name=source.name: progress(name, done, total),  # type: ignore[misc]
            )
            for run, answers in source.runs.items()
        }
        _check_graded(source, graded[source.name], metrics[0].name)
    compared, notes = _compared(sources, judges, graded, metrics)
    scoring = Scoring(
        suite=_facts(ref, split, by, len(items.items)),
        versions=_versions(ref),
        sources=tuple(
            _result(s, graded[s.name], ref, mine, items.items) for s, mine in zip(sources, judges, strict=True)
        ),
        differences=compared,
        notes=notes,
    )
    answers = {source.name: source.runs for source in sources}
    return Done(scoring=scoring, graded=graded, items=items.items, answers=answers)


def _compared(
    sources: Sequence[Source],
    judges: Sequence[Judging],
    graded: Mapping[str, Mapping[Run, Graded]],
    metrics: Sequence[Metric],
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Differences to the first source, but for those whose recorded verdicts another judge gave."""
    apart = any(by is not judges[0] for by in judges)
    named = [recorded_judges(by.judge) if apart else frozenset() for by in judges]
    unlike = {s.name: own for s, own in zip(sources, named, strict=True) if own and named[0] and own != named[0]}
    notes = tuple(
        f"no difference of {name} to {sources[0].name}: unlike judges are not compared (judge is "
        f"{', '.join(sorted(own))}, there {', '.join(sorted(named[0]))})"
        for name, own in unlike.items()
    )
    like = {name: runs for name, runs in graded.items() if name not in unlike}
    found, untold = differences(like, metrics) if len(like) > 1 else ((), ())
    return found, (*notes, *untold)


def _for_model(ref: SuiteRef, source: Source, by: Judging) -> SuiteRef:
    """The suite with what was published about the model, where its recorded verdicts are replayed."""
    if source.model is None or not isinstance(by.judge, Replay):
        return ref
    return replace(ref, block=ref.block.for_model(source.model))


def _check(ref: SuiteRef, outputs: Sequence[str], verdicts: Sequence[str], split: str) -> None:
    if split not in ref.block.splits():
        raise UserError(f"the suite {ref.name} has no {split!r} split; its splits: {', '.join(ref.block.splits())}")
    twice = next((text for text in outputs if outputs.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"--outputs {twice} is given twice")
    if len(verdicts) > 1 and len(verdicts) != len(outputs):
        raise UserError(
            f"{len(verdicts)} files of verdicts for {len(outputs)} of outputs: name one for all, or one each, in order"
        )


def _check_graded(source: Source, runs: Mapping[Run, Graded], headline: str) -> None:
    """Nothing measured is no result: with all grades missing, the reasons are the answer."""
    grades = [g for graded in runs.values() for g in graded.grades]
    if any(grade.values.get(headline) is not None for grade in grades):
        return
    reasons = Counter(g.missing or "no reason given" for g in grades)
    why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    raise CannotTell(f"{source.where}: none of {len(grades):,} grades could be had ({why}), so there is no score")


def _facts(ref: SuiteRef, split: str, by: Judging, items: int) -> SuiteFacts:
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


def _versions(ref: SuiteRef) -> dict[str, str]:
    """Of loopbench and of the packages that compute the suite's figures."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("loopbench", *PACKAGES.get(ref.block_name, ())):
        try:
            found[name.replace("_", "-")] = version(name)
        except PackageNotFoundError:
            found[name.replace("_", "-")] = "not installed"
    return found


def _result(
    source: Source, runs: Mapping[Run, Graded], ref: SuiteRef, by: Judging, items: Sequence[EvalItem]
) -> SourceResult:
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
