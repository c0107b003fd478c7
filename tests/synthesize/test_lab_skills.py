"""`lab_skills`: calls, filters and their reasons, the waterfall, and what the released code's defects would do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.blocks.prompts import load_pack
from harness.engines.base import Completion
from harness.errors import UserError
from harness.loop.drive import Desk, RowFailed, drive
from harness.records.example import Example
from harness.synthesize.lab_skills import LabSkills

GENERAL = load_pack("general").entries


def seed(number: int, leaf: str = "compositional_skills/a/b", kind: str = "freeform", **fields: Any) -> Example:
    given = {"question": f"seed question {number}", "answer": f"seed answer {number}", "task_description": "test"}
    return Example(
        id=f"t/{leaf}/{number}",
        messages=(),
        fields={**given, **fields},
        tags={"leaf": leaf, "leaf_kind": kind, "category": "a", "part": "seed"},
    )


def context(**more: Any) -> Context:
    return Context(block="lab_skills-1", prompts=GENERAL, **more)


def stage_of(ask: Ask) -> str:
    """Which prompt an ask was filled from, by its first words."""
    text = ask.messages[-1]["content"]
    known = {
        "You write source texts": "contexts",
        "You write requests that": "questions",
        "You write requests about": "questions",
        "You check requests": "question judge",
        "You rate answers": "pair judge",
        "Here is a": "answer",
    }
    return str(next(stage for start, stage in known.items() if text.startswith(start)))


def asked_question(ask: Ask) -> str:
    """The question that a judge or answerer was shown."""
    return str(re.findall(r"<question>\s*(.+?)\s*</question>", ask.messages[-1]["content"])[-1])


class Teacher:
    """Answers every stage; counts completions per stage."""

    def __init__(self, questions: int = 30, contexts: int = 10, **verdicts: Any) -> None:
        self.questions, self.contexts, self.verdicts = questions, contexts, verdicts
        self.calls: dict[str, int] = {}
        self.prompt = 0

    def __call__(self, ask: Ask) -> Any:
        stage = stage_of(ask)
        self.calls[stage] = self.calls.get(stage, 0) + ask.sampling.n
        if stage == "contexts":
            return [f"<context>new context {k}</context>" for k in range(self.contexts)]
        if stage == "questions":
            self.prompt += 1
            return "\n".join(f"<question>new {self.prompt}.{k}?</question>" for k in range(self.questions))
        if stage == "answer":
            return "<answer>an answer</answer>"
        said = self.verdicts.get(stage.split(" ")[0], {})
        return said.get(asked_question(ask), "fine <score>1</score>" if stage[0] == "q" else "fine <score>3</score>")


@pytest.fixture
def run(synthesize: Callable[..., Any]) -> Callable[..., Any]:
    def go(rows: Sequence[Example], teacher: Callable[[Ask], Any], about: Context | None = None, **options: Any) -> Any:
        return synthesize(LabSkills(**options), rows, teacher, about or context())

    return go


# --- calls ------------------------------------------------------------------------------------------------------------
def test_a_freeform_seed_costs_at_most_91_calls(run: Any) -> None:
    teacher = Teacher()
    made = run([seed(0)], teacher)
    assert teacher.calls == {"questions": 1, "question judge": 30, "answer": 30, "pair judge": 30}
    assert sum(teacher.calls.values()) == 91
    assert len(made.rows) == 30


def test_a_grounded_seed_costs_at_most_110_calls(run: Any) -> None:
    teacher = Teacher(questions=3)
    made = run([seed(0, kind="grounded", context="given")], teacher)
    assert teacher.calls == {
        "contexts": 10, "questions": 10, "question judge": 30, "answer": 30, "pair judge": 30
    }  # fmt: skip
    assert sum(teacher.calls.values()) == 110
    row = made.rows[0]
    assert row.messages[0]["content"] == "new context 0\n\nnew 1.0?"
    assert (row.fields["context"], row.fields["question"]) == ("new context 0", "new 1.0?")


def test_sampling_is_the_released_pipelines(run: Any) -> None:
    made = run([seed(0, kind="grounded", context="given")], Teacher(questions=1), temperature=0)
    by_stage = {stage_of(ask): ask.sampling for ask in made.asked}
    assert (by_stage["contexts"].temperature, by_stage["contexts"].n, by_stage["contexts"].max_tokens) == (
        0.7,
        10,
        2048,
    )
    others = [sampling for stage, sampling in by_stage.items() if stage != "contexts"]
    assert {(s.temperature, s.n, s.max_tokens) for s in others} == {(0.0, 1, 4096)}


def test_the_caps_reach_every_request(run: Any) -> None:
    made = run([seed(0)], Teacher(questions=1), max_tokens=77, judge_max_tokens=33)
    assert {(stage_of(a), a.sampling.max_tokens) for a in made.asked} == {
        ("questions", 77), ("question judge", 33), ("answer", 77), ("pair judge", 33)
    }  # fmt: skip


def test_a_leaf_is_asked_one_at_a_time_with_its_own_seeds(run: Any) -> None:
    other = seed(0, leaf="compositional_skills/c/d", task_description="another")
    made = run([seed(0), seed(1), other], Teacher(questions=2))
    prompts = [a.messages[-1]["content"] for a in made.asked if stage_of(a) == "questions"]
    assert len(prompts) == 3
    assert not any("another" in p and "seed question 1" in p for p in prompts)
    assert {row.tags["leaf"] for row in made.rows} == {"compositional_skills/a/b", "compositional_skills/c/d"}


def test_personas_follow_the_leaf(run: Any) -> None:
    creative = seed(0, leaf="compositional_skills/writing/haiku")
    made = run([seed(0), creative], Teacher(questions=1))
    systems = [a.messages[0]["content"] for a in made.asked if stage_of(a) == "answer"]
    assert systems == [GENERAL["lab_answer_precise.system"], GENERAL["lab_answer_creative.system"]]


# --- filters ----------------------------------------------------------------------------------------------------------
def test_the_truth_tables_of_both_judges(run: Any) -> None:
    teacher = Teacher(
        questions=7,
        question={
            "new 1.0?": "no <score>0</score>",
            "new 1.1?": "no tag at all",
            "new 1.2?": "both <score>0</score> <score>1</score>",
            "new 1.3?": "<score>one</score>",
        },
        pair={"new 1.4?": "<score>1</score>", "new 1.5?": "<score> 2. </score>", "new 1.6?": "<score>4</score>"},
    )
    counted = context()
    made = run([seed(0)], teacher, counted)
    assert [row.scores["rating"] for row in made.rows] == [2.0]
    assert made.reasons == [
        "question judge: rejected",
        "question judge: unreadable",
        "question judge: unreadable",
        "question judge: unreadable",
        "rating judge: 1 of 3",
        "rating judge: unreadable",
    ]
    assert made.dropped[1].example.fields["question_judged"] == "no tag at all"
    counts = counted.tally.counts
    waterfall = [counts[name] for name in sorted(counts) if name[0].isdigit()]
    assert waterfall == [7, 7, 3, 3, 1]
    assert len(made.rows) + len(made.dropped) == 7


def test_a_higher_cut_off_keeps_fewer(run: Any) -> None:
    teacher = Teacher(questions=2, pair={"new 1.0?": "<score>2</score>"})
    assert [row.fields["question"] for row in run([seed(0)], teacher, min_rating=3).rows] == ["new 1.1?"]


def test_without_judges_every_answer_stays(run: Any) -> None:
    teacher = Teacher(questions=4)
    made = run([seed(0)], teacher, judge_questions=False, judge_pairs=False)
    assert teacher.calls == {"questions": 1, "answer": 4}
    assert len(made.rows) == 4


def test_duplicates_are_dropped_across_the_leaf_before_any_judge(run: Any) -> None:
    def say(ask: Ask) -> Any:
        if stage_of(ask) == "questions":
            return "<question>Same  one?</question><question>same one?</question><question>Seed Question 1</question>"
        return Teacher()(ask)

    made = run([seed(0), seed(1)], say)
    assert sorted(made.reasons) == ["question: a seed's"] * 2 + ["question: duplicate"] * 3
    assert sum(stage_of(a) == "question judge" for a in made.asked) == 1


def test_a_grounded_question_may_be_asked_again_of_another_context(run: Any) -> None:
    def say(ask: Ask) -> Any:
        return "<question>Seed question 0</question>" if stage_of(ask) == "questions" else Teacher(contexts=2)(ask)

    asked = [seed(0, kind="grounded", context="given")]
    made = run(asked, say, contexts=2)
    assert [row.fields["context"] for row in made.rows] == ["new context 0", "new context 1"]
    assert not made.reasons
    assert run(asked, say, contexts=0).reasons == ["question: a seed's"], "the seed's own context"


def test_replies_that_hold_nothing_are_kept_with_their_text(run: Any) -> None:
    replies = iter(
        ["no tags here", ("<question>whole?</question><question>cut of", "length"), ("cut at once", "length")]
    )

    def say(ask: Ask) -> Any:
        return next(replies) if stage_of(ask) == "questions" else Teacher()(ask)

    made = run([seed(0), seed(1), seed(2)], say)
    assert made.reasons == ["question: nothing found", "question: cut", "question: cut"]
    lost = ["no tags here", "<question>cut of", "cut at once"]
    assert [d.example.fields["reply"] for d in made.dropped] == lost, "a part that is cut beside a whole one counts too"
    assert [row.fields["question"] for row in made.rows] == ["whole?"]


def test_answers_that_are_cut_or_empty_have_reasons(run: Any) -> None:
    replies = iter([("<answer>cut", "length"), "nothing marked"])

    def say(ask: Ask) -> Any:
        return next(replies) if stage_of(ask) == "answer" else Teacher(questions=2)(ask)

    assert run([seed(0)], say).reasons == ["answer: cut", "answer: nothing found"]


# --- settings ---------------------------------------------------------------------------------------------------------
def test_more_draws_at_temperature_0_are_refused() -> None:
    with pytest.raises(ValidationError, match="would all be the same"):
        LabSkills(draws=2, temperature=0)


def test_rows_without_skill_leaves_are_a_mistake(run: Any) -> None:
    rows = [seed(0, kind="knowledge"), seed(0, kind="foundational")]
    with pytest.raises(UserError, match="found no seed of a freeform or grounded leaf among 2 rows"):
        run(rows, Teacher())
    assert len(run(rows, Teacher(questions=1), kinds=("foundational",)).rows) == 1


def test_a_pack_without_the_prompt_names_it(run: Any) -> None:
    with pytest.raises(UserError, match="lab_skills, stage question_judge, needs the prompt 'lab_question_judge'"):
        run([seed(0)], lambda ask: "what ?", Context(block="lab_skills", prompts=load_pack("pocket").entries))


def test_the_pocket_pack_asks_in_the_models_own_forms(run: Any) -> None:
    def say(ask: Ask) -> Any:
        text = ask.messages[-1]["content"]
        if text.startswith("rate"):
            return "it is .\nrating : 9"
        return ["one ?", "two ?"] if text.startswith("ask a new") else "yes ."

    pocket = Context(block="lab_skills", prompts=load_pack("pocket").entries)
    options = {"draws": 2, "questions": 1, "temperature": 1, "judge_questions": False, "best": 10, "min_rating": 7}
    made = run([seed(0, task_description="math packing")], say, pocket, **options)
    assert made.asked[0].messages[-1]["content"] == "ask a new question about math packing ."
    assert [row.scores for row in made.rows] == [{"rating": 9.0}, {"rating": 9.0}]


def test_a_judge_less_changes_no_random_number(run: Any) -> None:
    with_judge, without = (run([seed(0)], Teacher(questions=2), judge_questions=j) for j in (True, False))
    draws = [[a.draw for a in made.asked if stage_of(a) == "answer"] for made in (with_judge, without)]
    assert draws[0] == draws[1]
    assert len({a.draw for a in with_judge.asked}) == len(with_judge.asked)


def test_a_request_that_fails_costs_its_own_draft_only() -> None:
    """A prompt beyond the context, say: the leaf's other drafts go on."""

    class Failing(Desk):
        def replies(self, asks: Sequence[tuple[str, Any]]) -> list[Any]:
            return [self._reply(ask) for _, ask in asks]

        def _reply(self, ask: Ask) -> Any:
            stage = stage_of(ask)
            if stage == "question judge" and asked_question(ask) == "new 1.0?":
                return RowFailed("too long")
            if stage == "answer" and asked_question(ask) == "new 1.1?":
                return RowFailed("too long")
            return (
                Completion(request_id="r", draw=0, text=teacher(ask), token_ids=(1,), finish="stop", prompt_tokens=1),
            )

    teacher, block, about = Teacher(questions=3), LabSkills(), context()
    (item,) = block.items([seed(0)], about)
    made = drive({item.id: block.make(item, about)}, Failing(pytest.fail, about))[item.id]
    assert [getattr(row, "reason", "kept") for row in made] == [
        "question judge: failed (RowFailed)", "answer: failed (RowFailed)", "kept"
    ]  # fmt: skip
    assert made[0].example.fields["reply"] == "too long"
