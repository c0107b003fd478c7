"""What a user turn could have said, and the loss that learns it."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import TYPE_CHECKING

import pytest

from harness.pocket.forms import Form
from harness.pocket.targets import END, closed, spreads
from harness.pocket.tokens import build
from harness.pocket.world import CATEGORIES, draw, first_forms, understand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build()


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_open_place_holds_the_word_that_was_drawn_and_sums_to_one(
    category: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    rng = Random(1)
    for _ in range(60):
        for turn in draw(rng, category, 2):
            tokens = [*tokenizer(turn.user, add_special_tokens=False).tokens(), END]
            found = spreads(turn)
            assert len(found) == len(closed(turn)) == len(tokens), turn.user
            for token, spread in zip(tokens, found, strict=True):
                assert not spread or (token in spread and sum(spread.values()) == pytest.approx(1)), turn.user


def test_a_name_that_stands_already_cannot_stand_again() -> None:
    turn = understand("you are a pirate . greet ann and bob .")
    assert turn is not None
    found = spreads(turn)
    assert found[3]["▁robot"] == pytest.approx(1 / 8)
    assert found[6]["▁ann"] == pytest.approx(1 / 16)
    assert "▁ann" not in found[8]
    assert found[8]["▁bob"] == pytest.approx(1 / 15)
    assert [bool(spread) for spread in found] == [k in (3, 6, 8) for k in range(11)]


def test_a_number_may_be_longer_than_the_one_drawn(tokenizer: PreTrainedTokenizerFast) -> None:
    turn = understand("ann has 40 pens and finds 2 more . how many pens now ?")
    assert turn is not None
    found = dict(zip(tokenizer(turn.user, add_special_tokens=False).tokens(), spreads(turn), strict=False))
    assert found["▁more"]["▁more"] == pytest.approx(1 / 11)  # 2, or 20 to 29
    assert found["▁more"]["5"] == pytest.approx(1 / 11)


@pytest.mark.parametrize("text", ["please greet", "ann has 40 pens and bob has 5 more . how many pens together ?"])
def test_places_where_wordings_part_are_not_closed(text: str) -> None:
    text = "please you are a pirate . greet ann and bob ." if text == "please greet" else text
    turn = understand(text)
    assert turn is not None
    words = text.split(" ")
    sure = closed(turn)
    assert not sure[0]
    assert sure[words.index("bob")] is (words[0] == "please")


def _can_stand(form: Form, places: list[str], k: int) -> set[str]:
    if k >= len(places):
        return {END}
    table = form.slots[places[k][1:-1]] if places[k].startswith("{") else (places[k],)
    return {"#"} if isinstance(table, range) or table[0].isdigit() else set(table)


def test_no_wording_says_at_a_closed_place_what_another_says_there() -> None:
    rng = Random(0)
    forms = first_forms()
    shut = {}
    for form in forms:
        turn = understand(form.sample(rng))
        assert turn is not None
        words = turn.user.split(" ")
        sure = closed(turn)
        starts = [sum(len(w) if w.isdigit() else 1 for w in words[:k]) for k in range(len(words))]
        shut[id(form)] = {k for k, at in enumerate(starts) if sure[at] and spreads(turn)[at]}
    for form, other in permutations(forms, 2):
        mine, theirs = form.template.split(" "), other.template.split(" ")
        for k in range(len(mine)):
            here, there = _can_stand(form, mine, k), _can_stand(other, theirs, k)
            assert k not in shut[id(form)] or there <= here, (form.template, other.template)
            if not here & there:
                break
