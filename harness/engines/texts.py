"""Likely next tokens by their texts, which is what all engines can tell and what a judge's parser reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

_WORD_START = "\u2581"
"""How SentencePiece writes the space before a word; decoding one such token alone loses it."""


def by_text(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Text to log-probability, best first. Equal texts are one, their probabilities summed; what is not finite is out.

    Several tokens have one text where they are parts of a character, or where a tokenizer knows a word twice.
    """
    sums: dict[str, float] = {}
    for text, value in pairs:
        if math.isfinite(value):
            sums[text] = value if text not in sums else _log_sum(sums[text], value)
    return dict(sorted(sums.items(), key=lambda entry: -entry[1]))


def _log_sum(a: float, b: float) -> float:
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


class TokenTexts:
    """The texts of a tokenizer's single tokens, as a server would write them: with the space before a word."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def of(self, top: Mapping[int, float]) -> dict[str, float]:
        """Token ids with log-probabilities, by text."""
        return by_text((self._text(index), value) for index, value in top.items())

    def _text(self, index: int) -> str:
        if index not in self._known:
            written = str(self._tokenizer.convert_ids_to_tokens(index))
            text = str(self._tokenizer.decode([index], skip_special_tokens=False, clean_up_tokenization_spaces=False))
            lost = written.startswith(_WORD_START) and not text.startswith(" ")
            self._known[index] = f" {text}" if lost else text
        return self._known[index]
