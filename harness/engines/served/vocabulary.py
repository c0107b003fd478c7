"""Whether a server and a tokenizer's folder mean the same words by a token id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.templates import tokenizer_home
from harness.records.tokenizer import load_tokenizer

TEXT = "The 3 of them said: is 58 - 5 = 53? Déjà vu, 東京, Привет!\n\n\tdef f(x_1): return x_1 + 40.26  # 67 > 19"
"""Words, digits, signs, spaces and several scripts: tokenizers of two models hardly ever agree on all of it."""


@dataclass(frozen=True)
class Words:
    """The tokenizer of a folder: ids of a text without a BOS, and the text of ids without special tokens."""

    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    size: int
    """Ids from 0 on that mean something."""

    @classmethod
    def of(cls, folder: Path) -> Words:
        """Reads the tokenizer without the seconds that transformers takes to import, where there is `tokenizer.json`.

        Raises:
            UserError: no tokenizer in the folder that can be read.
        """
        file = tokenizer_home(folder) / "tokenizer.json"
        if not file.is_file():
            slow: Any = load_tokenizer(folder)
            return cls(
                lambda text: slow(text, add_special_tokens=False)["input_ids"],
                lambda ids: str(slow.decode(list(ids), skip_special_tokens=True)),
                len(slow),
            )
        from tokenizers import Tokenizer

        try:
            fast = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{file} is no readable tokenizer ({error}): copy the folder again.") from error
        fast.no_truncation()
        fast.no_padding()
        return cls(
            lambda text: list(fast.encode(text, add_special_tokens=False).ids),
            lambda ids: str(fast.decode(list(ids))),
            fast.get_vocab_size(),
        )


def difference(folder: Path, read: Any) -> str:
    """What is wrong with the ids that a server read `TEXT` as; empty where they mean that text in the folder too.

    Other ids that mean the same are no difference: a BOS that was not asked for, or another way to cut the text.
    Without ids (a server that does not tell them for texts) nothing can be said, and nothing is.

    Raises:
        UserError: no tokenizer in the folder that can be read.
    """
    if not isinstance(read, list) or not read or not all(isinstance(one, int) for one in read):
        return ""
    words = Words.of(folder)
    ours = list(words.encode(TEXT))
    known = [one for one in read if 0 <= one < words.size]
    if read == ours or (len(known) == len(read) and words.decode(read) == words.decode(ours)):
        return ""
    return (
        f"was sent the text {TEXT!r} and read it as the token ids {_start(read)}; the tokenizer in {folder} gives "
        f"{_start(ours)}, and to it the server's ids mean {words.decode(known)[:60]!r}"
    )


def _start(ids: Sequence[int]) -> str:
    """The first ids, enough to compare."""
    return f"[{', '.join(map(str, ids[:8]))}{', ...' if len(ids) > 8 else ''}] ({len(ids)} ids)"
