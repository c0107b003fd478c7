"""`reward` and `reward_difference`: what is valued, and what is missing and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.blocks.kinds import Ask, Context, Reward
from harness.blocks.prompts import load_pack
from harness.errors import UserError
from harness.select.reward import RewardScore
from harness.select.reward_difference import RewardDifference

URIAL = {"urial": "# Query\n{question}\n\n# Answer\n"}


def noting(asked: list[Any], say: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Answers like `say`, and keeps what was asked."""

    def said(request: Any) -> Any:
        asked.append(request)
        return say(request)

    return said


def valued(request: Any) -> Any:
    """A reward model that likes long answers, and a base model that repeats the question."""
    if isinstance(request, Ask):
        return request.messages[-1]["content"]
    return float(len(request.messages[-1]["content"]))


def test_the_reward_of_the_whole_conversation(score: Any, example: Any) -> None:
    asked: list[Any] = []
    rows = [example("a", "why?", "because"), example("b", "why?", None), example("c", "why?", "")]
    context = Context(block="reward")
    got = score(RewardScore(), rows, noting(asked, valued), context)
    assert got == {"reward": [7.0, None, None], "tag:reward.problem": [None, "no answer", "no answer"]}
    assert asked == [Reward(model="reward", messages=rows[0].messages)]
    assert context.tally.counts == {"reward: missing": 2}


def test_a_conversation_that_is_too_long_says_so(score: Any, example: Any) -> None:
    refused = RuntimeError("prompt of 9000 tokens exceeds the context of 4096")
    got = score(RewardScore(column="armo"), [example("a", "why?", "so")], lambda r: refused)
    assert got["armo"] == [None]
    assert got["tag:armo.problem"] == ["refused: prompt of 9000 tokens exceeds the context of 4096"]


def test_the_difference_to_the_base_models_answer(score: Any, example: Any) -> None:
    rows = [example("a", "why?", "because"), example("b", "what is that?", "x"), example("c", "hm", None)]
    got = score(RewardDifference(), rows, valued, Context(prompts=URIAL))
    assert got["reward"] == [7.0, 1.0, None]
    assert got["reward_base"] == [4.0, 13.0, 2.0]
    assert got["reward_difference"] == [3.0, -12.0, None]
    assert got["tag:reward_difference.problem"] == [None, None, "no answer"]
    assert got["field:base_answer"] == ["why?", "what is that?", "hm"]


def test_the_base_model_sees_examples_and_plain_text_only(score: Any, example: Any) -> None:
    asked: list[Any] = []
    block = RewardDifference()
    score(block, [example("a", "why {x}?", "so")], noting(asked, valued), Context(prompts=URIAL))
    (ask, *_) = asked
    assert (ask.model, ask.text) == ("student", "# Query\nwhy {x}?\n\n# Answer\n")
    assert (ask.sampling.stop, ask.sampling.ends, ask.sampling.temperature) == (("\n# ",), "text", 0.0)
    assert block.asks() == {"base": frozenset({"continue"}), "model": frozenset({"reward"})}


@pytest.mark.parametrize(("said", "why"), [("  \n", "empty answer"), (RuntimeError("too long"), "refused: too long")])
def test_without_the_base_models_answer_there_is_no_difference(score: Any, example: Any, said: Any, why: str) -> None:
    got = score(
        RewardDifference(),
        [example("a", "why?", "because")],
        lambda r: said if isinstance(r, Ask) else 7.0,
        Context(prompts=URIAL),
    )
    assert (got["reward"], got["reward_base"], got["reward_difference"]) == ([7.0], [None], [None])
    assert got["tag:reward.problem"] == [None]
    assert got["tag:reward_base.problem"] == [why]
    assert got["tag:reward_difference.problem"] == [f"of the base model: {why}"]


def test_both_causes_of_a_missing_difference_are_kept(score: Any, example: Any) -> None:
    refused = RuntimeError("longer than the context")
    context = Context(prompts=URIAL)
    got = score(
        RewardDifference(), [example("a", "why?", "so")], lambda r: "it is" if isinstance(r, Ask) else refused, context
    )
    why = "refused: longer than the context"
    assert got["tag:reward_difference.problem"] == [f"{why}; of the base model: {why}"]
    names = ("reward", "reward_base", "reward_difference")
    assert context.tally.counts == {f"{name}: missing": 1 for name in names}


def test_the_general_pack_has_the_prompt_and_others_say_what_is_missing(score: Any, example: Any) -> None:
    asked: list[Any] = []
    context = Context(prompts=load_pack("general").entries)
    score(RewardDifference(), [example("a", "why?", "so")], noting(asked, valued), context)
    assert asked[0].text.rstrip().endswith("# Query\nwhy?\n\n# Answer")
    with pytest.raises(UserError, match="reward_difference with `prompt: urial` needs the prompt 'urial'"):
        score(RewardDifference(), [example("a", "why?", "so")], valued, Context(prompts={}))
