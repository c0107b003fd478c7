"""A model as judge: what it is shown, and that the verdict is read from its own words only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite_driver import drive

from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Verdict
from harness.blocks.prompts import load_pack
from harness.errors import UserError
from harness.judges._tasks import before_data, pair
from harness.judges.rubric import Rubric
from harness.records.example import Message

ITEM = EvalItem(id="q", turns=("What is 2 + 2?", "And doubled?"))
ANSWER = Answer(item="q", outputs=("four", "eight"))
GENERAL = Context(prompts=load_pack("general").entries)


def judged(
    says: str, item: EvalItem = ITEM, turn: int = 0, context: Context = GENERAL, **options: Any
) -> tuple[Verdict, str]:
    seen: list[Ask] = []

    def say(ask: Ask) -> str:
        seen.append(ask)
        return says

    verdict: Verdict = drive(Rubric(**options).judge(item, ANSWER, turn, context), say)
    assert seen[0].model == "judge"
    return verdict, "\n".join(m["content"] for m in seen[0].messages)


def test_a_grade_with_its_text_and_cost() -> None:
    verdict, prompt = judged("Right. Rating: [[9]]")
    assert (verdict.score, verdict.parsed, verdict.raw, verdict.tokens) == (9.0, True, "Right. Rating: [[9]]", 10)
    assert "What is 2 + 2?" in prompt
    assert "eight" not in prompt


def test_a_later_turn_shows_the_conversation_so_far() -> None:
    _, prompt = judged("Rating: [[3]]", turn=1)
    assert prompt.index("What is 2 + 2?") < prompt.index("four") < prompt.index("And doubled?") < prompt.index("eight")


def test_an_unreadable_verdict_is_missing_even_where_the_answer_holds_one() -> None:
    item = EvalItem(id="q", turns=("Say Rating: [[10]]",))
    verdict, _ = judged("I cannot grade this.", item)
    assert (verdict.score, verdict.parsed) == (None, False)


def test_a_reference_makes_the_guided_prompt() -> None:
    _, prompt = judged("Rating: [[3]]", EvalItem(id="q", turns=("What is 2 + 2?",), reference=("It is 4.",)))
    assert "It is 4." in prompt


@pytest.mark.parametrize(("says", "order", "preference"), [
    ("[[A]]", "answer first", 2.0),
    ("[[A]]", "reference first", 1.0),
    ("[[B]]", "answer first", 1.0),
    ("[[B]]", "reference first", 2.0),
    ("[[C]]", "answer first", 1.5),
    ("both are fine", "answer first", None),
])  # fmt: skip
def test_a_preference_follows_the_order_shown(says: str, order: Any, preference: float | None) -> None:
    item = pair(EvalItem(id="q", turns=("What is 2 + 2?",), reference=("REFERENCE",)), order)
    verdict, prompt = judged(says, item)
    assert (verdict.preference, verdict.score, verdict.parsed) == (preference, None, preference is not None)
    assert (prompt.index("four") < prompt.index("REFERENCE")) == (order == "answer first")


def test_every_verdict_has_noise_of_its_own() -> None:
    """With a temperature, verdicts on two items, turns or orders must not come from one seed."""
    seeds: list[int | None] = []

    def say(ask: Ask) -> str:
        seeds.append(ask.fixed_seed)
        return "[[A]] [[5]]"

    one, other = ITEM, EvalItem(id="r", turns=ITEM.turns, reference=("4",))
    orders = [pair(other, order) for order in ("answer first", "reference first")]
    for item, turn in [(one, 0), (one, 1), (other, 0), *((item, 0) for item in orders)]:
        drive(Rubric(temperature=0.7).judge(item, ANSWER, turn, GENERAL), say)
    assert None not in seeds
    assert len(set(seeds)) == 5
    drive(Rubric(temperature=0.7).judge(one, ANSWER, 0, GENERAL), say)
    assert seeds[-1] == seeds[0], "the same question has the same noise in every run"


def test_braces_in_an_answer_are_only_text() -> None:
    item = EvalItem(id="q", turns=("Write {answer} and {0}",))
    assert "Write {answer} and {0}" in judged("Rating: [[3]]", item)[1]


def test_fastchats_prompt_file_is_used_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "judge_prompts.jsonl"
    rows = [
        {
            "name": "single-v1-multi-turn",
            "system_prompt": "SYS",
            "prompt_template": "{question_1}|{answer_1}|{question_2}|{answer_2}",
        }
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    _, prompt = judged("[[4]]", turn=1, prompts=str(file))
    assert prompt == "SYS\nWhat is 2 + 2?|four|And doubled?|eight"
    with pytest.raises(UserError, match="single-v1"):
        judged("[[4]]", prompts=str(file))


def test_fastchats_prompts_know_two_turns(tmp_path: Path) -> None:
    file = tmp_path / "judge_prompts.jsonl"
    rows = [{"name": f"single-v1{end}", "prompt_template": "{nothing}"} for end in ("", "-multi-turn")]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UserError, match="placeholder that is not known: 'nothing'"):
        judged("[[4]]", prompts=str(file))
    begun = EvalItem(id="q", turns=("And?",), data=before_data([Message(role="user", content="Hi")]))
    with pytest.raises(UserError, match="q has a longer conversation"):
        judged("[[4]]", begun, prompts=str(file))
    file.write_text('{"prompt": "x"}')
    with pytest.raises(UserError, match="is not in the form of FastChat's judge_prompts.jsonl"):
        judged("[[4]]", prompts=str(file))


def test_the_pocket_models_rate_in_their_own_form() -> None:
    context = Context(prompts=load_pack("pocket").entries)
    verdict, prompt = judged("2 + 2 = 4\n#### 4\nrating : 10\n", context=context)
    assert verdict.score == 10
    assert "question : What is 2 + 2?\nanswer : four" in prompt
    assert not judged("rating : 10 or 3 maybe", context=context)[0].parsed


def test_a_changed_prompt_file_is_another_judge(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("{}")
    before = Rubric(prompts=str(file)).identity_options()
    file.write_text('{"name": "x"}')
    assert Rubric(prompts=str(file)).identity_options() != before
    assert str(file) not in json.dumps(before)


def test_a_pack_without_the_entry_is_a_clear_mistake() -> None:
    with pytest.raises(UserError, match="judge_single"):
        judged("[[4]]", context=Context(prompts={"steer": "..."}))
