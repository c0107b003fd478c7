"""What stages that score and that select read of all rows: the columns that their block needs, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.loop import inputs
from harness.loop.inputs import DROPPED, ROWS
from harness.loop.job import Job
from harness.records.columns import VECTOR

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KEEP_ROWS = (ROWS, DROPPED)


def whole(job: Job, needs: Sequence[str]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """What a block reads of all rows: a frame of plain columns, and vectors by name."""
    frame = inputs.load_frame(job.store, job.stage.inputs, plain(needs))
    names = [name.removeprefix(VECTOR) for name in needs if name.startswith(VECTOR)]
    found = {
        name: inputs.vectors(job.store, job.stage.inputs, f"{VECTOR}{name}", job.folder / f"vectors-{number}.npy")
        for number, name in enumerate(names)
    }
    return frame, found


def plain(needs: Sequence[str]) -> list[str]:
    """What a frame has: id, group and the plain columns that are needed."""
    return list(dict.fromkeys(("id", "group", *(name for name in needs if not name.startswith(VECTOR)))))
