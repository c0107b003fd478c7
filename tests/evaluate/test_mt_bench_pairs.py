"""MT-Bench against a baseline: FastChat's rule for its two games, guided prompts, and what the judge's order does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from suite_driver import drive, said

from harness.blocks.kinds import Ask, Context, Grade
from harness.blocks.prompts import load_pack
from harness.errors import UserError
from harness.evaluate import selfcheck
from harness.evaluate.mt_bench import MTBench
from harness.judges.rubric import Rubric

QUESTIONS = {81: "writing", 111: "math", 121: "coding"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))

    def answers(text: str, wanted: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"question_id": q, "choices": [{"turns": [f"{text} {q} one", f"{text} {q} two"]}]} for q in wanted]

    asked = [{"question_id": q, "category": c, "turns": [f"Q{q}", f"F{q}"]} for q, c in QUESTIONS.items()]
    write("question.jsonl", asked)
    write("base.jsonl", answers("base", (81, 111, 121)))
    write("reference.jsonl", answers("right", (111, 121)))
    return tmp_path


def suite(folder: Path, **options: Any) -> MTBench:
    files = {"questions": "question.jsonl", "baseline": "base.jsonl", "references": "reference.jsonl"}
    return MTBench(mode="pairwise", **{name: str(folder / file) for name, file in files.items()}, **options)


def judged(block: MTBench, says: Any, context: Context | None = None) -> tuple[list[Grade], list[str]]:
    items = block.items("test")
    seen: list[str] = []

    def say(ask: Ask) -> str:
        seen.append(ask.messages[-1]["content"])
        return str(says(seen[-1]))

    given = said(items, [(f"mine {item.id[9:]} one", f"mine {item.id[9:]} two") for item in items])
    pack = context or Context(prompts=load_pack("general").entries)
    return drive(block.grade(items, given, Rubric(), pack), say), seen


def mine_wins(prompt: str) -> str:
    return "[[A]]" if prompt.index("mine") < prompt.index("base") else "[[B]]"


def test_a_win_needs_both_orders(folder: Path) -> None:
    grades, seen = judged(suite(folder), mine_wins)
    assert [g.values["win"] for g in grades] == [1.0] * 6
    assert [g.id for g in grades][:2] == ["mt_bench/81/turn-1", "mt_bench/81/turn-2"]
    assert {g.cluster for g in grades} == {"mt_bench/81", "mt_bench/111", "mt_bench/121"}
    assert len(seen) == 12
    assert [g.values["length"] for g in grades[:2]] == [len("mine 81 one"), len("mine 81 two")]


def test_orders_that_disagree_are_a_tie_and_a_lost_game_is_missing(folder: Path) -> None:
    always_first, _ = judged(suite(folder), lambda _: "[[A]]")
    assert [g.values["win"] for g in always_first] == [0.5] * 6
    summary = suite(folder).summarise(always_first)
    assert (summary["tie_rate"], summary["win_rate"], summary["adjusted_win_rate"]) == (100, 0, 50)
    assert (summary["position:flips"], summary["position:first"]) == (1.0, 1.0)

    half_tied, _ = judged(suite(folder), lambda p: "[[C]]" if p.index("mine") < p.index("base") else "[[B]]")
    assert [g.values["win"] for g in half_tied] == [0.5] * 6, "a tie and a win disagree: FastChat calls that a tie"

    lost, _ = judged(suite(folder), lambda p: "neither" if p.index("mine") < p.index("base") else "[[B]]")
    assert [g.values["win"] for g in lost] == [None] * 6
    assert lost[0].missing == "the verdict cannot be read"
    summary = suite(folder).summarise(lost)
    assert (summary["win_rate"], summary["win_rate.missing"]) == (None, 6)


def test_rates_per_turn_and_category_have_intervals(folder: Path) -> None:
    def second_turns_tie(prompt: str) -> str:
        return "[[C]]" if any(f"{q} two" in prompt for q in QUESTIONS) else mine_wins(prompt)

    grades, _ = judged(suite(folder), second_turns_tie)
    summary = suite(folder).summarise(grades)
    assert (summary["win:turn-1"], summary["win:turn-2"], summary["win:math"]) == (1.0, 0.5, 0.75)
    for name in ("win_rate", "adjusted_win_rate", "win:turn-2", "win:math", "loss_rate"):
        low, value, high = (summary[f"{name}{end}"] for end in (".low", "", ".high"))
        assert low is not None
        assert value is not None
        assert high is not None
        assert low <= value <= high
    assert summary["win_rate.n"] == 6


def test_references_guide_math_and_coding_and_never_take_the_opponents_place(folder: Path) -> None:
    _, seen = judged(suite(folder), mine_wins)
    guided = [p for p in seen if "right" in p]
    assert len(guided) == 8
    assert not any("right 81" in p for p in seen)
    assert all("base" in p and "mine" in p for p in seen)


def test_fastchats_pair_prompts(real_data: Path, folder: Path) -> None:
    block = suite(folder, prompts=str(real_data / "mt_bench/judge_prompts.jsonl"))
    _, seen = judged(block, mine_wins, Context())
    first = seen[0]
    assert first == (
        "[User Question]\nQ81\n\n[The Start of Assistant A's Answer]\nbase 81 one\n[The End of Assistant A's Answer]"
        "\n\n[The Start of Assistant B's Answer]\nmine 81 one\n[The End of Assistant B's Answer]"
    )
    second = next(p for p in seen if "F111" in p)
    assert second.startswith(
        "<|The Start of Reference Answer|>\n\n### User:\nQ111\n\n### Reference answer:\nright 111 one"
    )
    assert "### Assistant B:\nmine 111 two" in second


def test_repeats_of_a_pair(folder: Path) -> None:
    says = iter(["[[A]]", "[[C]]", "[[B]]", "[[C]]"] * 6)  # per pair: two repeats of one order, then of the other
    grades, _ = judged(suite(folder, repeats=2), lambda _: next(says))
    assert grades[0].repeats == {"win": (0.0, 0.5)}
    assert grades[0].values["win"] == 0.25


def test_the_baseline_draws_with_itself(folder: Path) -> None:
    checks = {check.name: check for check in selfcheck(suite(folder))}
    assert (checks["gold"].value, checks["gold"].passed) == (0.5, True)


def test_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        MTBench(questions=str(folder / "question.jsonl"), mode="pairwise")
    with pytest.raises(ValidationError, match="belong together"):
        MTBench(questions=str(folder / "question.jsonl"), baseline=str(folder / "base.jsonl"))
    short = folder / "short.jsonl"
    short.write_text(json.dumps({"question_id": 81, "choices": [{"turns": ["a", "b"]}]}))
    block = MTBench(questions=str(folder / "question.jsonl"), mode="pairwise", baseline=str(short))
    with pytest.raises(UserError, match=r"`baseline` has no complete answer for mt_bench/111"):
        judged(block, mine_wins)
    short.write_text("{}")
    with pytest.raises(UserError, match=r"row 1 .option `baseline`., is not in FastChat's form"):
        judged(block, mine_wins)
