"""The check of training rows against the experiment's own suites, before every finetune.

One stage `leaks` looks (its artifact is a table of hits); under the policy `drop` a stage `clean` leaves the rows out.
Under `flag` nothing depends on the check, so neither a new suite nor a new option of it trains any model again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from harness.config.leaks import Leaks
from harness.config.model import Experiment
from harness.loop.job import Job, Result
from harness.loop.rowwork import save_rows
from harness.loop.stage import Input, Stage
from harness.records import hits
from harness.records.example import Dropped, Example
from harness.records.hashing import sha256
from harness.records.hits import HITS, Hit

SHOWN = 3
"""Examples of hits per suite in the report."""


@dataclass(frozen=True)
class Check:
    """What a stage `leaks` needs to know. `identity` stands for all of it, so one index serves many stages."""

    identity: str
    options: Leaks = field(compare=False)
    suites: Mapping[str, Any] = field(compare=False)
    """Name to suite block."""


def check_of(experiment: Experiment, content: Mapping[str, Mapping[str, str]]) -> tuple[Check, dict[str, Any]] | None:
    """The check of an experiment and its identity; None where nothing is looked for.

    Args:
        experiment: gives the options and the suites.
        content: suite and split to the identity of its items.
    """
    from harness.select.leaks import VERSION

    if experiment.leaks.policy == "allow" or not experiment.suites:
        return None
    options = experiment.leaks.model_dump(exclude={"policy"})
    suites = {
        s.name: {"block": s.block_name, "version": s.block.version, "options": _of_items(s.block)}
        | {"items": dict(content[s.name])}
        for s in experiment.suites
    }
    identity = {"version": VERSION, "options": options, "suites": suites}
    blocks = {s.name: s.block for s in experiment.suites}
    return Check(sha256(identity), experiment.leaks, blocks), {"leaks": identity}


def check_stage(check: Check, identity: Mapping[str, Any], rows: tuple[Input, ...], label: str) -> Stage:
    """The stage that compares rows with the suites' items."""
    return Stage(action="leaks", label=f"{label} leaks", inputs=rows, data=check, fingerprint=identity)


def clean_stage(check: Stage, label: str) -> Stage:
    """The stage that leaves out the rows that a check found."""
    return Stage(action="clean", label=f"{label} clean", inputs=check.inputs, leaks=check.key)


def _of_items(block: Any) -> dict[str, Any]:
    grading = getattr(block, "grading_options", ())
    return {name: value for name, value in block.identity_options().items() if name not in grading}


# --- what a worker does -----------------------------------------------------------------------------------------------
def look(job: Job) -> Result:
    """Compares; the report counts affected items and rows by suite and split."""
    looked = compare(job.stage.data, job.rows())
    hits.write(job.folder / HITS, looked.hits)
    return {"keep": (HITS,), "rows": looked.rows, "report": {"suites": looked.suites}}


@dataclass(frozen=True)
class Looked:
    """What a check found in so many rows. `suites`: counts and examples by suite and split, as JSON values."""

    rows: int
    hits: tuple[Hit, ...]
    suites: Mapping[str, Mapping[str, Mapping[str, Any]]]


def compare(check: Check, rows: Iterable[Example]) -> Looked:
    """Compares rows with the suites of a check, in batches."""
    checker, totals = _checker(check)
    seen = Counter[str]()

    def counted() -> Iterator[Example]:
        for row in rows:
            seen["rows"] += 1
            yield row

    found = tuple(checker.check(counted()))
    return Looked(seen["rows"], found, _counts(found, totals))


def check_dataset(name: str, suites: Sequence[str], settings: Sequence[str] = ()) -> tuple[Looked, dict[str, int]]:
    """Compares a dataset with suites, outside any experiment; also what was dropped while reading it, by reason.

    Args:
        name: of the dataset, or a path.
        suites: names or paths.
        settings: options of the check, such as `words=8`.

    Raises:
        UserError: rows that cannot be read, a suite or dataset that is not known, an option that is not right.
    """
    from harness import config
    from harness.blocks import registry
    from harness.records.sources import load

    options = config.load_leaks(settings)
    dataset = config.load_dataset(name, registry)
    blocks = {ref.name: ref.block for ref in (config.load_suite(one, registry) for one in suites)}
    dropped = Counter[str]()

    def rows() -> Iterator[Example]:
        for row in load(dataset):
            if isinstance(row, Dropped):
                dropped[row.reason] += 1
            else:
                yield row

    identity = sha256([list(suites), options.model_dump(), [b.identity_options() for b in blocks.values()]])
    looked = compare(Check(identity, options, blocks), rows())
    return looked, dict(dropped)


def clean(job: Job) -> Result:
    """Leaves out every row that holds an item, with the first such item's suite as the reason."""
    path = job.store.open("leaks", str(job.stage.leaks)) / HITS
    reasons: dict[str, str] = {}
    for hit in hits.read(path):
        reasons.setdefault(hit.row, f"{hit.split} item of {hit.suite}")
    none = next(iter(job.rows()), None) is None  # a round of self-play without a pair
    rows = (Dropped(row, reasons[row.id]) if row.id in reasons else row for row in job.rows())
    return save_rows(job, rows, empty=none)


@lru_cache(maxsize=1)
def _checker(check: Check) -> tuple[Any, dict[tuple[str, str], int]]:
    """The index, and the number of items by suite and split; stages that follow each other share it."""
    from harness.select.leaks import Checker, passages

    found = passages(check.suites)
    totals = Counter((suite, split) for suite, split, _ in {(p.suite, p.split, p.item) for p in found})
    return Checker(found, check.options), dict(totals)


def _counts(found: Sequence[Hit], totals: Mapping[tuple[str, str], int]) -> dict[str, dict[str, Any]]:
    by: dict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in found:
        by[hit.suite, hit.split].append(hit)
    report: dict[str, dict[str, Any]] = {}
    for (suite, split), items in totals.items():
        own = by[suite, split]
        report.setdefault(suite, {})[split] = {
            "items": items,
            "affected": len({hit.item for hit in own}),
            "rows": len({hit.row for hit in own}),
            "signs": dict(Counter(hit.sign for hit in own)),
            "examples": [f"{hit.row} holds {hit.item} ({hit.sign}): {hit.text}" for hit in own[:SHOWN]],
        }
    return report
