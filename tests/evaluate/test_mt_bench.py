"""MT-Bench: FastChat's temperatures, a grade per turn, missing verdicts left out of means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from suite_driver import answers, drive, grades, said

from harness.blocks.kinds import Ask, Context
from harness.errors import UserError
from harness.evaluate.mt_bench import MTBench
from harness.judges.rubric import Rubric


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
    suite = MTBench(path=path, temperatures={"stem": 1.0}, max_tokens=9)
    seen: list[Ask] = []

    def say(ask: Ask) -> str:
        seen.append(ask)
        return "a"

    answers(suite, suite.items("test"), say)
    assert [ask.sampling.temperature for ask in seen] == [0.7, 0.7, 0.0, 0.0, 1.0, 1.0, 0.7, 0.7]
    assert {ask.sampling.max_tokens for ask in seen} == {9}


def test_scores_per_turn_and_category_and_missing_verdicts(path: str) -> None:
    suite = MTBench(path=path, limit=2)
    items = suite.items("test")
    says = iter(["Rating: [[8]]", "no verdict", "Rating: [[2]]", "Rating: [[4]]"])

    def say(_: Ask) -> str:
        return next(says)

    maker = suite.grade(items, said(items, [("a", "b")] * 2), Rubric(), Context(prompts={"judge_single": "{answer}"}))
    given = drive(maker, say)
    assert [g.values["score"] for g in given] == [8.0, None, 2.0, 4.0]
    assert given[1].missing == "the verdict cannot be read"
    assert given[1].judge_text == "no verdict"
    assert suite.summarise(given) == {
        "score:turn-1": 5.0,
        "score:turn-2": 4.0,
        "score:writing": 8.0,
        "score:math": 3.0,
    }


def test_one_failed_judgement_spares_the_others(path: str) -> None:
    suite = MTBench(path=path, limit=1)
    items = suite.items("test")

    def say(ask: Ask) -> Any:
        return RuntimeError("server gone") if ask.messages[-1]["content"] == "a" else "[[6]]"

    given = drive(
        suite.grade(items, said(items, [("a", "b")]), Rubric(), Context(prompts={"judge_single": "{answer}"})), say
    )
    assert [g.missing for g in given] == ["judge failed: RuntimeError: server gone", None]
    assert given[1].values == {"score": 6.0}


def test_references_come_from_their_own_file_only(path: str, tmp_path: Path) -> None:
    assert MTBench(path=path).items("test")[0].reference == ()
    file = tmp_path / "reference.jsonl"
    file.write_text(json.dumps({"question_id": 111, "choices": [{"turns": ["2", "4"]}]}))
    suite = MTBench(path=path, reference_path=str(file))
    assert [item.reference for item in suite.items("test")] == [(), ("2", "4"), (), ()]
    assert suite.fingerprint("test") != MTBench(path=path).fingerprint("test")


def test_a_share_set_apart_as_dev_is_called_a_subset(path: str) -> None:
    whole = MTBench(path=path)
    assert (whole.splits(), whole.notes()) == (("test",), ())
    suite = MTBench(path=path, dev=0.5)
    dev, test = suite.items("dev"), suite.items("test")
    assert {i.id for i in dev} | {i.id for i in test} == {i.id for i in whole.items("test")}
    assert not {i.id for i in dev} & {i.id for i in test}
    assert "subset: 50% of the items are set apart as dev" in suite.notes()[0]


def test_mistakes_are_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dev: 20%"):
        MTBench(path=path).items("dev")
    with pytest.raises(UserError, match="another version of the data"):
        MTBench(path=path, sha256="0" * 64).fingerprint("test")
    with pytest.raises(ValidationError, match="0 is greedy"):
        MTBench(path=path, temperatures={"math": -1.0})
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1')
    with pytest.raises(UserError, match=r"broken\.jsonl:2: not valid JSON"):
        MTBench(path=str(broken)).items("test")
    broken.write_text('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1, "turns": ["b"]}')
    with pytest.raises(UserError, match="ids must be unique"):
        MTBench(path=str(broken)).items("test")
    suite = MTBench(path=path)
    given = said(suite.items("test"), [("a", "b")] * 4)
    with pytest.raises(UserError, match="needs a judge"):
        grades(suite, suite.items("test"), given, None)


def test_an_unset_folder_variable_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPBENCH_DATA", raising=False)
    with pytest.raises(UserError, match="export LOOPBENCH_DATA="):
        MTBench(path="${LOOPBENCH_DATA}/question.jsonl").fingerprint("test")
