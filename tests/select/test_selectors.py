"""What all selectors promise."""

from __future__ import annotations

from typing import Any

import pytest

from harness.blocks.kinds import Selector
from harness.select.dedup import Dedup
from harness.select.first import First
from harness.select.sample import Sample
from harness.select.threshold import Threshold
from harness.select.top import Top


@pytest.mark.parametrize(
    "block", [Top(by="x", keep=1), Threshold(by="x", min=1), First(), Sample(keep=1), Dedup(near=0.8)]
)
def test_no_rows_give_no_decisions(block: Selector, select: Any) -> None:
    assert select(block, x=[], prompt=[]) == []
