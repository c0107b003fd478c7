"""Files of prompts and of answers to compare with: one answer to each question, in the form that is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.evaluate.arena_hard import ArenaHard
from harness.evaluate.mt_bench import MTBench


def lines(file: Path, *rows: Any) -> str:
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


def answered(turns: Any, name: Any = 1) -> dict[str, Any]:
    return {"question_id": name, "choices": [{"turns": turns}]}


@pytest.mark.parametrize(("rows", "message"), [
    ([answered("abc")], "`turns` should be a list of texts"),
    ([answered(["a", None])], "`turns` should be a list of texts"),
    ([answered(["a", "b"], [1])], "`question_id` a number or a text"),
    ([answered(["a", "b"]), answered(["c", "d"])], "row 2 (option `baseline`): a second answer to question 1"),
])  # fmt: skip
def test_answers_of_a_baseline_in_fastchats_form(tmp_path: Path, rows: list[Any], message: str) -> None:
    questions = lines(tmp_path / "q.jsonl", {"question_id": 1, "category": "math", "turns": ["a?", "b?"]})
    suite = MTBench(questions=questions, mode="pairwise", baseline=lines(tmp_path / "b.jsonl", *rows))
    with pytest.raises(UserError) as caught:
        suite.gold(suite.items("test")[0])
    assert message in str(caught.value)


ONE = {"question_id": "q", "turns": [{"content": "a?"}]}
SAID = {"question_id": "q", "output": "a"}


@pytest.mark.parametrize(("question", "answers", "message"), [
    (ONE | {"turns": ["a?"]}, [SAID], "prompt 1: it needs `question_id` and `turns`"),
    (ONE | {"turns": "a"}, [SAID], "prompt 1: it needs `question_id` and `turns`"),
    (ONE | {"question_id": ["q"]}, [SAID], "prompt 1: it needs `question_id` and `turns`"),
    (ONE, [SAID, SAID], "row 2: a second answer to q"),
    (ONE, [{"output": "a"}], "row 1: `question_id` should be a number or a text, not None"),
])  # fmt: skip
def test_prompts_and_answers_in_arena_hards_form(
    tmp_path: Path, question: dict[str, Any], answers: list[Any], message: str
) -> None:
    suite = ArenaHard(
        questions=lines(tmp_path / "q.jsonl", question),
        baseline="base",
        answers=lines(tmp_path / "a.jsonl", *answers),
    )
    with pytest.raises(UserError) as caught:
        suite.items("test")
    assert message in str(caught.value)
