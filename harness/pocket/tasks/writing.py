"""Writing: one line that holds given words, ends in a rhyme, or has a given number of words.

Example: "write a line about the cat and the moon that ends with a rhyme for night ."
         "the cat sees the moon by the light ."
"""

from __future__ import annotations

from random import Random
from typing import Any

from harness.pocket.forms import Form, Slots, Solution, Turn
from harness.pocket.words import NOUNS, RHYMES, RHYMING

_TAIL = ("run", "far", "away", "now", "today")
_LENGTHS = tuple("6 7 8 9".split())


def rhymes_with(word: str) -> tuple[str, ...]:
    """All other words that rhyme with `word`."""
    group = next((group for group in RHYMES if word in group), ())
    return tuple(other for other in group if other != word)


def _next_rhyme(word: str) -> str:
    group = next(group for group in RHYMES if word in group)
    return group[(group.index(word) + 1) % len(group)]


def _line(text: str, words: list[str], **more: Any) -> Solution:
    return Solution(text, "line", text, {"words": words, **more})


def _words(slots: Slots, _previous: Turn | None) -> Solution | None:
    a, b, c = slots["a"], slots["b"], slots["c"]
    return _line(f"the {a} and the {b} love the {c} .", [a, b, c])


def _rhyme(slots: Slots, _previous: Turn | None) -> Solution | None:
    a, b = slots["a"], slots["b"]
    return _line(f"the {a} sees the {b} by the {_next_rhyme(slots['word'])} .", [a, b], rhyme=slots["word"])


def _count(slots: Slots, _previous: Turn | None) -> Solution | None:
    a, b, n = slots["a"], slots["b"], int(slots["n"])
    return _line(f"the {a} and the {b} {' '.join(_TAIL[: n - 5])} .", [a, b], count=n)


def _again(slots: Slots, previous: Turn | None) -> Solution | None:
    """The same kind of line about other words; a rhyme or a length that was asked for still holds."""
    new = [slots[name] for name in ("a", "b", "c") if name in slots]
    if previous is None or set(new) & set(previous.truth["words"]):
        return None
    names = dict(zip(previous.truth["words"], new, strict=True))
    text = " ".join(names.get(word, word) for word in previous.reference.split(" "))
    kept = {key: previous.truth[key] for key in ("rhyme", "count") if key in previous.truth}
    return _line(text, new, **kept)


def _end_rhyme(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    text = f"{previous.reference[:-2]} by the {_next_rhyme(slots['word'])} ."
    return _line(text, previous.truth["words"], rhyme=slots["word"])


def _draw_again(rng: Random, previous: Turn) -> Slots:
    words: list[str] = previous.truth["words"]
    return dict(zip("abc", rng.sample([noun for noun in NOUNS if noun not in words], len(words)), strict=False))


_RHYME = "write a line about the {a} and the {b} that ends with a rhyme for {word} ."
_TWO = {"a": NOUNS, "b": NOUNS}
FORMS = (
    Form("words", "lines", "write a line with {a} , {b} and {c} .", {**_TWO, "c": NOUNS}, _words),
    Form("rhyme", "rhymes", _RHYME, {**_TWO, "word": RHYMING}, _rhyme),
    Form("count", "lengths", "write {n} words about the {a} and the {b} .", {"n": _LENGTHS, **_TWO}, _count),
)
FOLLOW_UPS = (
    Form("other_words", "follow", "now make it with {a} , {b} and {c} .", {**_TWO, "c": NOUNS}, _again,
         ("words",), draw=_draw_again),
    Form("other_two", "follow", "now make it about the {a} and the {b} .", _TWO, _again,
         ("rhyme", "count"), draw=_draw_again),
    Form("end_rhyme", "follow", "now end it with a rhyme for {word} .", {"word": RHYMING}, _end_rhyme,
         ("words", "count")),
)  # fmt: skip
