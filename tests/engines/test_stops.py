"""Which tokens can complete a stop string."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.engines.stops import StopTexts


class Words:
    """A tokenizer whose decoder writes the space before a word with the word: single tokens show none."""

    pieces = ("red", "dog", ".", "a\n", "\n")

    def __len__(self) -> int:
        return len(self.pieces)

    def batch_decode(self, ids: list[list[int]], **_: Any) -> list[str]:
        return [" ".join(self.pieces[index] for index in row) for row in ids]


def test_any_token_may_complete_a_stop_string_that_ends_in_a_space() -> None:
    texts = StopTexts(Words(), 6)
    assert texts.may_end(("red ",)).all()
    np.testing.assert_array_equal(texts.may_end(("d",)), [True, True, False, False, False, False])
    np.testing.assert_array_equal(texts.may_end(("a\n",)), [False, False, False, True, True, True])
