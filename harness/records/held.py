"""Prompts that are kept out of training, the same in every round, seed and recipe."""

from __future__ import annotations

from typing import Any

from harness.records.hashing import seed_of


def held_out(prompt: Any, share: float) -> bool:
    """True for about `share` of all prompts. `prompt` names one: the group of its rows, answers and rewrites."""
    return seed_of("held out of preference training", prompt) % 10_000 < round(share * 10_000)
