"""The world generates, understands and splits its own questions."""

from __future__ import annotations

import json

import pytest

from harness.pocket import model_path
from harness.pocket.oracle import grade
from harness.pocket.tasks.coding import run
from harness.pocket.world import CATEGORIES, Question, Turn, leaves, question, questions, split_of, understand


def test_categories_are_those_of_mt_bench() -> None:
    assert CATEGORIES == (
        "writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities",
    )  # fmt: skip


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("split", ["test", "dev", "train"])
def test_every_turn_is_understood_as_it_was_made(split: str, turns: int) -> None:
    for q in questions(split, 400, turns):
        history: list[Turn] = []
        for t in q.turns:
            assert understand(t.user, history) == t
            history.append(t)


@pytest.mark.parametrize("turns", [1, 2])
def test_every_reference_earns_full_marks(turns: int) -> None:
    for q in questions("dev", 800, turns):
        for t in q.turns:
            assert grade(t.truth, t.reference).score == 10, t


def test_splits_share_no_question_text() -> None:
    texts = {split: {q.turns[0].user for q in questions(split, 1600)} for split in ("test", "dev", "train")}
    assert not texts["test"] & texts["dev"]
    assert not texts["train"] & (texts["test"] | texts["dev"])
    assert all(split_of(text) == split for split, found in texts.items() for text in found)


def test_a_split_has_at_least_two_hundred_items_of_each_family() -> None:
    found = questions("test", 200 * len(CATEGORIES))
    assert len({q.turns[0].user for q in found}) == len({q.id for q in found}) == 200 * len(CATEGORIES)


def test_questions_are_deterministic_round_robin_and_prefix_stable() -> None:
    short, long = questions("dev", 16, 2), questions("dev", 40, 2)
    assert long[:16] == short
    assert [q.category for q in short] == list(CATEGORIES) * 2
    assert short[8].id == "pocket/dev/writing/1"


def test_a_seed_stands_for_one_question() -> None:
    assert question("math", 7) == question("math", 7)
    assert question("math", 7) != question("math", 8)
    assert isinstance(question("stem", "any text", 2), Question)


def test_truth_is_json_and_names_category_and_leaf() -> None:
    for q in questions("train", 80, 2):
        for t in q.turns:
            assert json.loads(json.dumps(t.truth)) == t.truth
            assert t.truth["category"] == q.category
        assert q.turns[0].truth["leaf"] in leaves(q.category)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "which is heavier , gold or gold ?",
        "which is heavier , gold or mira ?",
        "ann has 30 apples and loses 40 . how many apples now ?",
        "ann has 30 apples and finds 4 more . how many pears now ?",
        "ann has 030 apples and finds 4 more . how many apples now ?",
        "what does this print : list ; sort ; print",
        "now double that .",
    ],
)
def test_malformed_or_unsolvable_turns_are_not_understood(text: str) -> None:
    assert understand(text) is None


def test_please_does_not_change_a_question() -> None:
    text = "which is heavier , gold or tin ?"
    assert understand(f"please {text}") == understand(text)


def test_second_turns_follow_only_their_own_first_turn() -> None:
    first = understand("which is heavier , gold or tin ?")
    assert first is not None
    second = understand("and by how much ?", [first])
    assert second is not None
    assert second.reference == "79 - 50 = 29\nanswer : 29"
    assert understand("now double that .", [first]) is None


def test_word_problems_have_the_gsm8k_form() -> None:
    found = understand("ann packs 3 boxes with 4 pens each , finds 5 more and loses 2 . how many pens now ?")
    assert found is not None
    assert found.reference == "3 * 4 = 12\n12 + 5 = 17\n17 - 2 = 15\n#### 15"


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("x = 4 ; x + 3 ; x * 2 ; print x", "14"),
        ("x = 4 ; x - 5 ; print x", None),
        ("list 3 1 2 ; sort ; drop ; print", "2 3"),
        ("list 3 ; drop ; print", None),
        ("list 3 1 ; shuffle ; print", None),
        ("x = 4 ; y + 3 ; print x", None),
        ("print x", None),
    ],
)
def test_interpreter(program: str, printed: str | None) -> None:
    done = run(program)
    assert (None if done is None else done[0]) == printed


def test_model_path_knows_two_names() -> None:
    assert model_path("pocket/base").name == "base"
    with pytest.raises(KeyError):
        model_path("pocket/other")
