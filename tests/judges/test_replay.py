"""Recorded verdicts: found by what they are about, never lent to another answer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from suite_driver import drive

from harness.blocks.kinds import Answer, Context, EvalItem, Verdict
from harness.errors import UserError
from harness.judges._tasks import Order, pair, source_data
from harness.judges.replay import Replay

PAIR = pair(EvalItem(id="a/0", turns=("Say hi",), reference=("Hello",)), "answer first")
TURNS = EvalItem(id="m/81", turns=("Say hi", "Again"), data=source_data(81))
FIRST = "[Question]\nSay hi\n\n[The Start of Assistant's Answer]\nHi there\n[The End of Assistant's Answer]"
SECOND = """<|The Start of Assistant A's Conversation with User|>

### User:
Say hi

### Assistant A:
Hi

### User:
Again

### Assistant A:
Hi again

<|The End of Assistant A's Conversation with User|>"""


def write(path: Path, rows: list[dict[str, Any]], lines: bool = False) -> str:
    text = "\n".join(json.dumps(r) for r in rows) if lines else json.dumps(rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def replayed(path: str, item: EvalItem, *outputs: str, turn: int = 0) -> Verdict:
    verdict: Verdict = drive(Replay(path=path).judge(item, Answer(item=item.id, outputs=outputs), turn, Context()), str)
    return verdict


def annotation(**changes: Any) -> dict[str, Any]:
    row = {"instruction": "Say hi", "output_1": "Hello", "output_2": "Hey", "preference": 1.25}
    return row | changes


def test_a_preference_with_its_text_and_tokens(tmp_path: Path) -> None:
    raw = {"text": "m", "total_tokens": 806.0}
    path = write(tmp_path / "annotations.json.gz", [annotation(raw_completion=raw)])
    assert replayed(path, PAIR, "Hey") == Verdict(score=None, preference=1.25, raw="m", tokens=806)


def test_a_draw_of_alpaca_eval_1_is_written_0(tmp_path: Path) -> None:
    assert replayed(write(tmp_path / "a.json", [annotation(preference=0)]), PAIR, "Hey").preference == 1.5


@pytest.mark.parametrize(("row", "output", "reason"), [
    (annotation(), "Yo", "no recorded verdict about this answer"),
    (annotation(output_1="Hallo"), "Hey", "against another reference"),
    (annotation(preference=None), "Hey", "has no preference"),
    (annotation(preference=7), "Hey", "not between 1 and 2"),
])  # fmt: skip
def test_what_was_not_recorded_is_missing(tmp_path: Path, row: dict[str, Any], output: str, reason: str) -> None:
    verdict = replayed(write(tmp_path / "a.json", [row]), PAIR, output)
    assert (verdict.preference, verdict.parsed) == (None, False)
    assert reason in verdict.reason


def test_a_grade_is_read_anew_from_the_judges_text(tmp_path: Path) -> None:
    row = {"question_id": 81, "turn": 2, "user_prompt": SECOND, "judgment": "Rating: [[4]]", "score": 9}
    path = write(tmp_path / "j.jsonl", [row], lines=True)
    assert replayed(path, TURNS, "Hi", "Hi again", turn=1).score == 4
    assert replayed(path, TURNS, "Hi", "Other", turn=1).reason == "the recorded verdict is about another answer"
    assert replayed(path, TURNS, "Hi", "Hi again", turn=0).reason == "no recorded verdict about this answer"


@pytest.mark.parametrize("answer", ["", " ", "Hi", "there", "Hi there, friend"])
def test_a_grade_is_not_lent_to_an_empty_answer_or_a_part_of_the_recorded_one(tmp_path: Path, answer: str) -> None:
    row = {"question_id": 81, "turn": 1, "user_prompt": FIRST, "judgment": "Rating: [[9]]"}
    path = write(tmp_path / "j.jsonl", [row], lines=True)
    assert replayed(path, TURNS, "Hi there").score == 9
    verdict = replayed(path, TURNS, answer)
    assert (verdict.score, verdict.parsed) == (None, False)
    assert verdict.reason == "the recorded verdict is about another answer"


def test_a_grade_of_a_second_turn_is_about_the_whole_conversation(tmp_path: Path) -> None:
    row = {"question_id": 81, "turn": 2, "user_prompt": SECOND, "judgment": "Rating: [[4]]"}
    path = write(tmp_path / "j.jsonl", [row], lines=True)
    for first, second in (("Ho", "Hi again"), ("Hi", ""), ("Hi", "again"), ("Hi again", "Hi")):
        assert replayed(path, TURNS, first, second, turn=1).score is None


def test_a_prompt_without_markers_matches_nothing(tmp_path: Path) -> None:
    row = {"question_id": 81, "turn": 1, "user_prompt": "Say hi. Hi there", "judgment": "Rating: [[9]]"}
    path = write(tmp_path / "j.jsonl", [row], lines=True)
    assert [replayed(path, TURNS, answer).score for answer in ("", "Hi there")] == [None, None]


def test_a_failed_judgement_is_missing_not_minus_one(tmp_path: Path) -> None:
    row = {"question_id": 81, "turn": 1, "user_prompt": FIRST, "judgment": "$ERROR$", "score": -1}
    verdict = replayed(write(tmp_path / "j.jsonl", [row], lines=True), TURNS, "Hi there")
    assert (verdict.score, verdict.parsed, verdict.reason) == (None, False, "")


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no recorded verdicts"):
        replayed(write(tmp_path / "a.json", [{"x": 1}]), PAIR, "Hey")
    with pytest.raises(UserError, match="not there"):
        replayed(str(tmp_path / "none.json"), PAIR, "Hey")
    path = write(tmp_path / "a.json", [annotation()])
    with pytest.raises(UserError, match="another version of the data"):
        Replay(path=path, sha256="0" * 64).identity_options()


def test_packed_and_plain_files_are_the_same_verdicts(tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "a.json", [annotation()]), write(tmp_path / "b.json.gz", [annotation()])
    assert Replay(path=plain).identity_options() == Replay(path=packed).identity_options()


def pair_prompt(first: str, second: str, turns: int = 1) -> str:
    if turns == 1:
        return (
            "[User Question]\nSay hi\n\n"
            f"[The Start of Assistant A's Answer]\n{first}\n[The End of Assistant A's Answer]"
            f"\n\n[The Start of Assistant B's Answer]\n{second}\n[The End of Assistant B's Answer]"
        )
    talks = []
    for letter, said in (("A", first), ("B", second)):
        talk = "\n\n".join(
            f"### User:\n{asked}\n\n### Assistant {letter}:\n{said} {number}"
            for number, asked in enumerate(TURNS.turns, start=1)
        )
        start, end = (f"<|The {w} of Assistant {letter}'s Conversation with User|>" for w in ("Start", "End"))
        talks.append(f"{start}\n\n{talk}\n\n{end}")
    return "\n\n\n".join(talks)


def pair_row(first: str, second: str, said: tuple[str, str], turn: int = 1) -> dict[str, Any]:
    """A FastChat pair: `first` is model_1, which the first game shows first."""
    return {
        "question_id": 81,
        "model_1": "a",
        "model_2": "b",
        "turn": turn,
        "g1_user_prompt": pair_prompt(first, second, turn),
        "g1_judgment": said[0],
        "g2_user_prompt": pair_prompt(second, first, turn),
        "g2_judgment": said[1],
    }


def orders(path: str, mine: tuple[str, ...], theirs: tuple[str, ...], turn: int = 0) -> list[float | None]:
    both: tuple[Order, ...] = ("answer first", "reference first")
    return [replayed(path, pair(TURNS, order, theirs), *mine, turn=turn).preference for order in both]


def test_a_pair_is_found_whichever_model_is_the_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [pair_row("mine", "theirs", ("so [[A]]", "so [[B]]"))], lines=True)
    assert orders(path, ("mine", "x"), ("theirs", "y")) == [2.0, 2.0]
    assert orders(path, ("theirs", "x"), ("mine", "y")) == [1.0, 1.0]
    path = write(tmp_path / "q.jsonl", [pair_row("mine", "theirs", ("[[A]]", "[[A]]"))], lines=True)
    assert orders(path, ("mine", "x"), ("theirs", "y")) == [2.0, 1.0]


def test_ties_of_a_pair_draw_and_unreadable_ones_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [pair_row("mine", "theirs", ("[[C]]", "[[A]] or [[B]]"))], lines=True)
    assert orders(path, ("mine", "x"), ("theirs", "y")) == [1.5, None]


def test_a_pair_of_second_turns_is_about_both_conversations(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [pair_row("mine", "theirs", ("[[A]]", "[[B]]"), turn=2)], lines=True)
    assert orders(path, ("mine 1", "mine 2"), ("theirs 1", "theirs 2"), turn=1) == [2.0, 2.0]
    assert orders(path, ("mine 1", "mine 3"), ("theirs 1", "theirs 2"), turn=1) == [None, None]
    assert orders(path, ("mine 1", "mine 2"), ("theirs 1", "theirs 2"), turn=0) == [None, None]


def test_a_pair_is_not_lent_to_an_answer_that_quotes_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [pair_row("mine", "theirs", ("[[A]]", "[[B]]"))], lines=True)
    quoting = pair_prompt("mine", "theirs")
    for answer in ("", "ine", "mine.", quoting):
        assert orders(path, (answer, "x"), ("theirs", "y")) == [None, None]


def test_a_file_of_several_models_gives_each_its_own_grade(tmp_path: Path) -> None:
    rows = [
        {"question_id": 81, "turn": 1, "user_prompt": FIRST.replace("Hi there", said), "judgment": f"[[{grade}]]"}
        for said, grade in (("Hi there", 9), ("Yo", 2))
    ]
    path = write(tmp_path / "j.jsonl", rows, lines=True)
    assert [replayed(path, TURNS, said).score for said in ("Hi there", "Yo", "Hey")] == [9, 2, None]


def test_a_turn_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "j.jsonl", [{"question_id": 81, "turn": "1", "judgment": "[[9]]"}], lines=True)
    with pytest.raises(UserError, match="row 1: `turn` should be 1 or 2"):
        replayed(path, TURNS, "Hi there")


@pytest.mark.parametrize(("row", "message"), [
    (annotation(preference="abc"), "row 1: `preference` should be a number from 1 to 2, or null, not 'abc'"),
    (annotation(preference=True), "row 1: `preference` should be a number"),
    (annotation(instruction=["x"]), "row 1: `instruction` should be a text"),
    ({"question_id": [1], "turn": 1, "judgment": "[[7]]"}, "row 1: `question_id` should be a number or a text"),
])  # fmt: skip
def test_a_row_that_is_no_verdict_is_a_mistake(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "v.json", [row])
    with pytest.raises(UserError) as caught:
        replayed(path, PAIR, "Hey")
    assert message in str(caught.value)
