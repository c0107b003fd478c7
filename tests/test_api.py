"""The names that the package offers."""

from __future__ import annotations

import pytest

import harness


def test_the_public_names_are_as_listed() -> None:
    assert harness.__all__ == ["__version__", "compare", "items", "load", "plan", "run", "score"]
    assert all(callable(getattr(harness, name)) for name in harness.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'sythesize'"):
        _ = harness.sythesize
