"""Rows that flow into a stage: whole tables, random shares, disjoint slices, concatenated in the order named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.loop.stage import Input
from harness.records import table
from harness.records.example import Example
from harness.store.artifacts import Store

if TYPE_CHECKING:
    import pandas as pd

ROWS = "rows.parquet"
DROPPED = "dropped.parquet"


def load(store: Store, inputs: Sequence[Input]) -> Iterator[Example]:
    """Examples of all inputs, in order, one batch in memory at a time."""
    for source in inputs:
        path = store.open(source.kind, source.key) / ROWS
        chosen = _chosen(path, source)
        for index, row in enumerate(table.read(path)):
            if chosen is None or index in chosen:
                yield row


def load_frame(store: Store, inputs: Sequence[Input], columns: Sequence[str]) -> pd.DataFrame:
    """The same rows as `load`, chosen columns only.

    Raises:
        UserError: a column that the rows do not have, such as a score that no step before gave.
    """
    import pandas as pd

    frames = []
    for source in inputs:
        path = store.open(source.kind, source.key) / ROWS
        try:
            frame = table.frame(path, columns)
        except KeyError as error:
            raise UserError(f"{error.args[0]}. Put the step that scores it before this one") from error
        chosen = _chosen(path, source)
        frames.append(frame if chosen is None else frame.iloc[sorted(chosen)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def _chosen(path: Path, source: Input) -> set[int] | None:
    """Row numbers that a share or slice takes, by the hash of seed and row id: file order does not matter."""
    if source.share is None and source.slice is None:
        return None
    ids = table.frame(path, ["id"])["id"]
    order = sorted(
        range(len(ids)), key=lambda i: hashlib.sha256(f"{source.seed}/{source.key}/{ids.iloc[i]}".encode()).digest()
    )
    if source.slice is not None:
        index, of = source.slice
        order = order[index * len(order) // of : (index + 1) * len(order) // of]
    if source.share is not None:
        order = order[: round(source.share * len(order))]
    return set(order)
