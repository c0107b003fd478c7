"""The forms of training data: detected from their columns, converted without loss."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.formats import BadRow, convert, detect

Row = dict[str, Any]
ROWS: dict[str, Row] = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
}
QA = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize("form", ROWS)
def test_each_form_is_detected_and_says_the_same(form: str) -> None:
    assert detect([ROWS[form]]) == form
    example = convert(ROWS[form], form, "x/0")
    assert list(example.messages) == QA
    assert example.rejected == ("b" if form == "preference" else None)


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"conversations": QA}, "messages"),
        ({"prompt": "q", "response": "a"}, "prompt_completion"),
        ({"question": "q", "answer": "a"}, "prompt_completion"),
        ({"prompt": QA[:1], "completion": QA[1:]}, "prompt_completion"),
        ({"prompt": QA[:1], "chosen": QA[1:], "rejected": [{"role": "assistant", "content": "b"}]}, "preference"),
        ({"chosen": QA, "rejected": [QA[0], {"role": "assistant", "content": "b"}]}, "preference"),
        ({"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'}, "messages"),
    ],
)
def test_variants(row: Row, form: str) -> None:
    assert detect([row]) == form
    assert list(convert(row, form, "x/0").messages) == QA


def test_alpaca_keeps_its_columns_and_joins_the_input() -> None:
    example = convert({"instruction": "Sort.", "input": "b a", "output": "a b", "n": 3}, "alpaca", "x/0")
    assert example.prompt[0]["content"] == "Sort.\n\nb a"
    assert example.fields == {"instruction": "Sort.", "input": "b a", "output": "a b", "n": 3}


def test_a_system_turn_is_kept() -> None:
    example = convert({"system": "Be brief.", "prompt": "q", "completion": "a"}, "prompt_completion", "x/0")
    assert [m["role"] for m in example.messages] == ["system", "user", "assistant"]


def test_no_answer_is_not_an_empty_answer() -> None:
    assert convert({"instruction": "q", "output": "  "}, "alpaca", "x/0").answer is None


def test_tags_and_scores_of_our_own_rows_come_back() -> None:
    row = {
        **ROWS["messages"],
        "tags": {"category": "math", "defect": None},
        "scores": {"ifd": 0.5, "odd": float("nan")},
    }
    example = convert(row, "messages", "x/0")
    assert example.tags == {"category": "math", "defect": None}
    assert example.scores == {"ifd": 0.5, "odd": None}


def test_an_unknown_form_is_not_guessed() -> None:
    assert detect([{"text": "q"}]) is None
    assert detect([ROWS["alpaca"], ROWS["messages"]]) is None
    assert detect([]) is None


@pytest.mark.parametrize(
    ("row", "form", "reason"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "a message has the role 'tool'"),
        ({"messages": [{"role": "user", "content": None}]}, "messages", "a user message has no text"),
        ({"messages": []}, "messages", "no messages"),
        ({"messages": "q"}, "messages", "the messages are no list"),
        ({"instruction": "", "output": "a"}, "alpaca", "instruction is empty"),
        ({"instruction": 3, "output": "a"}, "alpaca", "instruction is no text"),
        (
            {"chosen": QA, "rejected": [{"role": "user", "content": "z"}, QA[1]]},
            "preference",
            "chosen and rejected do not",
        ),
        ({"chosen": "a", "rejected": "b"}, "preference", "prompt is empty"),
    ],
)
def test_a_row_that_is_not_of_its_form_says_why(row: Row, form: str, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        convert(row, form, "x/0")
