"""Where real data files are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data files: LOOPBENCH_SHARED_DATA, or `../shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LOOPBENCH_SHARED_DATA", beside))
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no public data files in {folder}: set LOOPBENCH_SHARED_DATA to the folder that holds them")
    return folder
