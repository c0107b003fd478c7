"""The pocket world: questions with known truth in MT-Bench's eight categories, one or two turns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from harness.pocket.forms import Form, Turn, turn
from harness.pocket.tasks import coding, extraction, humanities, math, reasoning, roleplay, stem, writing

__all__ = [
    "CATEGORIES", "Question", "Turn", "first_forms", "form_of", "leaves", "question", "questions", "split_of",
    "understand",
]  # fmt: skip

_TASKS = {
    "writing": writing,
    "roleplay": roleplay,
    "reasoning": reasoning,
    "math": math,
    "coding": coding,
    "extraction": extraction,
    "stem": stem,
    "humanities": humanities,
}
CATEGORIES: tuple[str, ...] = tuple(_TASKS)
_TRIES = 1000


@dataclass(frozen=True)
class Question:
    """A question of one or two turns; `id` is unique inside the world."""

    id: str
    category: str
    turns: tuple[Turn, ...]


def split_of(text: str) -> str:
    """The one split that a first user turn belongs to, by a hash of its text: test 10 %, dev 10 %, train 80 %."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 10
    return {0: "test", 1: "dev"}.get(number, "train")


@cache
def _forms(category: str) -> dict[str, Form]:
    return {form.name: form for form in (*_TASKS[category].FORMS, *_TASKS[category].FOLLOW_UPS)}


def first_forms() -> list[Form]:
    """All forms of first turns."""
    return [form for tasks in _TASKS.values() for form in tasks.FORMS]


def form_of(turn: Turn) -> Form:
    """The form that a turn was drawn from or read as."""
    return _forms(turn.truth["category"])[turn.truth["form"]]


def leaves(category: str) -> tuple[str, ...]:
    """Taxonomy leaves of a category, in order of first use."""
    return tuple(dict.fromkeys(form.leaf for form in _TASKS[category].FORMS))


def _choose(rng: Random, forms: Sequence[Form]) -> Form:
    return rng.choices(forms, [form.weight for form in forms])[0]


def _first(rng: Random, category: str, split: str | None, leaf: str | None) -> Turn:
    forms = [form for form in _TASKS[category].FORMS if leaf in (None, form.leaf)]
    for _ in range(_TRIES):
        form = _choose(rng, forms)
        user = form.sample(rng)
        found = turn(category, form, user, None)
        if found is not None and split in (None, split_of(user)):
            return found
    raise RuntimeError(f"no question of {category!r}, leaf {leaf!r}, split {split!r} in {_TRIES} tries")


def _second(rng: Random, category: str, first: Turn) -> Turn:
    forms = [form for form in _TASKS[category].FOLLOW_UPS if first.truth["form"] in form.follows]
    for _ in range(_TRIES):
        form = _choose(rng, forms)
        found = turn(category, form, form.sample(rng, first), first)
        if found is not None:
            return found
    raise RuntimeError(f"no second turn for {first.user!r} in {_TRIES} tries")


def draw(
    rng: Random, category: str, turns: int = 1, split: str | None = None, leaf: str | None = None
) -> tuple[Turn, ...]:
    """Draw the turns of one question from `rng`, optionally from one split and one taxonomy leaf."""
    first = _first(rng, category, split, leaf)
    return (first,) if turns == 1 else (first, _second(rng, category, first))


def question(category: str, seed: int | str, turns: int = 1) -> Question:
    """The question that `seed` stands for, from any split.

    Args:
        category: One of `CATEGORIES`.
        seed: Any number or text; equal seeds give equal questions.
        turns: 1 or 2; a second turn depends on the answer to the first.
    """
    rng = Random(f"pocket/{category}/{turns}/{seed}")
    return Question(f"pocket/seed/{category}/{seed}", category, draw(rng, category, turns))


def questions(split: str, count: int, turns: int = 1, categories: Sequence[str] = CATEGORIES) -> list[Question]:
    """`count` distinct questions of a split, round-robin over `categories`.

    A first user turn belongs to exactly one of `test`, `dev` and `train`, decided by a hash of its text. Any other
    name draws from the train texts with its own seeds. A longer list starts with the shorter one.
    """
    return list(_questions(split, count, turns, tuple(categories)))


@lru_cache(maxsize=16)
def _questions(split: str, count: int, turns: int, categories: tuple[str, ...]) -> tuple[Question, ...]:
    """Drawn once per process: a pool with leaked questions, the check for leaks and the suite ask for the same ones."""
    share = split if split in ("test", "dev") else "train"
    streams = {category: Random(f"pocket/{split}/{category}/{turns}") for category in categories}
    seen: set[str] = set()
    found: list[Question] = []
    for k in range(count):
        category = categories[k % len(categories)]
        for _ in range(_TRIES):
            drawn = draw(streams[category], category, turns, share)
            if drawn[0].user not in seen:
                break
        else:
            raise ValueError(f"the {split} split has too few distinct {category} questions for {count} items")
        seen.add(drawn[0].user)
        found.append(Question(f"pocket/{split}/{category}/{k // len(categories)}", category, drawn))
    return tuple(found)


def understand(user: str, history: Sequence[Turn] = ()) -> Turn | None:
    """Read a user turn (also one that a model wrote) back to its truth.

    Args:
        user: The text of the turn.
        history: Turns before it; with one, second-turn wordings are tried.

    Returns:
        The turn with its reference and truth, or None where the text is malformed or has no answer.
    """
    text = user.strip().removeprefix("please ")
    for category, tasks in _TASKS.items():
        forms: Sequence[Form] = tasks.FORMS
        if history:
            last = history[-1]
            forms = [form for form in tasks.FOLLOW_UPS if last.truth["form"] in form.follows]
            forms = forms if last.truth["category"] == category else []
        for form in forms:
            found = turn(category, form, text, history[-1] if history else None)
            if found is not None:
                return found
    return None
