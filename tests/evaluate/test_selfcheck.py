"""Every shipped suite proves itself, and a broken one is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Suite
from harness.errors import UserError
from harness.evaluate import selfcheck
from harness.evaluate.lm_eval import LMEval
from harness.evaluate.mt_bench import MTBench
from harness.evaluate.pairwise import Pairwise
from harness.evaluate.pocket import Pocket


def values(suite: Suite) -> dict[str, tuple[float | None, bool]]:
    return {check.name: (check.value, check.passed) for check in selfcheck(suite)}


@pytest.mark.parametrize("turns", [1, 2])
def test_pocket(turns: Any) -> None:
    checks = selfcheck(Pocket(count=80, turns=turns))
    assert [check.name for check in checks] == ["gold", "empty", "shuffled"]
    assert all(check.passed for check in checks), checks
    assert checks[0].value == 1.0
    assert checks[0].n == 80 * turns
    assert "ORACLE" in checks[0].judge


def test_gsm8k(real_data: Path) -> None:
    checks = selfcheck(
        LMEval(task="gsm8k", test_path=str(real_data / "gsm8k/test.jsonl"), fewshot=0, headline="strict-match")
    )
    assert [(check.n, check.passed) for check in checks] == [(1319, True)] * 3
    assert checks[0].value == 1.0


def test_alpaca_eval_and_mt_bench_with_the_stand_in(real_data: Path) -> None:
    win = values(Pairwise(path=str(real_data / "alpaca_eval/reference_outputs/gpt4_1106_preview.json.gz"), limit=100))
    assert win["gold"] == (0.5, True)
    assert all(passed for _, passed in win.values())
    folder = real_data / "mt_bench"
    suite = MTBench(questions=str(folder / "question.jsonl"), references=str(folder / "reference_answer_gpt-4.jsonl"))
    assert all(passed for _, passed in values(suite).values())
    assert all("STAND-IN" in check.judge for check in selfcheck(suite))


def test_a_suite_whose_extraction_is_broken_is_found_out(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(20)]
    file = tmp_path / "test.json"
    file.write_text(json.dumps(rows))
    wrong = [
        {
            "name": "strict-match",
            "filter": [{"function": "regex", "regex_pattern": "Answer: (.*)"}, {"function": "take_first"}],
        }
    ]
    suite = LMEval(task="gsm8k", test_path=str(file), fewshot=0, config={"filter_list": wrong})
    assert values(suite)["gold"] == (0.0, False)


def test_choices_have_gold_and_empty_answers(tmp_path: Path) -> None:
    file = tmp_path / "test.json"
    file.write_text(json.dumps([{"q": f"{i}", "c": ["a", "b"], "a": i % 2} for i in range(6)]))
    task = tmp_path / "t.yaml"
    task.write_text(
        "task: t\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text: q\ndoc_to_choice: c\ndoc_to_target: a\n"
    )
    assert values(LMEval(task=str(task), test_path=str(file))) == {
        "gold": (1.0, True),
        "empty": (0.0, True),
        "shuffled": (0.0, True),
    }


def test_without_gold_answers_nothing_is_proved(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question_id": 1, "turns": ["a"]}\n{"question_id": 2, "turns": ["b"]}')
    with pytest.raises(UserError, match="nothing to check it with"):
        selfcheck(MTBench(questions=str(file)))
