"""alpaca-eval's form of annotations: read back by the package and by replay, with nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from suite_driver import completion, drive, grades, said

from harness.blocks.kinds import Ask, Context
from harness.evaluate._annotations import annotation_rows
from harness.evaluate.pairwise import Pairwise
from harness.judges._alpaca_eval import quiet
from harness.judges.replay import Replay
from harness.judges.rubric import Rubric

CONTEXT = Context(prompts={"judge_pair": "{question}|{answer_a}|{answer_b}"})


@pytest.fixture
def suite(tmp_path: Path) -> Pairwise:
    file = tmp_path / "reference.json"
    file.write_text(
        json.dumps([{"instruction": f"task {i}", "output": f"ref {i}", "dataset": "koala"} for i in range(4)])
    )
    return Pairwise(path=str(file), orders="one")


def test_written_annotations_are_read_back(suite: Pairwise, tmp_path: Path) -> None:
    items = suite.items("test")
    answers = said(items, [("ref 0",), ("mine 1",), ("mine 2",), ()])

    def say(ask: Ask) -> object:
        text = ask.messages[-1]["content"]
        return completion(
            "hm" if text.startswith("task 2") else "[[A]]" if "|mine" in text.split("|ref")[0] else "[[B]]"
        )

    made = drive(suite.grade(items, answers, Rubric(), CONTEXT), say)
    rows = annotation_rows(items, answers, made, model="mine", reference="base", annotator="us")
    assert [row["preference"] for row in rows] == [1.5, 2.0, None], "an item without an answer has no row"
    assert {row["generator_2"] for row in rows} == {"mine"}
    assert rows[2]["raw_completion"]["text"] == "hm"

    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows))
    again = grades(suite, items, answers, Replay(path=str(file)))
    assert [g.values["win"] for g in again] == [g.values["win"] for g in made]
    with quiet():
        from alpaca_eval.metrics import get_winrate

        found = get_winrate(pd.DataFrame(rows).dropna(subset=["preference"]))
    summary = suite.summarise(made)
    assert (found["win_rate"], found["n_draws"]) == (summary["win_rate"], summary["n_draws"])
