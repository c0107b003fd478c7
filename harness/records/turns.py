"""Token ids of an assistant's turn, as preference training and its reward both read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records.example import Message

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


def answer_ids(chat: ChatFormat, prompt: Sequence[Message], answer: str, cut: bool) -> tuple[int, ...]:
    """Ids of a conversation up to the end token of the answer's turn; one that was cut ends with its last own token.

    Raises:
        UserError: the template refuses the conversation, or its turns cannot be told apart.
    """
    ids, mask = chat.mask((*prompt, Message(role="assistant", content=answer)))
    end = max((at for at, flag in enumerate(mask) if flag), default=-1) + 1
    while cut and end and ids[end - 1] in chat.stop_ids:
        end -= 1
    return ids[:end]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading ids that two sequences share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
