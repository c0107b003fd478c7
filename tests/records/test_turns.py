"""Token ids of an answer's turn, with and without its end token."""

from __future__ import annotations

import pytest

from harness.config.models import bundled
from harness.records.chat import ChatFormat
from harness.records.example import Message
from harness.records.turns import answer_ids, common

PROMPT = (Message(role="user", content="58 - 5"),)


def test_an_answer_ends_with_its_end_token_unless_it_was_cut() -> None:
    chat = ChatFormat.from_folder(bundled()["pocket/chat"])
    whole, cut = (answer_ids(chat, PROMPT, "53", cut) for cut in (False, True))
    asked = chat.render(PROMPT, add_generation_prompt=True)
    assert common(asked, whole) == common(asked, cut) == len(asked)
    assert cut[len(asked) :] == chat.encode("53")
    assert whole[: len(cut)] == cut
    assert {*whole[len(cut) :]} <= {*chat.stop_ids}
    assert len(whole) > len(cut)


@pytest.mark.parametrize(("one", "other", "count"), [((), (1,), 0), ((1, 2), (1, 2, 3), 2), ((1, 2, 9), (1, 3, 9), 1)])
def test_the_beginning_that_two_share(one: tuple[int, ...], other: tuple[int, ...], count: int) -> None:
    assert common(one, other) == common(other, one) == count
