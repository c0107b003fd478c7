"""The contamination check: planted leaks are found, unlike rows are not, and every rule has a row that shows it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from harness.blocks.kinds import EvalItem
from harness.config.leaks import Leaks
from harness.evaluate.pocket import Pocket
from harness.pocket.pool import rows as pool
from harness.records.example import Example
from harness.records.hits import Hit
from harness.select.leaks import NEAR, QUESTION, REFERENCE, WHOLE, Checker, Passage, passages

LONG = (
    "A farmer sells forty two melons on the first market day of spring and half as many on each of the following three "
    "days. How many melons does he sell in all?"
)
ANSWER = (
    "On the first day he sells 42 melons, on each later day he sells 21, so over the three later days he sells 63, and "
    "in all that makes 105 melons."
)
SHORT = "Which planet has the most moons?"


class Given:
    """A suite of given items."""

    def __init__(self, *items: EvalItem) -> None:
        self._items = list(items)

    def splits(self) -> tuple[str, ...]:
        return ("dev", "test")

    def items(self, split: str) -> list[EvalItem]:
        return self._items if split == "test" else []


def item(name: str, *turns: str, reference: tuple[str, ...] = ()) -> EvalItem:
    return EvalItem(id=name, turns=turns, reference=reference)


def row(user: str, assistant: str = "Certainly.", name: str = "r", rejected: str | None = None) -> Example:
    messages = ({"role": "user", "content": user}, {"role": "assistant", "content": assistant})
    return Example(id=name, messages=messages, rejected=rejected)  # type: ignore[arg-type]


def hits(items: Sequence[EvalItem], rows: Sequence[Example], options: Leaks | None = None) -> list[Hit]:
    return list(Checker(passages({"s": Given(*items)}), options or Leaks()).check(rows))


SUITE = [
    item("long", LONG, reference=(ANSWER,)),
    item("short", SHORT),
    item("tiny", "Why?"),
    item("two", LONG, "Why so?"),
]


@pytest.mark.parametrize(
    ("example", "sign", "found"),
    [
        (row(f"Solve this, please!  {LONG.upper()}"), QUESTION, {"long", "two"}),
        (row(LONG), QUESTION, {"long", "two"}),
        (row("Make up a problem.", f"Here is one: {LONG}"), QUESTION, {"long", "two"}),
        (row("Make up a problem.", rejected=LONG), QUESTION, {"long", "two"}),
        (row(LONG.replace("melons", "pears")), QUESTION, {"long", "two"}),
        (row("How is it done?", ANSWER), REFERENCE, {"long"}),
        (row(f"Tell me:\n{SHORT.lower()} I forgot."), WHOLE, {"short"}),
        (row("Which planet has the fewest moons?"), None, set()),
        (row("Why?"), WHOLE, {"tiny"}),
        (row("Tell me why? I wonder."), None, set()),
        (row("Why so?"), None, set()),
    ],
)
def test_each_rule(example: Example, sign: str | None, found: set[str]) -> None:
    got = hits(SUITE, [example], Leaks(near=None))
    assert {hit.item for hit in got} == found
    assert {hit.sign for hit in got} == ({sign} if sign else set())


def test_a_near_duplicate_of_a_short_question_is_found_and_measured() -> None:
    question = "Name ten large cities on the northern coast of Africa please"
    (hit,) = hits([item("q", question)], [row(f"{question} now")])
    assert (hit.sign, hit.share) == (WHOLE, 1.0), "the stronger of two signs is told"
    changed = "Name eleven large cities on the northern coast of Africa please"
    assert [h.sign for h in hits([item("q", question)], [row(changed)], Leaks(near=0.6))] == [NEAR]
    assert hits([item("q", question)], [row(changed)], Leaks(near=0.9)) == []


def test_a_shared_line_is_no_leak_unless_a_single_run_is_to_count() -> None:
    quote = "shall i compare thee to a summers day thou art more lovely and more temperate"
    poem = item("poem", " ".join(f"word{k}" for k in range(80)) + f" {quote}")
    example = row(f"Continue: {quote}")
    assert hits([poem], [example]) == []
    (hit,) = hits([poem], [example], Leaks(share=0))
    assert hit.share == pytest.approx(15 / 95, abs=1e-4)


def test_labels_that_prompts_put_around_a_question_do_not_hide_it() -> None:
    asked = item("arc", "Question: What gives leaves their green colour in spring?\nAnswer:")
    assert [h.item for h in hits([asked], [row("What gives leaves their green colour in spring?")])] == ["arc"]


def test_scripts_without_spaces_are_compared_letter_by_letter() -> None:
    question = "请问中国的首都是哪个城市并且它有多少人口呢"
    assert [h.item for h in hits([item("zh", question)], [row(f"你好。{question}谢谢")])] == ["zh"]
    assert hits([item("zh", question)], [row("请问法国的首都在哪里")]) == []


def test_rows_of_several_batches_keep_their_order_and_an_item_is_told_once_per_row() -> None:
    rows = [row(f"{LONG} {LONG}" if k % 1000 == 0 else f"filler {k}", name=str(k)) for k in range(9000)]
    got = hits([SUITE[0]], rows)
    assert [hit.row for hit in got] == [str(k) for k in range(0, 9000, 1000)]


def test_no_items_and_no_rows() -> None:
    assert hits([], [row(LONG)]) == []
    assert hits(SUITE, []) == []
    assert hits([item("empty", "", "?!")], [row(""), row("?!")]) == []


# --- planted leaks ----------------------------------------------------------------------------------------------------
DEFECTS = dict.fromkeys(("wrong", "swapped", "truncated", "duplicate", "near_duplicate", "off_format", "leaked"), 0.05)


@pytest.fixture(scope="module")
def planted() -> tuple[list[Example], set[str], list[Passage]]:
    raw = list(pool(1600, 0, DEFECTS))
    rows = [Example(id=r["id"], messages=tuple(r["messages"])) for r in raw]
    return rows, {r["id"] for r in raw if r["tags"]["defect"] == "leaked"}, passages({"pocket": Pocket()})


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (Leaks(), 0.5),  # a closed vocabulary: rows from a question's own template differ from it by a word or two
        (Leaks(near=None), 0.6),
        (Leaks(words=50, near=None), 1.0),  # whole questions only
    ],
)
def test_planted_leaks(
    planted: tuple[list[Example], set[str], list[Passage]], options: Leaks, precision: float
) -> None:
    rows, leaked, items = planted
    found = list(Checker(items, options).check(rows))
    flagged = {hit.row for hit in found}
    assert leaked <= flagged, "recall is 1"
    assert len(leaked) > 60
    assert len(leaked) / len(flagged) >= precision


def test_planted_leaks_name_the_item_that_leaked(planted: tuple[list[Example], set[str], list[Passage]]) -> None:
    rows, leaked, items = planted
    asked = {p.item: p.text for p in items if not p.reference}
    texts = {r.id: r.messages[0]["content"] for r in rows}
    exact = {(h.row, h.item) for h in Checker(items, Leaks()).check(rows) if asked[h.item] == texts[h.row]}
    assert {name for name, _ in exact} == leaked


def test_random_texts_share_nothing_and_the_check_is_not_quadratic() -> None:
    rng = random.Random(1)
    words = [f"w{k}" for k in range(3000)]
    items = [item(str(k), " ".join(rng.choices(words, k=40))) for k in range(2000)]
    rows = [row(" ".join(rng.choices(words, k=60)), name=str(k)) for k in range(10000)]
    checker = Checker(passages({"s": Given(*items)}), Leaks())
    start = time.process_time()
    assert list(checker.check(rows)) == []
    assert time.process_time() - start < 10, "2,000 x 10,000 texts; two seconds on one core"
