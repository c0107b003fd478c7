"""`threshold`: limits and their reasons."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.select.threshold import Threshold


def test_threshold(select: Any) -> None:
    scores = [0.79, 0.8, 1.0, None]
    assert select(Threshold(by="prefer", min=0.8), prefer=scores) == ["prefer < 0.8", None, None, "prefer missing"]
    assert select(Threshold(by="prefer", above=0.8), prefer=scores)[1] == "prefer <= 0.8"
    assert select(Threshold(by="x", below=1, min=0), x=[-1, 0, 0.5, 1]) == ["x < 0", None, None, "x >= 1"]
    assert select(Threshold(by="x", max=1), x=[1, 2]) == [None, "x > 1"]


def test_threshold_needs_a_limit() -> None:
    with pytest.raises(ValidationError, match="at least one of below, above, max, min"):
        Threshold(by="x")
