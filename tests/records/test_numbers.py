"""Final answers compared as numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from harness.records.numbers import final_number, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 70.00", "70"),
        ("it is 2,125 dollars.", "2125"),
        ("= $1,234.50.", "1234.5"),
        ("16-3-4=9", "9"),
        ("x = -5", "-5"),
        ("= - 5", "-5"),
        ("loses $-5", "-5"),
        ("loses -$5", "-5"),
        ("−3", "-3"),
        ("10-15", "15"),
        ("9 - 4", "4"),
        ("1, 2", "2"),
        ("x .5", "0.5"),
        ("10%", "10"),
        ("- 4 apples", "4"),
        ("#### -1,200", "-1200"),
        ("#### $18\nThat leaves 3.", "18"),
        ("#### 7\n#### 9", "7"),
        ("#### Step 1: take 3\n#### Step 2\nThe answer is 24.", "24"),
        ("#### 18 dollars, of 20", "20"),
    ],
)
def test_final_number(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


def test_no_number_is_no_answer_and_a_gold_without_one_is_an_error() -> None:
    assert final_number("none") is None
    assert not same_number("none", "#### 3")
    with pytest.raises(ValueError, match="has no number"):
        same_number("3", "three")


def test_all_gsm8k_golds_are_read(real_data: Path) -> None:
    rows = [
        json.loads(line) for line in (real_data / "gsm8k/test.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    golds = [row["answer"].split("#### ")[1] for row in rows]
    assert len(golds) == 1319
    assert all(final_number(row["answer"]) == Decimal(g.replace(",", "")) for row, g in zip(rows, golds, strict=True))
    assert sum("," in g for g in golds) == 14
    assert all(
        same_number(f"So it is {g.replace(',', '')}.00", row["answer"]) for row, g in zip(rows, golds, strict=True)
    )
