"""Proof, row by row, that the loss falls on what the assistant wrote and on nothing that another role wrote.

The mask comes from the chat template, by markers or by position; a template with a misplaced marker gives a mask that
trains users' words and looks healthy in every curve. So the mask is not believed: the text of the tokens that it
leaves out must hold every word of the other roles, and the text of those that it trains every word of the assistant.
Texts are compared without white space, and, where that fails, after a turn through the tokenizer, since some tokenizers
normalise what they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records.example import Example, Message

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


def mask_problem(row: Example, ids: Sequence[int], mask: Sequence[int], chat: ChatFormat) -> str | None:
    """What is wrong with the mask of a whole (not yet cut) row, or None."""
    trained = _squashed(chat.decode([i for i, m in zip(ids, mask, strict=True) if m]))
    rest = _squashed(chat.decode([i for i, m in zip(ids, mask, strict=True) if not m]))
    for message in row.messages:
        ours = message["role"] == "assistant"
        if not _contains(trained if ours else rest, message, chat):
            role = message["role"]
            return f"leaves out words of the {role}" if ours else f"trains words of the {role}"
    return None


def _contains(text: str, message: Message, chat: ChatFormat) -> bool:
    content = message["content"]
    return _squashed(content) in text or _squashed(chat.decode(chat.encode(content))) in text


def _squashed(text: str) -> str:
    return "".join(text.split())
