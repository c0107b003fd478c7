"""The embedded world: tasks with known truth, two small models, an oracle and pools with planted defects."""

from __future__ import annotations

from pathlib import Path

MODELS = ("pocket/base", "pocket/chat")


def model_path(name: str) -> Path:
    """Folder of a shipped model.

    Args:
        name: `pocket/base` or `pocket/chat`.

    Raises:
        KeyError: for any other name.
    """
    if name not in MODELS:
        raise KeyError(name)
    return Path(__file__).parent / "models" / name.removeprefix("pocket/")
