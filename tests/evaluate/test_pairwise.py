"""Pairwise win rate: order, draws, missing verdicts, and alpaca-eval's own statistics."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from suite_driver import drive, grades, said

from harness.blocks.kinds import Ask, Context
from harness.errors import UserError
from harness.evaluate.pairwise import Pairwise
from harness.judges.replay import Replay
from harness.judges.rubric import Rubric
from harness.judges.stand_in import StandIn

CONTEXT = Context(prompts={"judge_pair": "{question}|{answer_a}|{answer_b}"})


@pytest.fixture
def path(tmp_path: Path) -> str:
    rows = [
        {"instruction": f"task {i}", "output": f"reference {i}", "dataset": "koala", "generator": "r"} for i in range(4)
    ]
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps(rows))
    return str(file)


def judged(suite: Pairwise, outputs: list[str], says: Callable[[str], str]) -> tuple[Any, list[str]]:
    items, prompts = suite.items("test"), []

    def say(ask: Ask) -> str:
        prompts.append(ask.messages[-1]["content"])
        return says(prompts[-1])

    given = drive(suite.grade(items, said(items, [(text,) for text in outputs]), Rubric(), CONTEXT), say)
    return given, prompts


def better(prompt: str) -> str:
    """A judge that prefers any answer to a reference."""
    _, first, _ = prompt.split("|")
    return "[[B]]" if first.startswith("reference") else "[[A]]"


def test_identical_outputs_draw_and_are_not_judged(path: str) -> None:
    given, prompts = judged(Pairwise(path=path, orders="one"), ["reference 0", "mine", "mine", "mine"], better)
    assert [g.values["win"] for g in given] == [0.5, 1.0, 1.0, 1.0]
    assert len(prompts) == 3
    assert given[0].judge_text == "identical outputs"


def test_both_orders_are_averaged_so_a_judge_that_likes_the_first_draws(path: str) -> None:
    suite = Pairwise(path=path)
    given, prompts = judged(suite, ["mine"] * 4, lambda _: "[[A]]")
    assert len(prompts) == 8
    assert [g.values["win"] for g in given] == [0.5] * 4
    one, _ = judged(Pairwise(path=path, orders="one"), ["mine"] * 4, lambda _: "[[A]]")
    assert {g.values["win"] for g in one} <= {0.0, 1.0}


def test_a_verdict_that_cannot_be_read_is_missing_not_a_draw(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    given, _ = judged(suite, ["mine"] * 4, lambda p: "hm" if p.startswith("task 2") else better(p))
    assert [g.values["win"] for g in given] == [1.0, 1.0, None, 1.0]
    assert given[2].missing == "the verdict cannot be read"
    assert suite.summarise(given)["n_total"] == 3


def test_a_missing_verdict_widens_the_interval_and_one_order_alone_does_not_count(path: str) -> None:
    suite = Pairwise(path=path)
    given, _ = judged(suite, ["mine"] * 4, lambda p: "hm" if p.startswith("task 2|mine") else better(p))
    assert [g.values["win"] for g in given] == [1.0, 1.0, None, 1.0]
    summary = suite.summarise(given)
    assert (summary["win_rate"], summary["win_rate.n"], summary["win_rate.missing"]) == (100, 4, 1)
    assert summary["win_rate.low"] < 35  # type: ignore[operator]


def test_the_judges_sensitivity_to_order_and_length(path: str) -> None:
    suite = Pairwise(path=path)
    # the judge likes the first shown, but for task 0, where it likes the longer
    given, _ = judged(
        suite, ["mine is longer", "mine", "mine", "mine"], lambda p: better(p) if p.startswith("task 0") else "[[A]]"
    )
    summary = suite.summarise(given)
    assert summary["position:flips"] == 0.75
    assert summary["position:first"] == (3 * 1 + 0.5) / 4
    assert summary["length:longer"] == 1.0
    assert summary["length:shorter"] == 0.5
    assert summary["length:prefers_longer"] == (1 + 3 * 0.5) / 4
    assert (summary["position:flips.n"], summary["length:longer.n"]) == (4, 1)
    assert summary["position:flips.low"] < 0.75 < summary["position:flips.high"]  # type: ignore[operator]


def test_one_order_knows_of_no_flips(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    summary = suite.summarise(judged(suite, ["mine"] * 4, better)[0])
    assert "position:flips" not in summary
    assert summary["position:first.n"] == 4


def test_repeats_measure_the_judges_noise(path: str) -> None:
    suite = Pairwise(path=path, orders="one", repeats=2)
    seen: list[int] = []

    def moody(prompt: str) -> str:
        seen.append(1)
        return better(prompt) if len(seen) % 2 else "[[C]]"

    given, prompts = judged(suite, ["mine"] * 4, moody)
    assert len(prompts) == 8
    assert given[0].repeats == {"win": (1.0, 0.5)}
    assert given[0].values["win"] == 0.75


def test_flagged_answers_are_counted_and_left_out_beside_the_figure(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    given, _ = judged(suite, ["reference 0", "mine", "mine", "mine"], better)
    tagged = [replace(g, tags={**g.tags, "flag": "constant"}) if g.values["win"] == 1 else g for g in given]
    summary = suite.summarise(tagged)
    assert (summary["n_flagged"], summary["win_rate"], summary["win_rate:unflagged"]) == (3, 87.5, 50)
    assert "n_flagged" not in suite.summarise(given)


def test_an_item_without_an_answer_is_missing(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    items = suite.items("test")
    given = grades(suite, items, said(items, [(), ("a b",), ("",), ("c",)]), StandIn())
    assert given[0].values == {"win": None, "length": None}
    assert given[0].missing == "no answer"
    assert given[2].values["length"] == 0
    assert given[2].missing is None


def test_summary_is_alpaca_evals_and_says_what_is_not_available(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    given, _ = judged(
        suite, ["reference 0", "mine", "mine", "mine!"], lambda p: "[[C]]" if p.startswith("task 3") else better(p)
    )
    level = logging.getLogger().level
    summary = suite.summarise(given)
    assert logging.getLogger().level == level
    assert summary["win_rate"] == 75.0
    assert (summary["n_wins"], summary["n_draws"], summary["n_total"]) == (2, 2, 4)
    assert summary["standard_error"] == pytest.approx(14.4338, abs=1e-4)
    assert summary["avg_length"] == 6.0
    assert summary["length_controlled_winrate"] is None
    assert "length-controlled win rate: not available" in suite.notes()[0]


def test_nothing_graded_gives_no_figure(path: str) -> None:
    suite = Pairwise(path=path)
    given = grades(suite, suite.items("test"), said(suite.items("test"), [()] * 4), StandIn())
    summary = suite.summarise(given)
    assert (summary["win_rate"], summary["win_rate.missing"]) == (None, 4)
    assert summary["length_controlled_winrate"] is None


def test_the_judge_may_change_without_a_new_answer(path: str) -> None:
    assert set(Pairwise.grading_options) >= {"orders", "difficulty_path"}
    assert "path" not in Pairwise(path=path).identity_options()


def test_mistakes_are_named(path: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text('[{"instruction": "a"}]')
    with pytest.raises(UserError, match="entry 0: it needs the texts"):
        Pairwise(path=str(file)).items("test")
    with pytest.raises(ValidationError, match="difficulty_path too"):
        Pairwise(path=path, regulariser_path=path)


def test_length_control_needs_difficulties_of_the_same_instructions(path: str, tmp_path: Path) -> None:
    table = tmp_path / "difficulty.csv"
    table.write_text("index,instruction_difficulty\n0,0.5\n")
    suite = Pairwise(path=path, orders="one", difficulty_path=str(table))
    given, _ = judged(suite, ["mine"] * 4, better)
    with pytest.raises(UserError, match="instruction 1 has no difficulty"):
        suite.summarise(given)


def test_a_recorded_preference_is_one_verdict_though_both_orders_are_wanted(path: str, tmp_path: Path) -> None:
    """Read once per order it would agree with itself: no flips, and no leaning to the first, whatever the judge did."""
    suite = Pairwise(path=path)
    items = suite.items("test")
    rows = [
        {"instruction": i.turns[0], "output_1": i.reference[0], "output_2": "mine", "preference": 1.8} for i in items
    ]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows))
    made = grades(suite, items, said(items, [("mine",)] * 4), Replay(path=str(file)))
    summary = suite.summarise(made)
    assert summary["win_rate"] == pytest.approx(80)
    assert "position:flips" not in summary
    assert summary["position:first.n"] == 4


def test_lengths_count_where_a_verdict_is_missing(path: str) -> None:
    suite = Pairwise(path=path, orders="one")
    given, _ = judged(suite, ["a" * 10, "b" * 10, "c" * 10, "d" * 50], lambda p: "?" if "d" * 50 in p else "[[A]]")
    summary = suite.summarise(given)
    assert (summary["avg_length"], summary["avg_length.n"], summary["avg_length.missing"]) == (20, 4, 0)
    assert (summary["win_rate.n"], summary["win_rate.missing"]) == (4, 1)
