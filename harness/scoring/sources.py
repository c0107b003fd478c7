"""What is scored: files of answers, or answers that an experiment stored, aligned with a suite's items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.blocks.kinds import Answer
from harness.errors import CannotTell, Problem
from harness.records.hashing import file_sha256
from harness.scoring.align import Items
from harness.scoring.forms import OutputsFile, read_outputs
from harness.scoring.rowfile import BadOutputs
from harness.scoring.stored import Run, read_stored
from harness.store.home import Home


@dataclass(frozen=True, kw_only=True)
class Source:
    """Answers to be scored. A file is one run; an experiment's recipe has one per training seed and data draw."""

    name: str
    where: str
    written: str
    """As it was asked for: one name may stand for several students."""
    form: str
    runs: Mapping[Run, tuple[Answer, ...]]
    sha256: str | None = None
    model: str | None = None
    """The one model that the file names, if it does."""
    notes: tuple[str, ...] = ()

    @property
    def answered(self) -> int:
        """Answers that are there, over all runs."""
        return sum(bool(answer.outputs) for answers in self.runs.values() for answer in answers)


def read_sources(written: Sequence[str], items: Items, suite: str, split: str, home: Home) -> list[Source]:
    """All sources, aligned. Mistakes of all files are told together.

    Raises:
        BadOutputs: files with mistakes.
        CannotTell: a source answers none of the items.
        UserError, CannotTell: an experiment without such answers (see `read_stored`).
    """
    problems: list[Problem] = []
    found: list[Source] = []
    for text in written:
        path = Path(text).expanduser()
        if path.is_file():
            file = read_outputs(path, problems)
            if file is not None:
                found.append(_of_file(text, file, items, problems))
        elif "/" in text and not path.suffix and home.grid_file(text.partition("/")[0]).is_file():
            found += _of_experiment(text, items, suite, split, home)
        else:
            problems.append(Problem(_nowhere(text, path, home)))
    if problems:
        raise BadOutputs(problems)
    for source in found:
        if not source.answered:
            raise CannotTell(f"{source.where} answers none of the {len(items.items):,} items: nothing was measured")
    return _named(found)


def _of_file(text: str, file: OutputsFile, items: Items, problems: list[Problem]) -> Source:
    aligned = items.aligned(file, problems)
    stem = file.path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return Source(
        name=file.models[0] if len(file.models) == 1 else stem,
        where=str(file.path),
        written=text,
        form=file.form,
        runs={(0, 0): aligned.answers},
        sha256=file_sha256(file.path),
        model=file.models[0] if len(file.models) == 1 else None,
        notes=(*file.notes, *aligned.notes),
    )


def _of_experiment(text: str, items: Items, suite: str, split: str, home: Home) -> list[Source]:
    return [
        Source(
            name=name,
            where=name,
            written=text,
            form=f"stored answers of iteration {stored.iteration}, graded as v{stored.version} then",
            runs=stored.runs,
            notes=stored.notes,
        )
        for name, stored in read_stored(home, text, suite, split, items.items).items()
    ]


def _nowhere(text: str, path: Path, home: Home) -> str:
    if path.is_dir():
        return f"{text} is a folder: name a file of answers, or EXPERIMENT/RECIPE"
    return f"there is no file {text}, and no experiment of that name (EXPERIMENT/RECIPE) was run in {home.path}"


def _named(sources: Sequence[Source]) -> list[Source]:
    """Names that differ: files of the same name or model are called by their paths."""
    names = [source.name for source in sources]
    return [s if names.count(s.name) == 1 else replace(s, name=s.where) for s in sources]
