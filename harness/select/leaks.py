"""Contamination: which training rows hold items of the suites that the model will be measured by.

Two signs, each with its own blind spot. A run of `words` words that a row shares with an item's question or reference
answer (13 words as in GPT-3, arXiv 2005.14165 appendix C; Llama 2 and 3 use runs of 10 and 8 tokens, arXiv 2307.09288
A.6 and 2407.21783 section 5.1.4); a question that is shorter than a run counts as a whole. And a user turn that is a
near duplicate of a question, found by MinHash and verified exactly. A paraphrase in other words shows neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from harness.blocks.kinds import EvalItem
from harness.config.leaks import Leaks
from harness.records.example import Example
from harness.records.hits import Hit
from harness.select._near import PERMUTATIONS, SEED, bands, jaccard, shingle
from harness.select._overlap import Overlap, Target, words_of

VERSION = 1
"""Raised when the same rows, items and options would give other hits."""
BATCH = 4096
QUESTION, WHOLE, REFERENCE, NEAR = "question", "whole question", "reference answer", "near duplicate"
"""Signs: a run of words of the question, all of a short question, a run of the reference answer, a near duplicate."""
_LABEL = re.compile(r"\A\s*(?:question|q)\s*:|\b(?:answer|a)\s*:\s*\Z", re.IGNORECASE)
"""What prompts put around a question (`Question: ... Answer:`): no part of it."""


class SuiteLike(Protocol):
    """What is read of a suite; every block of kind suite is one."""

    def splits(self) -> tuple[str, ...]: ...
    def items(self, split: str) -> list[EvalItem]: ...


@dataclass(frozen=True)
class Passage:
    """One text of an item: a turn of its question, or a reference answer."""

    suite: str
    split: str
    item: str
    turn: int
    reference: bool
    text: str


def passages(suites: Mapping[str, SuiteLike]) -> list[Passage]:
    """Every question turn and reference answer of every item of every split of the suites (by name)."""
    found: list[Passage] = []
    for name, suite in suites.items():
        for split in suite.splits():
            for item in suite.items(split):
                for is_answer, texts in ((False, item.turns), (True, item.reference)):
                    found += [Passage(name, split, item.id, n, is_answer, text) for n, text in enumerate(texts)]
    return found


class Checker:
    """Looks for passages in rows. Built once per set of suites; memory is the index of the passages."""

    def __init__(self, given: Sequence[Passage], options: Leaks) -> None:
        self._passages, self._options = given, options
        targets = [t for number, passage in enumerate(given) if (t := _target(number, passage, options)) is not None]
        self._short = {t.number for t in targets if t.run == len(t.words)}
        self._overlap = Overlap(targets)
        asked = [t.number for t in targets if not given[t.number].reference]
        self._near = _Near([(n, given[n].text) for n in asked], options.near, options.shingle) if options.near else None

    def check(self, rows: Iterable[Example]) -> Iterator[Hit]:
        """The hits in the order of the rows, one per row and item: the sign that covers most of the item."""
        stream = iter(rows)
        while batch := list(islice(stream, BATCH)):
            best: dict[tuple[int, str, str, str], Hit] = {}
            for index, hit in (*self._shared(batch), *self._alike(batch)):
                place = (index, hit.suite, hit.split, hit.item)
                if place not in best or hit.share > best[place].share:
                    best[place] = hit
            for place in sorted(best):
                yield best[place]

    def _shared(self, batch: Sequence[Example]) -> Iterator[tuple[int, Hit]]:
        texts = [(index, text) for index, row in enumerate(batch) for text in _texts(row)]
        for found in self._overlap.search([words_of(text) for _, text in texts]):
            index, passage = texts[found.text][0], self._passages[found.target]
            if found.share >= self._options.share:
                sign = REFERENCE if passage.reference else WHOLE if found.target in self._short else QUESTION
                yield index, _hit(batch[index], passage, sign, found.share, found.first)

    def _alike(self, batch: Sequence[Example]) -> Iterator[tuple[int, Hit]]:
        if self._near is None:
            return
        asked = [(i, m["content"]) for i, row in enumerate(batch) for m in row.messages if m["role"] == "user"]
        for place, number, similarity in self._near.search([text for _, text in asked]):
            index, text = asked[place]
            yield index, _hit(batch[index], self._passages[number], NEAR, similarity, " ".join(text.split())[:200])


def _hit(row: Example, passage: Passage, sign: str, share: float, text: str) -> Hit:
    return Hit(row.id, passage.suite, passage.split, passage.item, sign, round(share, 4), text)


def _texts(row: Example) -> Iterator[str]:
    """All that a row could train: every turn, and a pair's rejected answer."""
    yield from (message["content"] for message in row.messages)
    if row.rejected is not None:
        yield row.rejected


def _target(number: int, passage: Passage, options: Leaks) -> Target | None:
    """How a passage is looked for; None where it says too little to be evidence.

    Too little: a reference answer shorter than a run of words, and a later turn of less than `shortest` words ("Why?").
    """
    text = passage.text if passage.reference else _LABEL.sub(" ", passage.text)
    words = tuple(words_of(text))
    if len(words) >= options.words:
        return Target(number, words, options.words)
    short = len(words) < options.shortest
    if not words or passage.reference or (short and passage.turn):
        return None
    return Target(number, words, len(words), alone=short)


class _Near:
    """Near duplicates of few texts among many: the few are indexed, the many ask."""

    def __init__(self, texts: Sequence[tuple[int, str]], threshold: float, words: int) -> None:
        from rensa import RMinHash, RMinHashLSH

        self._threshold, self._words = threshold, words
        self._numbers = [number for number, _ in texts]
        shingles = [shingle(_LABEL.sub(" ", text), words) for _, text in texts]
        self._sets = [frozenset(one) for one in shingles]
        self._index: Any = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
        if shingles:
            self._index.insert_matrix(RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, SEED), 0)

    def search(self, texts: Sequence[str]) -> Iterator[tuple[int, int, float]]:
        """(place of a text, number of what it resembles, exact similarity)."""
        from rensa import RMinHash

        shingles = [shingle(text, self._words) for text in texts]
        sketches = RMinHash.from_token_sets(shingles, PERMUTATIONS, SEED)
        for place, candidates in enumerate(self._index.query_all(sketches)):
            for number in sorted(candidates):
                similarity = jaccard(frozenset(shingles[place]), self._sets[number])
                if similarity >= self._threshold:
                    yield place, self._numbers[number], similarity
