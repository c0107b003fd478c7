"""A chat format in which every character is a token, for tests that need no tokenizer."""

from __future__ import annotations

from typing import Any


class Chat:
    stop_ids = (7, 9)
    user_stops: tuple[str, ...] = ()
    bos: int | None = 2
    template_hash = "hash"

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(ord(c) for c in text)

    def literal(self, text: str) -> tuple[int, ...]:
        return (2, *self.encode(text))

    def pre_query(self, system: str | None = None, before: Any = ()) -> tuple[int, ...]:
        return (2, *self.encode("|".join([system or "", *(m["content"] for m in before), "user:"])))
