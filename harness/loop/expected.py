"""How many rows a stage will give, before it has run: what a source says of itself, and what options keep or multiply.

Unknown is unknown: a file's rows are not counted when planning (`rows:` says how many there are), and what follows from
an unknown number is unknown too. The leaves of a taxonomy are read, because a plan reads its files anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.loop.stage import Input, Stage
from harness.records.example import Example
from harness.records.values import Amount


class Expected:
    """Rows per stage; stages are asked for parents first. `rows` may be given those of stages that are done."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = stages
        self.rows: dict[str, int | None] = {}
        self._read: dict[str, tuple[Example, ...] | None] = {}
        self._leaves: dict[str, Mapping[str, int] | None] = {}

    def of(self, stage: Stage) -> int | None:
        """Rows of a stage that has not run; None where they cannot be known yet."""
        if stage.action == "answer":
            return _items(stage)
        if stage.action == "grade":
            return self.rows.get(str(stage.answers))
        if stage.action == "source":
            return self._source(stage)
        return self._made(stage) if stage.action == "synthesize" else self._kept(stage)

    def _source(self, stage: Stage) -> int | None:
        limit = stage.data.rows or stage.data.options.get("rows")
        if limit:
            return int(limit)
        found = self._examples(stage.key)
        return None if found is None else len(found)

    def _made(self, stage: Stage) -> int | None:
        block: Any = stage.block
        if hasattr(block, "expects_by_leaf"):
            by_leaf = self._by_leaf(stage)
            return None if by_leaf is None else sum(by_leaf.values()) or None
        if (expects := getattr(block, "expects", None)) is not None:
            total = self._given(stage.inputs)
            expected: int | None = None if total is None else expects(total, len(self._names(stage.inputs)) or None)
            return expected
        rows = block.model_dump().get("rows")
        return rows if isinstance(rows, int) else self._given(stage.inputs)

    def _kept(self, stage: Stage) -> int | None:
        total, block = self._given(stage.inputs), stage.block
        if total is None or stage.action != "select":
            return total
        if (expects := getattr(block, "expects", None)) is not None:
            return int(expects(total))
        keep = getattr(block, "keep", None)
        return keep.of(total) if isinstance(keep, Amount) else total

    def _given(self, inputs: Iterable[Input]) -> int | None:
        """Rows that come in, after slices and shares."""
        total = 0
        for source in inputs:
            given = self.rows.get(source.key)
            if given is None:
                return None
            part = given if source.slice is None else given // source.slice[1]
            total += part if source.share is None else round(part * source.share)
        return total

    # --- taxonomies ---------------------------------------------------------------------------------------------------
    def _by_leaf(self, stage: Stage) -> Mapping[str, int] | None:
        """Rows that a stage writes for each leaf of the taxonomy that it reads; None where it reads something else."""
        if stage.key not in self._leaves:
            block: Any = stage.block
            read = [self._examples(source.key) for source in stage.inputs]
            rows = [row for part in read for row in part or ()]
            self._leaves[stage.key] = None if None in read or not rows else block.expects_by_leaf(rows)
        return self._leaves[stage.key]

    def _names(self, inputs: Iterable[Input]) -> set[str]:
        """The leaves among the rows of some stages: those that the synthesis before them wrote for."""
        names: set[str] = set()
        for source in inputs:
            stage = self.stages[source.key]
            if hasattr(stage.block, "expects_by_leaf"):
                names |= {leaf for leaf, count in (self._by_leaf(stage) or {}).items() if count}
            elif stage.action == "source":
                names |= {str(row.tags.get("leaf")) for row in self._examples(stage.key) or ()}
            else:
                names |= self._names(stage.inputs)
        return names

    def _examples(self, key: str) -> tuple[Example, ...] | None:
        """The rows of a taxonomy that is here; None of any other source, and of one that cannot be read."""
        if key not in self._read:
            stage = self.stages[key]
            here = stage.action == "source" and stage.data.kind == "taxonomy" and stage.data.url is None
            self._read[key] = _taxonomy(stage.data) if here and Path(stage.data.path or "").exists() else None
        return self._read[key]


def _taxonomy(dataset: Any) -> tuple[Example, ...] | None:
    from harness.records.sources import load

    try:
        return tuple(row for row in load(dataset) if isinstance(row, Example))
    except UserError:  # the run says what is wrong with it; a forecast fails nothing
        return None


def _items(stage: Stage) -> int | None:
    """Items of a suite's split, where it says so cheaply."""
    count = getattr(stage.block, "count", None)
    if stage.split == "dev":
        count = getattr(stage.block, "dev_count", None) or count
    return count if isinstance(count, int) else None
