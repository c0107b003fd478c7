"""What blocks count ends in the manifest, once, also where a stage was killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from harness.blocks.base import Block
from harness.blocks.kinds import (
    Columns,
    Context,
    Drop,
    Item,
    Made,
    PairBuilder,
    Reply,
    Request,
    Scorer,
    Selector,
    Synthesizer,
    TableScorer,
)
from harness.config.model import Dataset
from harness.loop import rowwork, scorework
from harness.records.example import Dropped, Example
from harness.tracking import points

from .test_columns import stages


class Copies(Synthesizer):
    name: ClassVar[str] = "copies"
    stops: ClassVar[list[str]] = []

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        for row in rows:
            context.count("seen")
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        yield from ()
        context.count("copied")
        if item.id in self.stops:
            self.stops.remove(item.id)
            raise KeyboardInterrupt
        return [item.row] if item.row is not None else Drop("no row")


class Rated(Scorer):
    name: ClassVar[str] = "rated"

    def columns(self) -> tuple[str, ...]:
        return ("rated",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        yield from ()
        context.count("not parsed", len(batch))
        return {"rated": [None] * len(batch)}


class Spread(TableScorer):
    name: ClassVar[str] = "spread"

    def columns(self) -> tuple[str, ...]:
        return ("spread",)

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        context.figure("entropy", 0.5)
        return {"spread": [1] * len(table)}


class Keeps(Selector):
    name: ClassVar[str] = "keeps"

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        context.count("kept", len(table))
        return [None] * len(table)


class Paired(PairBuilder):
    name: ClassVar[str] = "paired"

    def pair(self, rows: Iterable[Example], context: Context) -> Iterator[Example | Dropped]:
        yield from rows
        context.figure("distance", 2)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    for module in (rowwork, scorework):
        monkeypatch.setattr(module, "SHARD", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"say {n}", "completion": str(n)}) + "\n" for n in range(5)))
    return Dataset(name="rows", path=str(path))


@pytest.mark.parametrize(
    ("block", "report"),
    [
        (Copies(), {"counts": {"seen": 5, "copied": 5}}),
        (Rated(), {"counts": {"not parsed": 5}}),
        (Spread(), {"figures": {"entropy": 0.5}}),
        (Keeps(), {"counts": {"kept": 5}}),
        (Paired(), {"figures": {"distance": 2.0}}),
    ],
)
def test_every_kind_of_row_block_may_report(block: Block, report: Any, rows: Dataset, tmp_path: Path) -> None:
    store, done = stages(tmp_path, rows, block)
    manifest = store.manifest("rows", done[-1].key)
    assert manifest["report"] == report
    told = {point.key: point.value for point in points.rows("step", 3, manifest)}
    for name, value in report.get("counts", {}).items():
        assert told[f"data/step/count:{name}"] == value
    for name, value in report.get("figures", {}).items():
        assert told[f"data/step/{name}"] == value


def test_a_resumed_stage_counts_everything_once(rows: Dataset, tmp_path: Path) -> None:
    Copies.stops.append("rows/3")
    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path, rows, Copies())
    store, done = stages(tmp_path, rows, Copies())
    assert store.manifest("rows", done[-1].key)["report"] == {"counts": {"seen": 5, "copied": 5}}
