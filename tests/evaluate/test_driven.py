"""Grading through the real driver: a judgement that cannot be asked is missing, the others are graded in one batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from suite_driver import said

from harness.blocks.kinds import Context
from harness.engines.base import Completion, GenerateRequest
from harness.evaluate.mt_bench import MTBench
from harness.judges.rubric import Rubric
from harness.loop.drive import Desk, drive


class Judge:
    """An engine of characters that grades every prompt it is given; prompts beyond its context are not for it."""

    context = 60

    def __init__(self) -> None:
        self.chat, self.batches = self, list[int]()

    def render(self, messages: Sequence[Any], add_generation_prompt: bool = False) -> tuple[int, ...]:
        return tuple(map(ord, "".join(m["content"] for m in messages)))

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        self.batches.append(len(requests))
        for request in requests:
            yield Completion(
                request_id=request.id,
                draw=0,
                text="Rating: [[6]]",
                token_ids=(1,),
                finish="stop",
                prompt_tokens=len(request.prompt),
            )


def test_one_judgement_too_long_for_the_judge(tmp_path: Path) -> None:
    file = tmp_path / "question.jsonl"
    file.write_text("\n".join(json.dumps({"question_id": i, "category": "stem", "turns": ["Why?"]}) for i in range(3)))
    suite, engine = MTBench(questions=str(file)), Judge()
    items = suite.items("test")
    context = Context(prompts={"judge_single": "{answer}"})
    desk = Desk(lambda _: engine, context)  # type: ignore[arg-type, return-value]
    answers = said(items, [("short",), ("long " * 100,), ("brief",)])
    grades = drive({"all": suite.grade(items, answers, Rubric(), context)}, desk, tolerate=False)["all"]
    assert [g.values["score"] for g in grades] == [6.0, None, 6.0]
    assert "exceeds the context of 60" in grades[1].missing
    assert grades[0].judged_tokens == 6
    assert engine.batches == [2]
