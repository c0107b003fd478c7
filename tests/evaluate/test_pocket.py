"""The pocket suite: known truth, disjoint splits, one grade per turn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from suite_driver import answers, drive, grades, said

from harness.blocks.kinds import Answer, Ask, Context
from harness.blocks.prompts import load_pack
from harness.errors import Transient, UserError
from harness.evaluate.pocket import Pocket
from harness.judges.oracle import Oracle
from harness.judges.rubric import Rubric


def test_right_wrong_and_absent_answers() -> None:
    suite = Pocket(count=3)
    items = suite.items("test")
    given = [
        *said(items[:2], [items[0].reference, ("nonsense",)]),
        Answer(item=items[2].id, outputs=(), data={"error": "too long"}),
    ]
    right, wrong, absent = grades(suite, items, given, Oracle())
    assert right.values == {"accuracy": 1.0, "score": 10.0}
    assert (wrong.values["accuracy"], wrong.missing) == (0.0, None)
    assert absent.values == {"accuracy": None, "score": None}
    assert absent.missing == "no answer: too long"
    assert {right.judge, absent.judge} == {"oracle"}


def test_an_empty_text_is_a_bad_answer_not_a_missing_one() -> None:
    suite = Pocket(count=1)
    (grade,) = grades(suite, suite.items("test"), said(suite.items("test"), [("",)]), Oracle())
    assert grade.values == {"accuracy": 0.0, "score": 1.0}


def test_two_turns_give_two_grades_that_share_a_cluster() -> None:
    suite = Pocket(count=8, turns=2)
    items = suite.items("test")
    given = grades(suite, items, said(items, [(i.reference[0], "nonsense") for i in items]), Oracle())
    assert [g.id for g in given[:2]] == [f"{items[0].id}/turn-1", f"{items[0].id}/turn-2"]
    assert {g.cluster for g in given[:2]} == {items[0].id}
    summary = suite.summarise(given)
    assert (summary["accuracy:turn-1"], summary["accuracy:turn-2"]) == (1.0, 0.0)


def test_the_second_turn_sees_the_first_answer_and_noise_is_shared_by_models() -> None:
    item = Pocket(count=1, turns=2).items("test")[0]
    seen: list[Ask] = []

    def say(ask: Ask) -> str:
        seen.append(ask)
        return f"answer {len(seen)}"

    answer = drive(Pocket(count=1, turns=2).answer(item, Context()), say)
    assert [m["content"] for m in seen[1].messages] == [item.turns[0], "answer 1", item.turns[1]]
    assert answer.outputs == ("answer 1", "answer 2")
    assert (answer.prompt_tokens, answer.completion_tokens) == (14, 4)
    first = [ask.fixed_seed for ask in seen]
    drive(Pocket(count=1, turns=2).answer(item, Context(seed=7, iteration=3, block="other")), say)
    assert [ask.fixed_seed for ask in seen[2:]] == first
    assert len(set(first)) == 2


def test_a_turn_that_cannot_be_asked_keeps_the_turns_before_it() -> None:
    suite = Pocket(count=1, turns=2)
    items = suite.items("test")

    def say(ask: Ask) -> Any:
        return (
            Transient("prompt of 900 tokens exceeds the context of 512")
            if len(ask.messages) > 1
            else items[0].reference[0]
        )

    first, second = grades(suite, items, answers(suite, items, say), Oracle())
    assert first.values["accuracy"] == 1.0
    assert second.missing == "no answer: prompt of 900 tokens exceeds the context of 512"


def test_splits_share_no_question_and_a_longer_test_starts_with_the_shorter() -> None:
    suite = Pocket(count=80)
    test, dev = suite.items("test"), suite.items("dev")
    assert not {i.turns for i in test} & {i.turns for i in dev}
    assert suite.items("test") == test == Pocket(count=160).items("test")[:80]
    assert len({i.category for i in test}) == 8


def test_counts_per_category_and_of_dev() -> None:
    suite = Pocket(count={"math": 3, "coding": 2}, dev_count=5)
    assert [i.category for i in suite.items("test")] == ["math"] * 3 + ["coding"] * 2
    assert len(suite.items("dev")) == 5


@pytest.mark.parametrize(("options", "message"), [
    ({"categories": ("maths",)}, "no category 'maths'"),
    ({"count": {"maths": 1}}, "no category 'maths'"),
    ({"count": {"math": 1}, "categories": ("math",)}, "exclude each other"),
    ({"count": 0}, "at least 1"),
])  # fmt: skip
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pocket(**options).items("test")


def test_a_missing_judge_says_what_to_write() -> None:
    suite = Pocket(count=1)
    with pytest.raises(UserError, match="judge: pocket/oracle"):
        grades(suite, suite.items("test"), said(suite.items("test"), [("x",)]), None)


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from harness.evaluate.pocket import Pocket\n"
        "from harness.evaluate.lm_eval import LMEval\n"
        "from harness.evaluate import mt_bench, pairwise\n"
        "s = Pocket(); s.fingerprint('test'); s.metrics(); s.splits()\n"
        "t = LMEval(task='gsm8k', fewshot=0); t.fingerprint('test'); t.metrics(); t.splits()\n"
        "heavy = ('torch', 'transformers', 'pandas', 'lm_eval', 'alpaca_eval', 'datasets', 'scipy')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_repeats_are_the_judges_only() -> None:
    suite = Pocket(count=2, repeats=2)
    items = suite.items("test")
    says = iter(["rating : 4\n", "rating : 6\n", "no", "rating : 2\n"])
    context = Context(prompts=load_pack("pocket").entries)
    given = said(items, [("hm",), ("hm",)])
    first, second = drive(suite.grade(items, given, Rubric(), context), lambda _: next(says))
    assert (first.values, first.repeats) == ({"accuracy": 0.0, "score": 5.0}, {"score": (4.0, 6.0)})
    assert (second.values["score"], second.repeats["score"]) == (2.0, (None, 2.0))
