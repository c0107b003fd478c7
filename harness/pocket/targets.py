"""What a user turn could have said: the whole distribution that each of its words was drawn from.

What users ask is random by design. Trained on one draw at a time, the gradient of a user turn is mostly noise, and a
small model keeps some probability on words that no question may have there (one name twice). The forms know every word
that a slot could have held, so that distribution can be the target instead of the one word that was drawn.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from harness.pocket.forms import Table, Turn
from harness.pocket.world import first_forms, form_of

END = "<|end|>"
Spread = dict[str, float]
"""Token -> probability; empty where the text is fixed, or where what else it could be is not known."""


def spreads(turn: Turn) -> list[Spread]:
    """The distribution of every token of a user turn and of the end token after it.

    Returns:
        One entry for each token and one for the end token. Which wording was chosen is not spread, and nothing in a
        second turn whose words are fitted to the first one.
    """
    form = form_of(turn)
    words, places = turn.user.split(" "), form.template.split(" ")
    places = [*words[: len(words) - len(places)], *places]  # "please" may stand before the wording
    found: list[Spread] = []
    after: Spread = {}
    taken: dict[int, set[str]] = {}
    for k, (word, place) in enumerate(zip(words, places, strict=True)):
        table: Table = form.slots[place[1:-1]] if _opens(places, k) and form.draw is None else ()
        if isinstance(table, range):
            *here, after = _digits(table, word, _following(words, places, k))
        else:
            held = taken.setdefault(id(table), set())
            free = [entry for entry in table if entry not in held]
            here = [after or {f"▁{entry}": 1 / len(free) for entry in free}, *({} for _ in _tokens(word)[1:])]
            held.add(word)
            after = {}
        found += here
    return [*found, after]


def closed(turn: Turn) -> list[bool]:
    """For every entry of `spreads(turn)`: whether nothing but its tokens can stand there.

    A number may have other digits in another wording that starts the same way, and a slot another word where wordings
    part ("ann has 5 pens and bob ...", "ann has 5 pens and finds ...").
    """
    places = form_of(turn).template.split(" ")
    words = turn.user.split(" ")
    extra = len(words) - len(places)
    sure: list[bool] = [False] * extra
    for k, word in enumerate(words[extra:]):
        alone = len(_next_places().get(tuple(places[:k]), {""})) == 1
        number = word.isdigit() or (k > 0 and words[extra + k - 1].isdigit())
        sure += [alone and not number] * len(_tokens(word))
    return [*sure, False]


@cache
def _next_places() -> dict[tuple[str, ...], set[str]]:
    """Beginning of a first turn's wording -> what comes next in all wordings that begin so."""
    found: dict[tuple[str, ...], set[str]] = {}
    for places in (form.template.split(" ") for form in first_forms()):
        for k, place in enumerate(places):
            found.setdefault(tuple(places[:k]), set()).add(place)
    return found


def _opens(places: list[str], k: int) -> bool:
    """Whether a slot stands at `k` for the first time."""
    return places[k].startswith("{") and places[k] not in places[:k]


def _tokens(word: str) -> str | list[str]:
    return word if word.isdigit() else [word]


def _following(words: list[str], places: list[str], k: int) -> str | None:
    """The token that follows word `k` whatever that is; None where another slot follows."""
    if k + 1 == len(words):
        return END
    return None if places[k + 1].startswith("{") else f"▁{words[k + 1]}"


@cache
def _counts(numbers: range, prefix: str) -> Counter[str]:
    """How many of the numbers that start with `prefix` go on with each digit, or end (empty key)."""
    return Counter(text[len(prefix) :][:1] for text in map(str, numbers) if text.startswith(prefix))


def _digits(numbers: range, number: str, following: str | None) -> list[Spread]:
    """Spreads of the digits of `number` and of the token after them."""
    found: list[Spread] = []
    for k in range(len(number) + 1):
        counts = _counts(numbers, number[:k])
        total = counts.total()
        known = following is not None or "" not in counts
        space = "" if k else "▁"
        spread = {f"{space}{digit}" if digit else str(following): n / total for digit, n in counts.items()}
        found.append(spread if known and len(spread) > 1 else {})
    return found
