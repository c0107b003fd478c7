"""Suites of a user's own: how rows are read, asked, checked and judged, and every mistake of a file told at once."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from suite_driver import answers, drive, grades, said

from harness.blocks import registry
from harness.blocks.base import identity
from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.blocks.prompts import load_pack
from harness.errors import ConfigError, UserError
from harness.evaluate import selfcheck
from harness.evaluate.custom import Custom
from harness.judges.rubric import Rubric
from harness.judges.stand_in import StandIn


class Brief(Judge):
    """A checker of somebody's package."""

    name: ClassVar[str] = "brief"
    label: ClassVar[str] = "brief"
    version: ClassVar[int] = 3
    most: int = identity(2, description="words")

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        yield from ()
        return Verdict(score=10 if len(answer.outputs[turn].split()) <= self.most else 1)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("judge.brief", f"{__name__}:Brief", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Brief)
    monkeypatch.setattr(registry, "_foreign", lambda: {"judge.brief": entry})


def write(folder: Path, *rows: Any, name: str = "q.jsonl") -> str:
    file = folder / name
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows))
    return str(file)


MIXED = (
    {"id": "one", "prompt": "2+2?", "reference": 4, "category": "sums", "source": "a column of mine"},
    {"id": "two", "turns": ["10/4?", "Twice?"], "reference": [2.5, None], "category": "sums"},
    {"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"}, {"role": "user", "content": "3*3?"},
    ], "reference": ["9", "nine, which is 9"]},
)  # fmt: skip


def test_every_form_of_conversation_is_asked_as_it_stands(tmp_path: Path) -> None:
    suite = Custom(path=write(tmp_path, *MIXED), check="numeric", system="Count.", max_tokens=7, temperature=0.5)
    items = suite.items("test")
    seen: list[Ask] = []

    def say(ask: Ask) -> str:
        seen.append(ask)
        return "it is 4"

    given = answers(suite, items, say)
    talks = [[(m["role"][0], m["content"]) for m in ask.messages] for ask in seen]
    assert talks == [
        [("s", "Count."), ("u", "2+2?")],
        [("s", "Count."), ("u", "10/4?")],
        [("s", "Count."), ("u", "10/4?"), ("a", "it is 4"), ("u", "Twice?")],
        [("s", "Be brief."), ("u", "hi"), ("a", "hello"), ("u", "3*3?")],
    ]
    assert {(a.sampling.max_tokens, a.sampling.temperature) for a in seen} == {(7, 0.5)}
    found = grades(suite, items, given, None)
    assert [(g.id, g.values["accuracy"]) for g in found] == [
        ("custom/one", 1.0), ("custom/two/turn-1", 0.0), ("custom/2", 0.0)
    ]  # fmt: skip
    assert found[1].judge_text == "4 is not 2.5"
    assert found[1].judge == "numeric check"
    assert not suite.needs_judge()
    summary = suite.summarise(found)
    assert (summary["accuracy:sums"], summary["accuracy:sums.n"]) == (0.5, 2)


def test_an_item_without_an_answer_is_missing(tmp_path: Path) -> None:
    suite = Custom(path=write(tmp_path, *MIXED), check="numeric")
    items = suite.items("test")
    lost = Answer(item=items[0].id, outputs=(), data={"error": "too long"})
    found = grades(suite, items, [lost, *said(items[1:], [("2.5", ""), ("9",)])], None)
    assert [(g.values["accuracy"], g.missing) for g in found] == [
        (None, "no answer: too long"),
        (1.0, None),
        (1.0, None),
    ]


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"id": "a", "prompt": "2+2?", "reference": "four"},
        {"id": "a", "prompt": "x", "turns": ["x"], "refernce": "4"},
        '{"id": "b", "prompt": 5',
        "",
        "[1]",
        {"messages": [{"role": "assistant", "content": "x"}], "reference": "1"},
        {"prompt": "x"},
        {"prompt": 7, "reference": "1", "rubric": ["x"]},
        {"turns": ["x", "y"], "reference": ["1"]},
        {"prompt": "x", "reference": "1", "gold": ["1", "2"]},
        {"prompt": "x", "reference": "1", "check": "exat"},
    )
    with pytest.raises(ConfigError) as caught:
        Custom(path=path, check="numeric").fingerprint("test")
    said_at = [(p.line, p.message.split(";")[0].split(" (")[0]) for p in caught.value.problems]
    assert {p.file for p in caught.value.problems} == {path}
    assert said_at == [
        (1, "the reference 'four' has no number"),
        (2, "unknown field 'refernce'"),
        (2, "a row needs one of prompt, turns and messages"),
        (2, "the id 'a' is that of line 1 too: ids must be unique"),
        (3, "not valid JSON: Expecting ',' delimiter"),
        (5, "a mapping with the fields of one question is expected on each line"),
        (6, said_at[6][1]),
        (7, "check numeric needs a `reference` in each row"),
        (8, "prompt should be a text"),
        (8, 'rubric should be text, not ["x"]'),
        (9, "reference has 1 entries for 2 turns: give one per turn"),
        (10, "gold should be a right answer, or a list with one per turn"),
        (11, said_at[-1][1]),
    ]
    assert "a user message at the end" in said_at[6][1]
    assert said_at[-1][1].startswith("check: ")


def test_a_row_without_an_id_may_not_meet_another_rows_id(tmp_path: Path) -> None:
    rows = ({"id": "1", "prompt": "x", "reference": "y"}, {"prompt": "z", "reference": "y"})
    with pytest.raises(ConfigError, match="the position of this row without an id, 1, is that of line 1 too"):
        Custom(path=write(tmp_path, *rows), check="exact").items("test")


def test_a_scale_needs_a_rubric(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "x", "rubric": "y"}, {"prompt": "x"})
    with pytest.raises(ConfigError, match=r":2: `scale: 5` belongs to a rubric"):
        Custom(path=path, scale=5).items("test")
    assert len(Custom(path=path).items("test")) == 2
    assert len(Custom(path=path, scale=5, rubric="z").items("test")) == 2


def test_many_mistakes_are_counted_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path, *[{"prompt": "x"}] * 50)
    with pytest.raises(ConfigError, match="and 30 more mistakes like these"):
        Custom(path=path, check="exact").items("test")
    with pytest.raises(ConfigError, match="the file has no rows"):
        Custom(path=write(tmp_path, "", name="empty.jsonl"), check="exact").items("test")


def test_lists_and_csv_and_other_column_names(tmp_path: Path) -> None:
    listed, table = tmp_path / "q.json", tmp_path / "q.csv"
    listed.write_text(json.dumps([{"question": "2+2?", "answer": "4"}]))
    table.write_text("question,answer\n2+2?,4\n")
    names = {"prompt": "question", "reference": "answer"}
    for file in (listed, table):
        (item,) = Custom(path=str(file), check="exact", columns=names).items("test")
        assert (item.turns, item.reference) == (("2+2?",), ("4",))
    with pytest.raises(ValidationError, match="there is no field 'promt'"):
        Custom(path=str(listed), check="exact", columns={"promt": "question"})


def test_a_changed_file_is_another_suite_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, *MIXED)
    first = Custom(path=path, check="numeric")
    before = first.fingerprint("test")
    (tmp_path / "elsewhere").mkdir()
    assert Custom(path=write(tmp_path / "elsewhere", *MIXED), check="numeric").fingerprint("test") == before
    write(tmp_path, *MIXED[:2])
    assert first.fingerprint("test") != before
    assert len(first.items("test")) == 2


def test_a_share_set_apart_does_not_depend_on_the_other_rows(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "prompt": f"{i}?", "reference": "1"} for i in range(60)]
    suite = Custom(path=write(tmp_path, *rows), check="exact", dev="20%")
    dev, test = ({item.id for item in suite.items(split)} for split in ("dev", "test"))
    assert not dev & test
    assert len(dev | test) == 60
    fewer = Custom(path=write(tmp_path, *rows[30:], name="fewer.jsonl"), check="exact", dev=0.2)
    assert {item.id for item in fewer.items("dev")} == dev & {f"custom/q{i}" for i in range(30, 60)}
    assert "subset" in suite.notes()[0]


def test_a_judge_grades_by_the_rubric_of_the_row_or_the_suite(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"id": "a", "turns": ["Write.", "Shorter."], "rubric": "MINE", "reference": "RIGHT"},
        {"id": "b", "messages": [{"role": "user", "content": "EARLIER"}, {"role": "assistant", "content": "OH"},
                                 {"role": "user", "content": "Now."}]},
    )  # fmt: skip
    suite = Custom(path=path, rubric="OURS", scale=5, repeats=2)
    items = suite.items("test")
    seen: list[str] = []
    says = iter(["[[5]]", "[[3]]", "[[7]]", "[[1]]"])

    def say(ask: Ask) -> str:
        seen.append(ask.messages[-1]["content"])
        return next(says)

    given = said(items, [("first", "second"), ("third",)])
    found = drive(suite.grade(items, given, Rubric(), Context(prompts=load_pack("general").entries)), say)
    assert [(g.id, g.values, g.repeats["score"]) for g in found] == [
        ("custom/a/turn-2", {"score": 4.0}, (5.0, 3.0)), ("custom/b", {"score": 1.0}, (None, 1.0))
    ]  # fmt: skip
    assert "MINE" in seen[0]
    assert "OURS" not in seen[0]
    assert seen[0].index("RIGHT") < seen[0].index("User: Write.") < seen[0].index("Assistant: second")
    assert seen[2].index("OURS") < seen[2].index("User: EARLIER") < seen[2].index("Assistant: third")
    assert "from 1 (worst) to 5 (best)" in seen[2]
    assert (suite.metrics()[0].bounds, suite.needs_judge()) == ((1.0, 5.0), True)


def test_a_stand_in_keeps_to_the_scale(tmp_path: Path) -> None:
    suite = Custom(path=write(tmp_path, {"prompt": "Why?", "rubric": "x", "reference": "Because of it all."}), scale=3)
    items = suite.items("test")
    (best,) = grades(suite, items, said(items, [("Because of it all.",)]), StandIn())
    (worst,) = grades(suite, items, said(items, [("",)]), StandIn())
    assert 2 < (best.values["score"] or 0) <= 3
    assert worst.values["score"] == 1


def test_a_checker_of_a_package(tmp_path: Path, installed: None) -> None:
    path = write(tmp_path, {"prompt": "Hi"}, {"prompt": "Ho"})
    suite = Custom(path=path, check={"kind": "block", "block": "brief", "options": {"most": 1}})
    items = suite.items("test")
    assert [g.values["accuracy"] for g in grades(suite, items, said(items, [("yes",), ("no no",)]), None)] == [1.0, 0.0]
    assert suite.identity_options()["check"]["version"] == 3
    with pytest.raises(ValidationError, match="most"):
        Custom(path=path, check={"kind": "block", "block": "brief", "options": {"most": "many"}})
    with pytest.raises(ValidationError, match="no judge block named 'breif'"):
        Custom(path=path, check={"kind": "block", "block": "breif"})
    with pytest.raises(ValidationError, match="asks a model"):
        Custom(path=path, check={"kind": "block", "block": "rubric"})


def test_suites_prove_themselves_where_there_is_something_to_prove_them_with(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+1?", "reference": str(i + 1)} for i in range(8)]
    assert all(check.passed for check in selfcheck(Custom(path=write(tmp_path, *rows), check="numeric")))
    patterns = [{"prompt": f"{i}?", "reference": rf"^{i}\b"} for i in range(8)]
    with pytest.raises(UserError, match="nothing to check it with"):
        selfcheck(Custom(path=write(tmp_path, *patterns), check="regex"))
    gold = [row | {"gold": f"{i} it is"} for i, row in enumerate(patterns)]
    assert all(check.passed for check in selfcheck(Custom(path=write(tmp_path, *gold), check="regex")))
    broken = [row | {"gold": "it is so"} for row in patterns]
    assert not selfcheck(Custom(path=write(tmp_path, *broken), check="regex"))[0].passed


def test_a_row_may_have_a_check_of_its_own(tmp_path: Path) -> None:
    rows = ({"prompt": "2+2?", "reference": "4"}, {"prompt": "Say yes.", "reference": "^yes", "check": "regex"})
    suite = Custom(path=write(tmp_path, *rows), check="numeric")
    items = suite.items("test")
    assert [g.values["accuracy"] for g in grades(suite, items, said(items, [("so 4.0",), ("yes 5",)]), None)] == [1, 1]


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    path = write(tmp_path, *MIXED)
    for options in ({"rubric": "x"}, {"scale": 5}, {"repeats": 2}):
        with pytest.raises(ValidationError, match="is for a judge, and `check` needs none"):
            Custom(path=path, check="numeric", **options)
    mixed = {"prompt": "x", "reference": "y", "check": {"kind": "block", "block": "brief"}}
    with pytest.raises(ConfigError, match="cannot stand beside others"):
        Custom(path=write(tmp_path, mixed), check="exact").items("test")
    with pytest.raises(ConfigError, match="the suite has none: write `check:` in the suite's file too"):
        Custom(path=write(tmp_path, {"prompt": "x", "check": "exact", "reference": "y"})).items("test")
