"""Pools of chat rows with planted defects whose ids are known.

Every row carries `tags.defect`, so each scorer has an AUROC and each recipe a measurable claim without human labels.
The defects are what real pools have; they were not tuned to favour any method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from harness.pocket.answers import STYLES, corrupted, off_format, truncated
from harness.pocket.chats import message
from harness.pocket.forms import Turn
from harness.pocket.oracle import grade
from harness.pocket.world import CATEGORIES, draw, questions

DEFECTS: tuple[str, ...] = (
    "wrong", "swapped", "truncated", "duplicate", "near_duplicate", "off_format", "leaked",
)  # fmt: skip
"""wrong: the asked form, another content · swapped: the right answer to another question · truncated: cut at 30–70 % ·
duplicate: an earlier row again · near_duplicate: an earlier row with `please` before the question · off_format: right,
in another form · leaked: a test question with its right answer."""
ANSWER_DEFECTS: tuple[str, ...] = ("wrong", "swapped", "truncated", "off_format")
"""Defects that make the answer worse; the others make a row superfluous or forbidden."""
_LEAKABLE = 400


def rows(
    count: int,
    seed: int,
    defects: Mapping[str, float] | None = None,
    turns: int = 1,
    second_turns: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """Draw a pool.

    The clean content of row k does not depend on `defects`: pools of one seed with different defects ask the same
    questions, except where a row repeats an earlier one or leaks a test item.

    Args:
        count: Number of rows.
        seed: Seed of the pool.
        defects: Defect -> share of the rows, together at most 1. None plants nothing.
        turns: Turns of every row, 1 or 2.
        second_turns: With `turns` 1, the share of rows that have a second turn all the same.

    Yields:
        Rows with `id`, `messages`, `group` (rows that ask the same share it) and `tags` (category, leaf, defect, `of`:
        the id of the repeated row or None).

    Raises:
        ValueError: for an unknown defect, or shares that are negative or exceed 1.
    """
    shares = dict(defects or {})
    unknown = sorted(set(shares) - set(DEFECTS))
    if unknown:
        raise ValueError(f"unknown defect {unknown[0]!r}; known: {', '.join(DEFECTS)}")
    if any(share < 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"defect shares must be at least 0 and add up to at most 1, got {shares}")
    leaked = _leaked(shares)
    originals: list[dict[str, Any]] = []
    for k in range(count):
        rng = Random(f"pocket/pool/{seed}/{k}")
        drawn = draw(
            rng, CATEGORIES[k % len(CATEGORIES)], turns + (rng.random() < second_turns and turns == 1), "train"
        )
        defect = _planted(Random(f"pocket/pool/{seed}/{k}/defect"), shares)
        if defect in ("duplicate", "near_duplicate") and not originals:
            defect = None
        row = _row(f"pocket/pool/{seed}/{k}", drawn, defect, rng, leaked, originals)
        if defect is None:
            originals.append(row)
        yield row


def _planted(rng: Random, shares: Mapping[str, float]) -> str | None:
    point = rng.random()
    for name in DEFECTS:
        point -= shares.get(name, 0.0)
        if point < 0:
            return name
    return None


def _leaked(shares: Mapping[str, float]) -> list[tuple[Turn, ...]]:
    return [q.turns for q in questions("test", _LEAKABLE)] if shares.get("leaked") else []


def _row(
    name: str,
    drawn: tuple[Turn, ...],
    defect: str | None,
    rng: Random,
    leaked: list[tuple[Turn, ...]],
    originals: list[dict[str, Any]],
) -> dict[str, Any]:
    if defect in ("duplicate", "near_duplicate"):
        return _repeated(name, rng.choice(originals), defect)
    if defect == "leaked":
        drawn = rng.choice(leaked)
    said = [turn.reference for turn in drawn]
    if defect in ANSWER_DEFECTS:
        said[-1] = spoiled(drawn[-1], defect, rng)
    messages = [
        part
        for turn, text in zip(drawn, said, strict=True)
        for part in (message("user", turn.user), message("assistant", text))
    ]
    truth = drawn[0].truth
    tags = {"category": truth["category"], "leaf": truth["leaf"], "defect": defect, "of": None}
    return {"id": name, "messages": messages, "group": drawn[0].user, "tags": tags}


def _repeated(name: str, row: dict[str, Any], defect: str) -> dict[str, Any]:
    first, *rest = row["messages"]
    if defect == "near_duplicate":
        first = message("user", f"please {first['content']}")
    tags = {**row["tags"], "defect": defect, "of": row["id"]}
    return {"id": name, "messages": [first, *map(dict, rest)], "group": first["content"], "tags": tags}


def spoiled(turn: Turn, defect: str, rng: Random) -> str:
    """The answer to `turn` with one of `ANSWER_DEFECTS`."""
    if defect == "wrong":
        return corrupted(turn.truth, turn.reference, rng)
    if defect == "truncated":
        while True:  # a cut that leaves the whole content standing is no defect worth the name
            text = truncated(turn.reference, rng)
            if not grade(turn.truth, text).correct:
                return text
    if defect == "off_format":
        return off_format(turn.truth, turn.reference, rng.choice(STYLES))
    while True:
        other = draw(rng, rng.choice(CATEGORIES), split="train")[0]
        if other.truth["answer"] != turn.truth["answer"]:
            return other.reference
