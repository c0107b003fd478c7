"""MT-Bench: FastChat's temperatures, a grade per turn, missing verdicts left out of means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from suite_driver import answers, drive, grades, said

from harness.blocks.kinds import Ask, Context, Grade, Metric
from harness.errors import UserError
from harness.evaluate._grading import means
from harness.evaluate.mt_bench import MTBench
from harness.judges.rubric import Rubric
from harness.loop.stage import Stage
from harness.records import evaltables


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "question.jsonl"
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["Write\u2028a line.", "Again."], "reference": ["x", "y"]},
        {"question_id": 111, "category": "math", "turns": ["1+1?", "Doubled?"]},
        {"question_id": 141, "category": "stem", "turns": ["Why is the sky blue?", "And red?"]},
        {"question_id": 200, "category": "poetry", "turns": ["Rhyme.", "Again."]},
    ]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return str(file)


def test_temperatures_per_category(path: str) -> None:
    suite = MTBench(questions=path, temperatures={"stem": 1.0}, max_tokens=9)
    seen: list[Ask] = []

    def say(ask: Ask) -> str:
        seen.append(ask)
        return "a"

    answers(suite, suite.items("test"), say)
    assert [ask.sampling.temperature for ask in seen] == [0.7, 0.7, 0.0, 0.0, 1.0, 1.0, 0.7, 0.7]
    assert {ask.sampling.max_tokens for ask in seen} == {9}


def test_scores_per_turn_and_category_and_missing_verdicts(path: str) -> None:
    suite = MTBench(questions=path, limit=2)
    items = suite.items("test")
    says = iter(["Rating: [[8]]", "no verdict", "Rating: [[2]]", "Rating: [[4]]"])

    def say(_: Ask) -> str:
        return next(says)

    maker = suite.grade(items, said(items, [("a", "b")] * 2), Rubric(), Context(prompts={"judge_single": "{answer}"}))
    given = drive(maker, say)
    assert [g.values["score"] for g in given] == [8.0, None, 2.0, 4.0]
    assert given[1].missing == "the verdict cannot be read"
    assert given[1].judge_text == "no verdict"
    summary = dict(suite.summarise(given))
    means = {name: value for name, value in summary.items() if "." not in name}
    assert means == {"score:turn-1": 5.0, "score:turn-2": 4.0, "score:writing": 8.0, "score:math": 3.0}
    assert (summary["score:turn-2.n"], summary["score:turn-2.missing"]) == (2, 1)
    assert (summary["score:writing.n"], summary["score:writing.missing"]) == (2, 1)
    for name, value in means.items():
        assert summary[f"{name}.low"] <= value <= summary[f"{name}.high"]  # type: ignore[operator]


def test_intervals_know_that_turns_of_a_question_belong_together() -> None:
    """Turns that are always alike say no more than one of them: the interval is that of half as many grades."""

    def made(alike: bool) -> float:
        values = [(float(i % 10) + 1, float(i % 10 if alike else 3 * (i // 10)) + 1) for i in range(40)]
        grades = [
            Grade(id=f"{i}/{t}", item=str(i), cluster=str(i), category="math", values={"score": v})
            for i, both in enumerate(values)
            for t, v in enumerate(both)
        ]
        found = means(grades, Metric(name="score", unit="points", bounds=(1, 10)), "category")
        return (found["score:math.high"] or 0) - (found["score:math.low"] or 0)

    assert made(alike=True) > 1.2 * made(alike=False)


def test_repeats_keep_every_verdict_and_give_their_mean(path: str, tmp_path: Path) -> None:
    suite = MTBench(questions=path, limit=1, repeats=3)
    items = suite.items("test")
    says = iter(["[[8]]", "[[6]]", "none", "none", "none", "none"])
    seeds: list[int | None] = []

    def say(ask: Ask) -> str:
        seeds.append(ask.fixed_seed)
        return next(says)

    maker = suite.grade(items, said(items, [("a", "b")]), Rubric(), Context(prompts={"judge_single": "{answer}"}))
    first, second = drive(maker, say)
    assert (first.values, first.repeats, first.missing) == ({"score": 7.0}, {"score": (8.0, 6.0, None)}, None)
    assert first.judge_text == "[[8]]\n---\n[[6]]\n---\nnone"
    assert (second.values, second.missing) == ({"score": None}, "the verdict cannot be read")
    assert len(set(seeds)) == 6, "each repeat has noise of its own"
    evaltables.write_grades(tmp_path / "grades.parquet", [first, second])
    back = evaltables.read_grades(tmp_path / "grades.parquet")
    assert [row["repeats"] for row in back] == [{"score": (8.0, 6.0, None)}, {"score": (None, None, None)}]
    assert "repeats.score" in evaltables.grades_frame(tmp_path / "grades.parquet", texts=False)


def test_one_failed_judgement_spares_the_others(path: str) -> None:
    suite = MTBench(questions=path, limit=1)
    items = suite.items("test")

    def say(ask: Ask) -> Any:
        return RuntimeError("server gone") if ask.messages[-1]["content"] == "a" else "[[6]]"

    given = drive(
        suite.grade(items, said(items, [("a", "b")]), Rubric(), Context(prompts={"judge_single": "{answer}"})), say
    )
    assert [g.missing for g in given] == ["judge failed: RuntimeError: server gone", None]
    assert given[1].values == {"score": 6.0}


def answers_file(folder: Path, rows: dict[int, list[str]], name: str = "answers.jsonl") -> str:
    file = folder / name
    lines = [json.dumps({"question_id": q, "choices": [{"turns": turns}]}) for q, turns in rows.items()]
    file.write_text("\n".join(lines))
    return str(file)


def test_references_are_for_math_reasoning_and_coding_only(path: str, tmp_path: Path) -> None:
    assert MTBench(questions=path).items("test")[0].reference == ()
    file = answers_file(tmp_path, {111: ["2", "4"], 141: ["Rayleigh", "Sunset"]})
    suite = MTBench(questions=path, references=file)
    assert [item.reference for item in suite.items("test")] == [(), ("2", "4"), (), ()]
    assert suite.fingerprint("test") != MTBench(questions=path).fingerprint("test")
    more = MTBench(questions=path, references=file, reference_categories=["stem"])
    assert [item.reference for item in more.items("test")] == [(), (), ("Rayleigh", "Sunset"), ()]
    short = answers_file(tmp_path, {111: ["2"]})
    with pytest.raises(UserError, match=r"mt_bench/111: 1 of 2 turns are there"):
        MTBench(questions=path, references=short).items("test")


def test_the_judges_prompts_change_the_grade_but_not_the_answers(path: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"name": "single-v1", "prompt_template": "{question}"}))
    plain, judged = MTBench(questions=path), MTBench(questions=path, prompts=str(file))

    def key(suite: MTBench, action: Any) -> str:
        return Stage(action=action, label="", block=suite, split="test").key

    assert key(plain, "answer") == key(judged, "answer") == key(MTBench(questions=path, repeats=2), "answer")
    assert key(plain, "grade") != key(judged, "grade")
    assert "prompt pack's words" in plain.notes()[0]
    assert not any("prompt pack's words" in note for note in judged.notes())


def test_a_share_set_apart_as_dev_is_called_a_subset(path: str) -> None:
    whole = MTBench(questions=path)
    assert whole.splits() == ("test",)
    assert not any("subset" in note for note in whole.notes())
    suite = MTBench(questions=path, dev=0.5)
    dev, test = suite.items("dev"), suite.items("test")
    assert {i.id for i in dev} | {i.id for i in test} == {i.id for i in whole.items("test")}
    assert not {i.id for i in dev} & {i.id for i in test}
    assert "subset: 50% of the items are set apart as dev" in suite.notes()[-1]


def test_mistakes_are_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dev: 20%"):
        MTBench(questions=path).items("dev")
    with pytest.raises(UserError, match="another version of the data"):
        MTBench(questions={"path": path, "sha256": "0" * 64}).fingerprint("test")
    with pytest.raises(ValidationError, match="0 is greedy"):
        MTBench(questions=path, temperatures={"math": -1.0})
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1')
    with pytest.raises(UserError, match=r"broken\.jsonl:2: not valid JSON"):
        MTBench(questions=str(broken)).items("test")
    broken.write_text('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1, "turns": ["b"]}')
    with pytest.raises(UserError, match="ids must be unique"):
        MTBench(questions=str(broken)).items("test")
    suite = MTBench(questions=path)
    given = said(suite.items("test"), [("a", "b")] * 4)
    with pytest.raises(UserError, match="needs a judge"):
        grades(suite, suite.items("test"), given, None)


def test_an_unset_folder_variable_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPBENCH_DATA", raising=False)
    with pytest.raises(UserError, match="export LOOPBENCH_DATA="):
        MTBench(questions="${LOOPBENCH_DATA}/question.jsonl").fingerprint("test")
