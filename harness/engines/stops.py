"""When a continuation ends: stop ids for all rows at once, stop strings only where a token can complete one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class StopTexts:
    """Finds stop strings in what a row has written, decoding as seldom as possible.

    A string can only be completed by a token that carries its last character. Which tokens do is looked up in a table
    of the vocabulary, made once per stop string; only then is the row's text decoded and searched.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        """`size` is the number of logits, which may exceed the tokenizer's vocabulary."""
        self._tokenizer = tokenizer
        self._size = size
        self._pieces: list[str] = []
        self._tables: dict[tuple[str, ...], np.ndarray] = {}

    def may_end(self, stops: tuple[str, ...]) -> np.ndarray:
        """Bool (V,): tokens that could complete one of these strings."""
        if stops not in self._tables:
            last = {stop[-1] for stop in stops if stop}
            blank = any(char.isspace() for char in last)
            # Some decoders write a space with the word that follows it, which alone shows none: any token may do it.
            spaced = " " in last
            table = [spaced or bool(last & set(p)) or "\ufffd" in p or (blank and not p.strip()) for p in self._texts()]
            self._tables[stops] = np.asarray(table, dtype=bool)
        return self._tables[stops]

    def cut(self, text: str, stops: Sequence[str]) -> str | None:
        """The text before the earliest stop string, None where there is none in it."""
        found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
        return text[: min(found)] if found else None

    def _texts(self) -> list[str]:
        if not self._pieces:
            known = min(len(self._tokenizer), self._size)
            ids = [[index] for index in range(known)]
            self._pieces = self._tokenizer.batch_decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            self._pieces += [""] * (self._size - known)
        return self._pieces


def stop_table(sets: Sequence[frozenset[int]], size: int) -> tuple[np.ndarray, list[int]]:
    """Distinct stop sets as a bool table (sets, V), and per given set its row in it."""
    numbers = {ids: row for row, ids in enumerate(dict.fromkeys(sets))}
    table = np.zeros((len(numbers), size), dtype=bool)
    for ids, row in numbers.items():
        table[row, [index for index in ids if 0 <= index < size]] = True
    return table, [numbers[ids] for ids in sets]
