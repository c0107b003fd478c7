"""`task`: a model names a task of a taxonomy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.blocks.prompts import load_pack
from harness.records.example import Example, Message
from harness.records.tasks import load_tasks
from harness.select.task import Task


def context() -> Context:
    return Context(block="task", prompts=load_pack("general").entries)


def test_the_prompt_lists_every_task_with_its_meaning(score: Any, example: Any) -> None:
    asked: list[str] = []

    def say(request: Any) -> str:
        asked.append(request.messages[-1]["content"])
        return "[[open_qa]]"

    said = score(Task(), [example("a", "Who was Newton?", "x")], say, context())
    assert said["tag:task"] == ["open_qa"]
    assert all(f"- {task.name}: {task.means}" in asked[0] for task in load_tasks("realign"))
    assert "Who was Newton?" in asked[0]


def test_a_reply_that_names_no_task_is_counted_and_kept(score: Any, example: Any) -> None:
    here = context()
    said = score(Task(), [example("a", "?", "x")], lambda _: "a riddle, I think", here)
    assert said["tag:task"] == [None]
    assert said["tag:task.problem"] == ["no value"]
    assert said["field:task.text"] == ["a riddle, I think"]
    assert here.tally.counts == {"task: no value": 1}
    assert score(Task(unknown="default"), [example("a", "?", "x")], lambda _: "?", context())["tag:task"] == ["default"]


def test_every_row_is_counted_once_under_its_task_or_its_problem(score: Any, example: Any) -> None:
    here = context()
    rows = [example("a", "Who?", "x"), example("b", "Where?", "x"), example("c", "?", "x")]
    score(Task(unknown="default"), rows, lambda r: "?" if "\n?" in r.messages[-1]["content"] else "[[open_qa]]", here)
    assert here.tally.counts == {"task: open_qa": 2, "task: no value": 1}


def test_the_first_question_of_a_conversation_counts(score: Any) -> None:
    turns = [("user", "first?"), ("assistant", "yes"), ("user", "second?"), ("assistant", "no")]
    row = Example(id="a", messages=tuple(Message(role=role, content=text) for role, text in turns))
    asked: list[str] = []

    def say(request: Any) -> str:
        asked.append(request.messages[-1]["content"])
        return "[[roleplay]]"

    score(Task(), [row], say, context())
    assert "first?" in asked[0]
    assert "second?" not in asked[0]


def test_only_some_tasks(score: Any, example: Any) -> None:
    block = Task(labels=("open_qa", "roleplay"))
    said = score(block, [example("a", "?", "x"), example("b", "?", "x")], lambda r: "[[planning]]", context())
    assert said["tag:task"] == [None, None]


@pytest.mark.parametrize("options", [{"labels": ["riddle"]}, {"unknown": "riddle"}, {"scale": [1, 5]}])
def test_tasks_that_the_taxonomy_does_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Task(**options)


def test_the_content_of_the_taxonomy_is_part_of_the_key() -> None:
    assert Task().identity_options() != Task(taxonomy="pocket").identity_options()
