"""What the judge is shown is FastChat's own prompt, character by character, for every recorded judgement."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from suite_driver import drive, said

from harness.blocks import registry
from harness.blocks.kinds import Ask, Context
from harness.config.single import load_suite
from harness.judges._tasks import source_id
from harness.judges.rubric import Rubric
from harness.records import datafile


@pytest.mark.parametrize(("model", "mean"), [("llama2_7b", 3.968750), ("llama2_chat_7b", 6.190625)])
def test_every_recorded_prompt_is_rendered_and_regraded(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, model: str, mean: float
) -> None:
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    suite = load_suite("mt-bench", registry).block
    folder = real_data / "mt_bench"
    answers = {
        row["question_id"]: row["choices"][0]["turns"]
        for row in datafile.rows(str(folder / f"model_answer/{model}.jsonl.gz"), "answers")
    }
    recorded: dict[Any, Any] = {
        (row["question_id"], row["turn"]): row
        for row in datafile.rows(str(folder / f"model_judgment/{model}_gpt-4_single.jsonl.gz"), "judgements")
    }
    systems = {
        row["name"]: row["system_prompt"] for row in datafile.rows(str(folder / "judge_prompts.jsonl"), "prompts")
    }
    items = suite.items("test")
    order = iter([(source_id(item), turn) for item in items for turn in (1, 2)])
    same = []

    def say(ask: Ask) -> str:
        row = recorded[next(order)]
        system, user = ask.messages
        same.append((system["content"], user["content"]) == (systems[row["judge"][1]], row["user_prompt"]))
        assert (ask.sampling.temperature, ask.sampling.max_tokens) == (0.0, 2048)
        return str(row["judgment"])

    given = said(items, [answers[source_id(item)] for item in items])
    grades = drive(suite.grade(items, given, Rubric(), Context()), say)
    assert (len(same), sum(same)) == (160, 160)
    assert fmean(grade.values["score"] for grade in grades) == mean
    assert [grade.values["score"] for grade in grades] == [
        recorded[source_id(item), turn]["score"] for item in items for turn in (1, 2)
    ]
