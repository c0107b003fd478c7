"""`dedup`: of rows that are the same, or nearly, the earliest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Context, PartSelector
from harness.records.values import Count
from harness.select._twins import Twins

if TYPE_CHECKING:
    import pandas as pd


class Dedup(PartSelector):
    """Drops exact and, if asked for, near duplicates. Reasons: `duplicate`, `near duplicate`.

    Exact: the same text, white space and case aside (`prompt`), or the same conversation to the character
    (`conversation`: rows that would train the same). Near: Jaccard similarity of runs of words (of characters, in a
    text that has hardly any words between spaces), candidates by MinHash and each verified exactly, so nothing below
    the threshold is ever dropped; a pair at the threshold is found with probability 0.99 or more. Answers to one prompt
    (`respond` with n > 1) are duplicates by `prompt`.
    """

    name: ClassVar[str] = "dedup"

    on: Literal["prompt", "conversation"] = identity("prompt", description="The text that is compared.")
    near: float | None = identity(
        None,
        gt=0,
        le=1,
        description="Similarity from which on rows are near duplicates, such as 0.8; by default exact only.",
    )
    shingle: Count = identity(
        3, description="Length of the word runs that near duplicates are compared by.", unit="words"
    )

    def needs(self) -> tuple[str, ...]:
        """Texts only where they are compared for nearness; prompts that must be the same are compared by key."""
        if self.on == "prompt":
            return ("prompt_key", "prompt") if self.near else ("prompt_key",)
        return ("digest", "prompt", "answer") if self.near else ("digest",)

    def decide(self, parts: Iterable[pd.DataFrame], context: Context) -> list[str | None]:
        """Exact duplicates first; near ones among what is left."""
        with tempfile.TemporaryDirectory(prefix="near-", dir=context.scratch) as folder:
            twins = Twins(Path(folder), self.near, self.shingle) if self.near else None
            same = self._same(parts, twins)
            if twins is None:
                return ["duplicate" if one else None for one in same]
            near = twins.earlier()
            return ["duplicate" if one else None if next(near) is None else "near duplicate" for one in same]

    def _same(self, parts: Iterable[pd.DataFrame], twins: Twins | None) -> bytearray:
        """Per row, 1 where an earlier one is the same; the texts of the others are added to the twins."""
        seen, same = set[bytes](), bytearray()
        for part in parts:
            fresh = list[int]()
            for place, key in enumerate(self._keys(part)):
                if key not in seen:
                    seen.add(key)
                    fresh.append(place)
            found = bytearray(b"\1") * len(part)
            for place in fresh:
                found[place] = 0
            same += found
            if twins is not None:
                twins.add(self._texts(part.iloc[fresh]))
        return same

    def _keys(self, table: pd.DataFrame) -> Iterable[bytes]:
        if self.on == "prompt":
            return list(table["prompt_key"])
        return (blake2b(digest.encode(), digest_size=16).digest() for digest in table["digest"])

    def _texts(self, table: pd.DataFrame) -> list[str]:
        if self.on == "prompt":
            return list(table["prompt"])
        return [f"{prompt}\n{answer or ''}" for prompt, answer in zip(table["prompt"], table["answer"], strict=True)]
