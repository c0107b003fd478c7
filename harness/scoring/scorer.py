"""From a suite and answers to a `Scoring`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.blocks.kinds import Answer, EvalItem, Metric
from harness.config.model import Model, SuiteRef
from harness.errors import CannotTell, UserError
from harness.judges.replay import Replay
from harness.scoring.align import Items
from harness.scoring.figures import differences
from harness.scoring.judging import Graded, Judging, grade, judging, recorded_judges
from harness.scoring.report import source_result, suite_facts, versions
from harness.scoring.result import Difference, Scoring
from harness.scoring.sources import Source, read_sources
from harness.scoring.stored import Run
from harness.store.home import Home

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
    asked = dict(zip(outputs, _judges(ref, judge, verdicts, len(outputs)), strict=True))
    items = Items(ref.block, split)
    sources = read_sources(outputs, items, ref.name, split, home)
    judges = [asked[source.written] for source in sources]
    desk = Desk(ref=ref, split=split, home=home, threads=threads, progress=progress)
    graded = {source.name: desk.graded(source, by) for source, by in zip(sources, judges, strict=True)}
    return Done(
        scoring=_scoring(desk, sources, judges, graded, items.items),
        graded=graded,
        items=items.items,
        answers={source.name: source.runs for source in sources},
    )


def _judges(ref: SuiteRef, judge: Model | None, verdicts: Sequence[str], outputs: int) -> list[Judging]:
    """Who judges each source: one for all, or one file of recorded verdicts for each."""
    first = judging(ref, judge, verdicts[0] if verdicts else None)
    return [first if len(verdicts) < 2 else judging(ref, judge, verdicts[i]) for i in range(outputs)]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where answers are graded: the suite, its split, and how."""

    ref: SuiteRef
    split: str
    home: Home
    threads: int
    progress: Progress

    def graded(self, source: Source, by: Judging) -> dict[Run, Graded]:
        """The grades of a source, run by run.

        Raises:
            CannotTell: none could be had.
        """
        own = _for_model(self.ref, source, by)

        def told(done: int, total: int) -> None:
            self.progress(source.name, done, total)

        found = {
            run: grade(
                own, self.split, answers, by, label=source.name, home=self.home, threads=self.threads, progress=told
            )
            for run, answers in source.runs.items()
        }
        _check_graded(source, found, self.ref.block.metrics()[0].name)
        return found


def _scoring(
    desk: Desk,
    sources: Sequence[Source],
    judges: Sequence[Judging],
    graded: Mapping[str, Mapping[Run, Graded]],
    items: Sequence[EvalItem],
) -> Scoring:
    ref = desk.ref
    compared, notes = _compared(sources, judges, graded, ref.block.metrics())
    return Scoring(
        suite=suite_facts(ref, desk.split, judges[0], len(items)),
        versions=versions(ref),
        sources=tuple(source_result(s, graded[s.name], ref, by, items) for s, by in zip(sources, judges, strict=True)),
        differences=compared,
        notes=notes,
    )


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
