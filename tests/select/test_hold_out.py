"""`hold_out` leaves out exactly the prompts that rounds of preference training hold out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.blocks.kinds import Context
from harness.finetune._rounds import HeldOut
from harness.records.example import Example, Message, Origin
from harness.records.table import frame_of
from harness.select.gold_vs_self import GoldVsSelf
from harness.select.hold_out import HoldOut

SHARE = "20%"


def pool(count: int = 200) -> list[Example]:
    return [
        Example(
            id=f"pool/{n}",
            messages=(Message(role="user", content=f"ask {n}"), Message(role="assistant", content=f"gold {n}")),
        )
        for n in range(count)
    ]


def answered(rows: Iterable[Example], iteration: int) -> Iterator[Example]:
    """What `respond` leaves: the same prompt and group, a new id, the answer of the model."""
    for row in rows:
        yield replace(
            row,
            id=f"{row.id}/{iteration}",
            group=row.group or row.id,
            messages=(*row.prompt, Message(role="assistant", content=f"own {iteration}")),
            fields={"parent_answer": row.answer},
            origin=Origin(block="respond", parents=(row.id,), iteration=iteration),
        )


def prompts(rows: Sequence[Example]) -> set[str]:
    return {row.messages[0]["content"] for row in rows}


def test_both_arms_learn_from_the_same_prompts_in_every_round() -> None:
    block, rows = HoldOut.model_validate({"share": SHARE}), pool()
    decisions = block.select(frame_of(rows, ["id", "group"]), Context(seed=3, iteration=2))
    kept = [row for row, reason in zip(rows, decisions, strict=True) if reason is None]
    assert set(decisions) == {None, "held out"}
    assert 20 <= len(rows) - len(kept) <= 60
    for iteration in (2, 3):
        made = GoldVsSelf().pair(answered(rows, iteration), Context())
        pairs = [row for row in made if isinstance(row, Example)]
        assert len(pairs) == len(rows)
        split = HeldOut(block.share)
        assert prompts(list(split.trained(iter(pairs)))) == prompts(kept)
