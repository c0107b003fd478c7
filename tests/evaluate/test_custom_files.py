"""Files of a user's own suite that are not what they should be, and checkers that grade out of bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from suite_driver import grades, said

from harness.blocks import registry
from harness.blocks.base import identity
from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.errors import ConfigError, UserError
from harness.evaluate.custom import Custom

HEADER = b"prompt,reference\n"


class Loud(Judge):
    """A checker that gives the number that it reads in the answer, whatever it is."""

    name: ClassVar[str] = "loud"
    label: ClassVar[str] = "loud"
    most: int = identity(1, ge=1, description="nothing")

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        yield from ()
        return Verdict(score=float(answer.outputs[turn]))


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("judge.loud", f"{__name__}:Loud", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Loud)
    monkeypatch.setattr(registry, "_foreign", lambda: {"judge.loud": entry})


@pytest.mark.parametrize(("name", "content", "message"), [
    ("q.csv", HEADER + b"caf\xe9,x\n", "q.csv is not UTF-8 text: invalid continuation byte at byte 20"),
    ("q.json", b'[{"prompt": "caf\xe9"}]', "q.json is not UTF-8 text"),
    ("q.jsonl", b'{"prompt": "caf\xe9"}', "q.jsonl is not UTF-8 text"),
    ("q.csv", HEADER + b"a,x\nb,y,z\n", "q.csv:3: more cells than the header has"),
    ("q.csv", HEADER + b"a,x\nb\n", "q.csv: row 2: check exact needs a `reference` in each row"),
    ("q.json", b'[{"prompt": "a", "reference": "x"}, {"prompt": "b"}]', "q.json: row 2: check exact needs"),
    ("q.json", b'[{"id": 1, "prompt": "a", "reference": "x"}, {"id": 1, "prompt": "b", "reference": "x"}]',
     "q.json: row 2: the id '1' is that of row 1 too"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_a_mistake_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        Custom(path=str(tmp_path / name), check="exact").items("test")
    assert message in str(caught.value)


def test_a_table_may_hold_long_texts(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_bytes(HEADER + b"a" * 200_000 + b",x\n")
    (item,) = Custom(path=str(file), check="exact").items("test")
    assert len(item.turns[0]) == 200_000


def test_small_and_large_numbers_are_references_as_they_are_meant(tmp_path: Path) -> None:
    """1e-07 ends in 07 and 1e+20 in 20: as texts they would call 7 and 20 right."""
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "a", "reference": 1e-7}\n{"prompt": "b", "reference": 1e20}\n')
    suite = Custom(path=str(file), check="numeric")
    items = suite.items("test")
    assert [item.reference for item in items] == [("0.0000001",), ("100000000000000000000",)]
    for outputs, right in ((["7", "20"], 0.0), (["0.0000001", "1" + "0" * 20], 1.0)):
        found = grades(suite, items, said(items, [(text,) for text in outputs]), None)
        assert [grade.values["accuracy"] for grade in found] == [right] * 2


def test_an_empty_reference_makes_nothing_right(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"prompt": "a", "reference": ""}')
    with pytest.raises(ConfigError, match="q.jsonl:1: the reference is empty"):
        Custom(path=str(tmp_path / "q.jsonl"), check="contains").items("test")


def test_a_checkers_grade_outside_its_scale_is_missing(tmp_path: Path, loud: None) -> None:
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps({"prompt": str(i)}) for i in range(5)))
    suite = Custom(path=str(tmp_path / "q.jsonl"), check={"kind": "block", "block": "loud"})
    items = suite.items("test")
    found = grades(suite, items, said(items, [("1",), ("10",), ("100",), ("0",), ("nan",)]), None)
    assert [grade.values["accuracy"] for grade in found] == [0.0, 1.0, None, None, None]
    assert found[2].missing == "the grade 100.0 is not between 1 and 10"
    assert not any(math.isnan(value) for grade in found if (value := grade.values["accuracy"]) is not None)


def test_a_checkers_bad_option_is_told_in_a_line(tmp_path: Path, loud: None) -> None:
    with pytest.raises(ValidationError) as caught:
        Custom(path="q.jsonl", check={"kind": "block", "block": "loud", "options": {"most": "x"}})
    (problem,) = caught.value.errors()
    assert problem["msg"].startswith("Value error, check.options: most: Input should be a valid integer")
    assert "\n" not in problem["msg"]


class Prefers(Judge):
    """A judge that answers a question about one answer with a preference."""

    name: ClassVar[str] = "prefers"

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        yield from ()
        return Verdict(score=None, preference=2.0)


def test_a_verdict_without_a_grade_is_missing(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"prompt": "a"}')
    suite: Any = Custom(path=str(tmp_path / "q.jsonl"), rubric="good")
    items = suite.items("test")
    (found,) = grades(suite, items, said(items, [("x",)]), Prefers())
    assert (found.values["score"], found.missing) == (None, "the verdict has no grade")
