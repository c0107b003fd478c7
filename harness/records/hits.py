"""Which training rows hold which items of a suite, as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

HITS = "leaks.parquet"


@dataclass(frozen=True)
class Hit:
    """One item in one row. `share`: of the passage's words that lie in a shared run, or the similarity (0..1).

    `text` is the first shared run of words, or the beginning of the row's turn.
    """

    row: str
    suite: str
    split: str
    item: str
    sign: str
    share: float
    text: str


def write(path: Path, hits: Iterable[Hit]) -> int:
    """Writes the hits; returns their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(f.name, pa.float64() if f.name == "share" else pa.string()) for f in fields(Hit)])
    rows = [asdict(hit) for hit in hits]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
    return len(rows)


def read(path: Path) -> Iterator[Hit]:
    """The hits in the order of the rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from (Hit(**row) for row in batch.to_pylist())


def frame(path: Path) -> pd.DataFrame:
    """The hits as pandas, columns as the fields of `Hit`."""
    import pandas as pd

    result: pd.DataFrame = pd.read_parquet(path)
    return result
