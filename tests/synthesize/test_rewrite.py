"""`rewrite`: which rows are asked about, what becomes of the replies, and why an old answer stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.blocks.prompts import load_pack
from harness.errors import UserError
from harness.loop.drive import RowFailed
from harness.records.example import Example, Message
from harness.records.tasks import load_tasks
from harness.synthesize._rewriting import edit_rate
from harness.synthesize.rewrite import Rewrite

OLD = "it has two moons that were found long ago"
NEW = "Analysis first. It has two moons, found long ago. So: two."


def row(name: str = "a", task: str | None = "open_qa", answer: str | None = OLD, **more: Any) -> Example:
    turns = [Message(role="system", content="be brief"), Message(role="user", content="How many moons has Mars?")]
    if answer is not None:
        turns.append(Message(role="assistant", content=answer))
    tags = {"task": task, **more.pop("tags", {})}
    return Example(id=name, messages=tuple(turns), tags=tags, **more)


def context(pack: str = "general", **more: Any) -> Context:
    return Context(block="rewrite-1", prompts=load_pack(pack).entries, **more)


def reply(text: str) -> str:
    return f"Reasoning: it suits.\nRevised response: {text}"


def says(*texts: str) -> Callable[[Ask], Any]:
    return lambda ask: [reply(text) for text in texts]


# --- what a row comes out as
def test_a_rewritten_row_keeps_its_question_and_says_what_was_done(synthesize: Any) -> None:
    here = context()
    parent = row(tags={"defect": "off_format", "category": "stem"}, scores={"ifd": 0.3}, fields={"input": "x"})
    made = synthesize(Rewrite(), [parent], says(NEW, "short one"), here)
    (new,) = made.rows
    assert new.messages == (*parent.prompt, {"role": "assistant", "content": NEW})
    assert (new.group, new.origin.parents, new.origin.model) == ("a", ("a",), "teacher")
    assert new.id != parent.id
    assert new.fields["parent_answer"] == OLD
    assert new.fields["input"] == "x"
    assert new.fields["replies"] == [reply(NEW), reply("short one")]
    assert [(c.text, c.score) for c in new.candidates] == [(NEW, 11.0), ("short one", 2.0)]
    assert new.tags == {"task": "open_qa", "category": "stem", "rewritten": "yes", "rewritten.why": None}
    assert new.scores == {"edit_rate": pytest.approx(edit_rate(OLD, NEW))}
    assert here.tally.counts == {"rewritten": 1, "open_qa: rewritten": 1, "more than 20% of the words changed": 1}


def test_scores_of_the_question_stay_and_those_of_the_old_answer_go(synthesize: Any) -> None:
    parent = row(scores={"task_confidence": 0.8, "evidence": 2.0, "ifd": 0.3})
    (new,) = synthesize(Rewrite(), [parent], says(NEW), context()).rows
    assert new.scores == {"task_confidence": 0.8, "evidence": 2.0, "edit_rate": pytest.approx(edit_rate(OLD, NEW))}


def test_tasks_that_are_left_alone_pass_unchanged_and_cost_nothing(synthesize: Any) -> None:
    """The released code raises KeyError for ten of them when it looks up the format, for the last when it merges."""
    names = [task.name for task in load_tasks("realign") if not task.rewrite]
    rows = [row(f"any/id {name}", name, fields={"k": 1}, scores={"ifd": 0.3}) for name in names]
    here = context()
    made = synthesize(Rewrite(), rows, says(NEW), here)
    assert len(names) == 11
    assert not made.asked
    for before, after in zip(rows, made.rows, strict=True):
        assert (after.id, after.messages, after.fields, after.digest) == (
            before.id, before.messages, before.fields, before.digest,
        )  # fmt: skip
        assert after.tags["rewritten.why"] == "task is left alone"
        assert after.scores == {"ifd": 0.3, "edit_rate": 0.0}
    assert here.tally.counts["kept: task is left alone"] == 11
    assert here.tally.counts["roleplay: kept"] == 1


@pytest.mark.parametrize(
    ("parent", "why"),
    [
        (row(task=None), "no task"),
        (row(task="riddles"), "unknown task"),
        (row(answer=None), "no answer"),
        (row(answer="  "), "no answer"),
    ],
)
def test_rows_that_cannot_be_rewritten_say_why(synthesize: Any, parent: Example, why: str) -> None:
    made = synthesize(Rewrite(), [parent], says(NEW), context())
    assert [r.tags["rewritten.why"] for r in made.rows] == [why]
    assert not made.asked


def test_rows_that_nobody_gave_a_task_are_a_mistake_of_the_recipe(synthesize: Any) -> None:
    turns = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    with pytest.raises(UserError, match="the rows have no tag 'task'.*`score: task` or `score: classify`"):
        synthesize(Rewrite(), [Example(id="a", messages=turns)], says(NEW), context())


def test_a_row_without_a_prompt_is_dropped(synthesize: Any) -> None:
    only = Example(id="a", messages=(Message(role="assistant", content="hi"),))
    assert synthesize(Rewrite(), [only], says(NEW), context()).reasons == ["no prompt"]


def test_without_tasks_every_row_is_rewritten(synthesize: Any) -> None:
    made = synthesize(Rewrite(task=None, how="plain"), [row(task=None)], says(NEW), context())
    assert made.rows[0].answer == NEW


def test_other_tasks_than_the_taxonomy_marks(synthesize: Any) -> None:
    rows = [row("a", "roleplay"), row("b", "open_qa")]
    made = synthesize(Rewrite(tasks=("roleplay",)), rows, says(NEW), context())
    assert [r.tags["rewritten"] for r in made.rows] == ["yes", "no"]


def test_rows_without_a_task_may_be_taken_for_one(synthesize: Any) -> None:
    made = synthesize(Rewrite(assume="math_puzzles"), [row(task=None)], says(NEW), context())
    form = load_tasks("realign").get("math_puzzles").format  # type: ignore[union-attr]
    assert made.rows[0].answer == NEW
    assert form in made.asked[0].messages[-1]["content"]


# --- what is asked
def test_the_prompt_shows_the_tasks_form_and_the_passages_that_were_found(synthesize: Any) -> None:
    found = row(fields={"evidence": ["Phobos is one.", "Deimos is one."]})
    made = synthesize(Rewrite(), [found, row("b")], says(NEW), context())
    system, user = (m["content"] for m in made.asked[0].messages)
    form = load_tasks("realign").get("open_qa").format  # type: ignore[union-attr]
    assert "How many moons has Mars?" in user
    assert OLD in user
    assert form in user
    assert "1. Phobos is one.\n\n2. Deimos is one." in user
    assert "Passages that were looked up" in system
    assert "be brief" not in user
    plain_system, plain_user = (m["content"] for m in made.asked[1].messages)
    assert "Passages that were" not in plain_system
    assert "<passages>" not in plain_user


def test_evidence_can_be_turned_off(synthesize: Any) -> None:
    """The released `--is_retrieval` is a flag that is always on."""
    made = synthesize(Rewrite(evidence=False), [row(fields={"evidence": ["Phobos"]})], says(NEW), context())
    assert "Phobos" not in str(made.asked[0].messages)


def test_forced_rewriting_leaves_the_choice_out(synthesize: Any) -> None:
    """In the released code its prompts are constants that nothing reads."""
    systems = [
        synthesize(Rewrite(adaptive=adaptive), [row()], says(NEW), context()).asked[0].messages[0]["content"]
        for adaptive in (True, False)
    ]
    assert "word for word" in systems[0]
    assert "word for word" not in systems[1]


def test_sampling_is_the_papers(synthesize: Any) -> None:
    sampling = synthesize(Rewrite(), [row()], says(NEW), context()).asked[0].sampling
    assert (sampling.n, sampling.temperature, sampling.top_p, sampling.max_tokens) == (2, 0.3, 0.1, 2048)


def test_the_pocket_pack_asks_first_whether_the_form_is_wrong(synthesize: Any) -> None:
    def say(ask: Ask) -> Any:
        text = ask.messages[-1]["content"]
        if text.startswith("what is wrong"):
            return "problem : wrong form" if "bad" in text else "problem : none"
        return [NEW, NEW]

    rows = [row("a", "stem", "a bad answer about the moons"), row("b", "stem", "a good answer about moons")]
    made = synthesize(Rewrite(taxonomy="pocket"), rows, say, context("pocket"))
    assert [r.answer for r in made.rows] == [NEW, "a good answer about moons"]
    assert [r.tags["rewritten.why"] for r in made.rows] == [None, "nothing to mend"]
    forced = synthesize(Rewrite(taxonomy="pocket", adaptive=False), rows, say, context("pocket"))
    assert [r.answer for r in forced.rows] == [NEW, NEW]
    assert len(forced.asked) == 2, "forced: nothing is asked first"


def test_critique_then_revision(synthesize: Any) -> None:
    def say(ask: Ask) -> Any:
        user = ask.messages[-1]["content"]
        if "<review>" in user:
            return reply(NEW)
        return "No faults." if "fine as it is" in user else "- The moons are not named."

    rows = [row("a"), row("b", answer="fine as it is")]
    made = synthesize(Rewrite(how="critique", n=1), rows, say, context())
    assert [r.tags["rewritten.why"] for r in made.rows] == [None, "nothing to mend"]
    assert "The moons are not named" in made.asked[-1].messages[-1]["content"]


@pytest.mark.parametrize("how", ["plain", "explain", "own", "minimal"])
def test_other_ways_of_rewriting_show_no_form(synthesize: Any, how: Any) -> None:
    made = synthesize(Rewrite(how=how), [row()], says(NEW), context())
    assert made.rows[0].answer == NEW
    assert "<form>" not in str(made.asked[0].messages)


def test_self_copy_asks_nothing(synthesize: Any) -> None:
    made = synthesize(Rewrite(how="copy"), [row()], says(NEW), context())
    assert not made.asked
    assert made.rows[0].messages == row().messages
    assert made.rows[0].tags["rewritten.why"] == "self-copy"
    assert Rewrite(how="copy").roles() == {}
    assert Rewrite(counter="student").roles() == {"model": "teacher", "counter": "student"}


def test_a_pack_without_the_prompt_is_named(synthesize: Any) -> None:
    with pytest.raises(UserError, match="rewrite_own"):
        synthesize(Rewrite(how="own", taxonomy="pocket"), [row(task="stem")], says(NEW), context("pocket"))


# --- what becomes of the replies
def test_the_longest_reply_is_taken_and_the_first_of_equal_ones(synthesize: Any) -> None:
    texts = ["one two three four five six", "one two three four five six seven", "1 2 3 4 5 6 7"]
    made = synthesize(Rewrite(n=3), [row()], says(*texts), context())
    assert made.rows[0].answer == texts[1]
    assert synthesize(Rewrite(n=3, pick="first"), [row()], says(*texts), context()).rows[0].answer == texts[0]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("I would rather not.", "reply not readable"),
        (reply("  "), "empty rewrite"),
        ((reply(NEW), "length"), "cut by the length cap"),
        (reply(OLD), "copied"),
        (reply("two"), "much shorter than the original"),
        (RowFailed("prompt of 900 tokens exceeds the context of 512"), "too long for the rewriter"),
        (RowFailed("filtered by the server"), "refused"),
    ],
)
def test_the_old_answer_stays_and_says_why(synthesize: Any, said: Any, why: str) -> None:
    here = context()
    made = synthesize(Rewrite(n=1), [row()], lambda ask: said, here)
    (kept,) = made.rows
    assert kept.messages == row().messages
    assert kept.id == "a"
    assert kept.tags["rewritten.why"] == why
    assert kept.fields["replies"], "what was said can be read"
    assert here.tally.counts[f"kept: {why}"] == 1


def test_tries_are_bounded(synthesize: Any) -> None:
    """The released code tries for ever, also what can never work."""
    made = synthesize(Rewrite(retries=2), [row()], lambda ask: ["?", "?"], context())
    assert len(made.asked) == 3
    assert len({ask.draw for ask in made.asked}) == 3, "each try has random numbers of its own"
    long = synthesize(Rewrite(retries=2), [row()], lambda ask: RowFailed("exceeds the context"), context())
    assert len(long.asked) == 1, "no other try could help"


def test_a_later_try_may_work(synthesize: Any) -> None:
    made = synthesize(Rewrite(n=1), [row()], lambda ask: "?" if ask.draw == 1 else reply(NEW), context())
    assert made.rows[0].answer == NEW


def test_the_first_label_counts(synthesize: Any) -> None:
    said = reply(f"{NEW} Revised response: leaked")
    (made,) = synthesize(Rewrite(n=1), [row()], lambda ask: said, context()).rows
    assert made.answer == f"{NEW} Revised response: leaked"
    (kept,) = synthesize(Rewrite(n=1, rules="no_robots"), [row()], lambda ask: said, context()).rows
    assert kept.tags["rewritten.why"] == "banned text"


def test_rules_of_ones_own(synthesize: Any) -> None:
    math = row(task="math_puzzles", answer="3 + 4 = 7 and so the answer is 7")
    block = Rewrite.model_validate({"n": 1, "rules": {"preset": "paper", "numbers": "checked", "same_end": "checked"}})
    for new, why in (("A list of 3 and 4 gives 7", None), ("A list of 3 gives 7", "numbers lost")):
        made = synthesize(block, [math], lambda ask, new=new: reply(new), context())
        assert made.rows[0].tags["rewritten.why"] == why
    paper = synthesize(Rewrite(n=1), [math], lambda ask: reply("A list of 3 gives 8 in the end"), context())
    assert paper.rows[0].tags["rewritten"] == "yes", "the paper does not look at numbers"


# --- conversations, shares, released prompts
def test_the_first_answer_of_a_conversation_is_rewritten_as_in_the_released_code(synthesize: Any) -> None:
    turns = [("user", "q1"), ("assistant", OLD), ("user", "q2"), ("assistant", "second answer of the assistant")]
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    talk = Example(id="a", messages=messages, tags={"task": "open_qa"})
    (new,) = synthesize(Rewrite(), [talk], says(NEW), context()).rows
    assert [m["content"] for m in new.messages] == ["q1", NEW, "q2", "second answer of the assistant"]
    assert new.fields["parent_first_answer"] == OLD
    assert "parent_answer" not in new.fields
    made = synthesize(Rewrite(turn="last"), [talk], says(NEW), context())
    assert made.rows[0].messages[-1]["content"] == NEW
    assert made.rows[0].fields["parent_answer"] == "second answer of the assistant"
    assert "q1" in made.asked[0].messages[-1]["content"]


def test_a_share_of_the_rows_is_rewritten_and_smaller_shares_are_part_of_larger_ones(synthesize: Any) -> None:
    rows = [row(str(k)) for k in range(200)]

    def chosen(share: float, seed: int = 0) -> set[str]:
        made = synthesize(Rewrite(share=share, n=1), rows, says(NEW), context(seed=seed))
        assert len(made.rows) == 200
        return {r.origin.parents[0] for r in made.rows if r.tags["rewritten"] == "yes"}

    few, many = chosen(0.2), chosen(0.5)
    assert 20 <= len(few) <= 60
    assert 75 <= len(many) <= 125
    assert few < many
    assert chosen(0.2, seed=1) != few


CONSTANTS = '''
REWRITING_SYSTEM_PROMPT: str = """
choose or copy
"""
NON_ADAPTIVITTY_REWRITING_SYSTEM_PROMPT: str = "always change"
REWRITING_RETRIEVAL_SYSTEM_PROMPT = "choose, with evidence"
NON_ADAPTIVITTY_REWRITING_RETRIEVAL_SYSTEM_PROMPT = "always, with evidence"
REWRITING_USER_PROMPT = "Q {question} R {response} F {structure}"
REWRITING_RETRIEVAL_USER_PROMPT = "Q {question} R {response} F {structure} E {evidence}"
STRUCTURE: dict = {"open_qa": " their form "}
raise SystemExit("never run")
'''


def constants(tmp_path: Path, text: str = CONSTANTS) -> str:
    file = tmp_path / "constant.py"
    file.write_text(text)
    return str(file)


def test_the_released_prompts_are_read_from_their_file_and_never_run(synthesize: Any, tmp_path: Path) -> None:
    path = constants(tmp_path)
    rows = [row(), row("b", fields={"evidence": ["e1", "e2"]}), row("c", "planning")]

    def asked(**options: Any) -> list[tuple[str, ...]]:
        made = synthesize(Rewrite(released=path, n=1, **options), rows, says(NEW), context())
        return [tuple(m["content"] for m in ask.messages) for ask in made.asked]

    question = "Q How many moons has Mars? R " + OLD
    ours = load_tasks("realign").get("planning").format  # type: ignore[union-attr]
    assert asked() == [
        ("choose or copy", f"{question} F their form"),
        ("choose, with evidence", f"{question} F their form E 1. e1\n\n2. e2"),
        ("choose or copy", f"{question} F {ours}"),
    ]
    assert asked(adaptive=False)[0][0] == "always change"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Reasoning: a\nRevised response: b", "b"),
        ("Reasoning: a\nRevised response: b Revised response: c", "b Revised response: c"),
        ("Revised response: b", None),
        ("Revised response: b Reasoning: a Revised response: c", None),
        ("b", None),
    ],
)
def test_replies_to_the_released_prompts_need_both_labels_in_order(
    synthesize: Any, tmp_path: Path, said: str, text: str | None
) -> None:
    block = Rewrite(released=constants(tmp_path), n=1, retries=0, rules="none")
    (made,) = synthesize(block, [row()], lambda ask: said, context()).rows
    assert (made.answer if made.tags["rewritten"] == "yes" else None) == text


def test_another_file_than_the_released_one_is_refused(synthesize: Any, tmp_path: Path) -> None:
    for text, said in (("X = 1", "lacks REWRITING_SYSTEM_PROMPT"), ("x = (", "no Python file")):
        with pytest.raises(UserError, match=said):
            synthesize(Rewrite(released=constants(tmp_path, text)), [row()], says(NEW), context())


def test_the_content_of_files_is_part_of_the_key(tmp_path: Path) -> None:
    plain, pocket = Rewrite().identity_options(), Rewrite(taxonomy="pocket").identity_options()
    assert plain["taxonomy"] != pocket["taxonomy"]
    before = Rewrite(released=constants(tmp_path)).identity_options()["released"]
    after = Rewrite(released=constants(tmp_path, CONSTANTS + "#")).identity_options()["released"]
    assert before != after


@pytest.mark.parametrize(
    "options",
    [
        {"task": None, "tasks": ("open_qa",)},
        {"tasks": ("riddles",)},
        {"assume": "riddles"},
        {"how": "plain", "released": "x.py"},
        {"n": 0},
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rewrite(**options)


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [("a b c d", "a b c d", 0.0), ("a b c d", "a x c d", 0.25), ("a b", "a b c d", 0.5), ("", "a", 1.0), ("", "", 0.0)],
)
def test_the_edit_rate_counts_words_over_the_longer_text(before: str, after: str, rate: float) -> None:
    assert edit_rate(before, after) == rate
