"""Arena-Hard: weights of strong verdicts, both orders, Bradley-Terry, style control and its intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from suite_driver import drive, grades, said

from harness.blocks.kinds import Ask, Context, Grade
from harness.errors import UserError
from harness.evaluate import selfcheck
from harness.evaluate._style import Battle, Style, controlled, style
from harness.evaluate.arena_hard import ArenaHard
from harness.judges.arena import Arena
from harness.judges.replay import Replay
from harness.judges.stand_in import StandIn
from harness.records import datafile

CONTEXT = Context(prompts={"judge_arena": "{question}|{answer_a}|{answer_b}", "judge_arena_again": "?"})
FLIP = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}
Says = Callable[[int, bool], str]
"""The verdict on a prompt's number, seen with the reference as A; True where the answer is shown first."""


def suite(folder: Path, n: int = 4, reference: Callable[[int], str] = "base {}".format, **options: Any) -> ArenaHard:
    questions, answers = folder / "question.jsonl", folder / "base.jsonl"
    questions.write_text(
        "\n".join(json.dumps({"question_id": f"q{i}", "turns": [{"content": f"task {i}"}]}) for i in range(n))
    )
    rows = [
        {"question_id": f"q{i}", "model_id": "base", "choices": [{"turns": [{"content": reference(i)}]}]}
        for i in range(n)
    ]
    answers.write_text("\n".join(json.dumps(row) for row in rows))
    return ArenaHard(questions=str(questions), baseline="base", answers=str(answers), **options)


def judged(arena: ArenaHard, says: Says, outputs: Sequence[str] | None = None, **options: Any) -> list[Grade]:
    items = arena.items("test")
    texts = outputs or [f"mine {i}" for i in range(len(items))]

    def say(ask: Ask) -> str:
        task, first, _ = ask.messages[1 if ask.messages[0]["role"] == "system" else 0]["content"].split("|", 2)
        number = int(task.removeprefix("task "))
        swapped = first == texts[number]
        verdict = says(number, swapped)
        return f"[[{FLIP.get(verdict, verdict) if swapped else verdict}]]"

    made: list[Grade] = drive(arena.grade(items, said(items, [(t,) for t in texts]), Arena(**options), CONTEXT), say)
    return made


def test_a_strong_verdict_counts_three_times(tmp_path: Path) -> None:
    arena = suite(tmp_path)
    # 0: strong win and weak win; 1: strong loss twice; 2: tie and weak win; 3: weak loss and strong win
    table = {(0, False): "B>>A", (0, True): "B>A", (1, False): "A>>B", (1, True): "A>>B"} | {
        (2, False): "A=B", (2, True): "B>A", (3, False): "A>B", (3, True): "B>>A"
    }  # fmt: skip
    made = judged(arena, lambda i, swapped: table[i, swapped])
    assert [g.values["win"] for g in made] == [1.0, 0.0, 0.75, 0.75]
    summary = arena.summarise(made)
    assert summary["win_rate"] == pytest.approx(100 * (4 + 0 + 1.5 + 3) / (4 + 6 + 2 + 4))
    assert (summary["win_rate.n"], summary["win_rate.missing"]) == (4, 0)
    assert summary["position:flips"] == 0.5, "2 (tie, win) and 3 (loss, win)"
    once = arena.model_copy(update={"strong_weight": 1.0})
    assert once.summarise(judged(once, lambda i, s: table[i, s]))["win_rate"] == pytest.approx(100 * 4.5 / 8)


def random_says(seed: int, win: float) -> Says:
    def says(number: int, swapped: bool) -> str:
        own = Random(f"{seed} {number}").random() < win
        return Random(f"{seed} {number} {swapped}").choice(["A=B", "B>A", "B>>A"] if own else ["A=B", "A>B", "A>>B"])

    return says


def test_the_win_rate_is_bradley_terrys(tmp_path: Path) -> None:
    """arena-hard-auto's own way: every battle as often as it counts, a tie as half a win, a model of strengths."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    arena = suite(tmp_path, 60)
    made = judged(arena, random_says(3, 0.3))
    rows: list[float] = []
    for grade in made:
        for part in grade.tags["shown"].split("; "):
            win = float(part.rpartition(" ")[2].removesuffix("!"))
            rows += [win] * (3 if part.endswith("!") else 1)
    labels = np.array([1.0 if w == 1 else 0.0 for w in rows] + [1.0 if w > 0 else 0.0 for w in rows])
    design = np.full((len(labels), 1), math.log(10))
    fitted = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-8).fit(design, labels)
    strength = 400 * fitted.coef_[0][0]
    summary = arena.summarise(made)
    assert summary["win_rate"] == pytest.approx(100 / (1 + 10 ** (-strength / 400)), abs=0.01)
    low, high = summary["win_rate.low"], summary["win_rate.high"]
    assert low is not None
    assert high is not None
    assert 5 < high - low < 35


def test_a_prompt_with_one_unreadable_order_is_missing_and_widens_the_interval(tmp_path: Path) -> None:
    arena = suite(tmp_path, 20)
    whole = arena.summarise(judged(arena, random_says(5, 0.5)))
    made = judged(arena, lambda i, s: "?" if (i, s) == (0, True) else random_says(5, 0.5)(i, s), attempts=1)
    assert (made[0].values["win"], made[0].missing) == (None, "the verdict cannot be read")
    summary = arena.summarise(made)
    assert summary["win_rate.missing"] == 1
    assert summary["win_rate.low"] < whole["win_rate.low"]  # type: ignore[operator]
    assert summary["win_rate.high"] > whole["win_rate.high"]  # type: ignore[operator]


def test_verdicts_that_are_all_alike_still_leave_room_for_doubt(tmp_path: Path) -> None:
    arena = suite(tmp_path, 10)
    summary = arena.summarise(judged(arena, lambda *_: "B>>A"))
    assert summary["win_rate"] == 100
    assert summary["win_rate.low"] < 80  # type: ignore[operator]
    assert summary["style_controlled_win_rate"] is None


def test_identical_outputs_draw_without_a_judge(tmp_path: Path) -> None:
    arena = suite(tmp_path, 3)
    items = arena.items("test")
    made = grades(arena, items, said(items, [item.reference for item in items]), Arena())
    assert [g.values["win"] for g in made] == [0.5] * 3
    assert arena.summarise(made)["win_rate"] == 50


def test_nothing_answered_gives_no_figure(tmp_path: Path) -> None:
    arena = suite(tmp_path, 3)
    items = arena.items("test")
    summary = arena.summarise(grades(arena, items, said(items, [()] * 3), StandIn()))
    assert (summary["win_rate"], summary["win_rate.n"], summary["win_rate.missing"]) == (None, 3, 3)


# --- style ----------------------------------------------------------------------------------------------------------
def test_style_counts_markdown_outside_code() -> None:
    text = "# Title\n\n1. **one**\n- two __three__\n* four\n```\n# no header\n- no item\n```\nend."
    found = style(text)
    assert (found.headers, found.lists, found.bold) == (1, 3, 2)
    assert style("Well, it is 3.5 km.").words == 9


def outputs(n: int, seed: int) -> list[str]:
    rng = Random(seed)
    return [" ".join(["word"] * rng.randint(20, 400)) for _ in range(n)]


def by_length(texts: Sequence[str], references: Sequence[str], quality: float, slope: float) -> Says:
    """A judge whose log-odds are `quality` plus `slope` times the relative difference in length."""

    def says(number: int, swapped: bool) -> str:
        a, b = len(texts[number].split()), len(references[number].split())
        odds = quality + slope * (a - b) / (a + b + 1)
        return "B>A" if Random(f"{number} {swapped}").random() < 1 / (1 + math.exp(-odds)) else "A>B"

    return says


def test_length_control_takes_out_what_length_earned(tmp_path: Path) -> None:
    n = 400
    references = outputs(n, 1)
    # Twice as long on average, of equal quality, before a judge that likes length: a high win rate that is no merit.
    texts = [f"{text} {text} mine" for text in outputs(n, 2)]
    arena = suite(tmp_path, n, references.__getitem__)
    summary = arena.summarise(judged(arena, by_length(texts, references, 0.0, 4.0), texts))
    assert summary["win_rate"] > 65  # type: ignore[operator]
    low, high = summary["length_controlled_win_rate.low"], summary["length_controlled_win_rate.high"]
    assert low is not None
    assert high is not None
    assert low < 50 < high
    assert high - low < 15
    assert summary["style:words.low"] > 0  # type: ignore[operator]
    assert summary["length:prefers_longer.low"] > 0.5  # type: ignore[operator]


@pytest.mark.slow
def test_the_interval_of_the_style_controlled_rate_covers(tmp_path: Path) -> None:
    """Simulated judges with a known preference at equal style: 95 % intervals hold it in at least 90 % of 200 runs."""
    held = 0
    for run in range(200):
        rng = Random(run)
        battles = []
        for item in range(150):
            own, base = (Style(rng.randint(50, 400), rng.randint(0, 4), rng.randint(0, 9), 0) for _ in range(2))
            odds = 0.4 + 2.0 * (own.words - base.words) / (own.words + base.words + 1)
            p = 1 / (1 + math.exp(-odds))
            first = float(rng.random() < p)
            # the second order mostly repeats the first: verdicts on one prompt are not independent
            second = first if rng.random() < 0.7 else float(rng.random() < p)
            battles += [Battle(item, win, 1.0, own, base) for win in (first, second)]
        found = controlled(battles)
        low, high = found["style_controlled_win_rate.low"], found["style_controlled_win_rate.high"]
        assert low is not None
        assert high is not None
        held += low <= 100 / (1 + math.exp(-0.4)) <= high
    assert held >= 180


# --- recorded games -------------------------------------------------------------------------------------------------
def game(first: str, second: str, verdict: str) -> dict[str, str]:
    shown = "\n\n".join(
        f"<|The Start of Assistant {letter}'s Answer|>\n{text}\n<|The End of Assistant {letter}'s Answer|>"
        for letter, text in (("A", first), ("B", second))
    )
    return {"user_prompt": f"<|User Prompt|>\n?\n\n{shown}", "judgment": f"So: [[{verdict}]]", "score": verdict}


def test_recorded_games_give_the_same_figures_as_the_judge(tmp_path: Path) -> None:
    arena = suite(tmp_path, 30)
    says = random_says(11, 0.4)
    made = judged(arena, says)
    rows = [
        {
            "question_id": f"q{i}",
            "model": "mine",
            "games": [
                game(f"base {i}", f"mine {i}", says(i, False)),
                game(f"mine {i}", f"base {i}", FLIP[says(i, True)]),
            ],
        }
        for i in range(30)
    ]
    file = tmp_path / "judgment.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows[:-1]))
    items = arena.items("test")
    again = grades(arena, items, said(items, [(f"mine {i}",) for i in range(30)]), Replay(path=str(file)))
    assert [g.values["win"] for g in again[:-1]] == [g.values["win"] for g in made[:-1]]
    assert again[-1].missing is not None
    assert arena.summarise(again[:-1])["win_rate"] == arena.summarise(made[:-1])["win_rate"]


# --- files ----------------------------------------------------------------------------------------------------------
def test_the_real_prompts_are_read(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "prompts" / "arena_hard_v0.1_question.jsonl.gz"
    arena = suite(tmp_path)
    questions = tmp_path / "answers.jsonl"
    rows = datafile.rows(str(file), "questions")
    questions.write_text("\n".join(json.dumps({"question_id": r["question_id"], "output": "x"}) for r in rows))
    real = ArenaHard(questions=str(file), baseline="base", answers=str(questions))
    assert len(real.items("test")) == 500
    assert real.fingerprint("test") != arena.fingerprint("test")


def test_mistakes_are_named(tmp_path: Path) -> None:
    arena = suite(tmp_path)
    other = arena.model_copy(update={"baseline": "gpt-4-0314"})
    with pytest.raises(UserError, match="are 'base''s, but the baseline of this suite is 'gpt-4-0314'"):
        other.items("test")
    answers = tmp_path / "base.jsonl"
    answers.write_text(answers.read_text().splitlines()[0])
    with pytest.raises(UserError, match="prompt 2: the baseline has no answer to q1"):
        arena.items("test")
    answers.write_text('{"question_id": "q0", "model_id": "base"}')
    with pytest.raises(UserError, match="row 1: no answer in Arena-Hard's form"):
        arena.items("test")
    suite(tmp_path)
    questions = tmp_path / "question.jsonl"
    questions.write_text("\n".join([questions.read_text().splitlines()[0]] * 2))
    with pytest.raises(UserError, match="two prompts with the id of arena_hard/q0"):
        arena.items("test")
    questions.write_text('{"question_id": "q0", "turns": []}')
    with pytest.raises(UserError, match="prompt 1: it needs `question_id` and `turns`"):
        arena.items("test")


def test_another_baseline_is_another_suite(tmp_path: Path) -> None:
    arena = suite(tmp_path)
    before = (arena.fingerprint("test"), arena.identity_options())
    after = suite(tmp_path, reference="other {}".format)
    assert (after.fingerprint("test"), after.identity_options()) != before
    assert "baseline: base" in arena.notes()


def test_repeats_are_kept_one_by_one(tmp_path: Path) -> None:
    arena = suite(tmp_path, 2, repeats=3)
    count = iter(range(100))
    made = judged(arena, lambda i, s: "B>A" if next(count) % 3 else "A>B")
    assert [len(g.repeats["win"]) for g in made] == [3, 3]
    for grade in made:
        values = [v for v in grade.repeats["win"] if v is not None]
        assert grade.values["win"] == pytest.approx(sum(values) / 3)


def test_the_suite_proves_itself(tmp_path: Path) -> None:
    arena = suite(tmp_path, 12, lambda i: f"a reference about task {i} in several words")
    checks = {check.name: check for check in selfcheck(arena)}
    assert checks["gold"].value == 0.5, "the baseline's own answer draws"
    assert checks["gold"].passed
    assert checks["empty"].passed
