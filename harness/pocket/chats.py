"""The chats that `pocket/chat` learns from: questions, second turns, steered questions and the asked-for forms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from harness.pocket.answers import STYLES, corrupted, off_format, rewritten, truncated
from harness.pocket.forms import Turn
from harness.pocket.world import CATEGORIES, draw, leaves

RATINGS = {"none": 10, "wrong form": 6, "cut off": 2, "wrong answer": 2, "other question": 1}
"""Problem of an answer -> the rating that the model learns to give it."""
_SHOWN = {"none": 0.3, "wrong form": 0.14, "cut off": 0.14, "wrong answer": 0.28, "other question": 0.14}
"""How often each problem is shown: right or wrong is what takes longest to learn."""
_SHARES = {
    "single": 0.30,
    "double": 0.25,
    "steer": 0.13,
    "rate": 0.09,
    "critique": 0.08,
    "rewrite": 0.06,
    "restate": 0.04,
    "propose": 0.05,
}
_HARD = {"reasoning": 3.0, "math": 2.0, "writing": 1.5, "coding": 1.5}
"""Families that take longer to learn are drawn more often where only answers train and after a system turn; the
others have weight 1. Where user turns train without one, all families are equally frequent, so that the bare user
prefix favours none."""
Message = dict[str, str]


@dataclass(frozen=True)
class Chat:
    """One training conversation.

    Attributes:
        messages: System, user and assistant messages.
        learn_user: Whether the user turns train as well.
        turns: What the user turns ask, where they train.
        verdict: Whether the last line is a judgement, which counts `batches.VERDICT_WEIGHT` times.
    """

    messages: tuple[Message, ...]
    learn_user: bool = True
    turns: tuple[Turn, ...] = ()
    verdict: bool = False


ASKED_FOR = ("steer", "rate", "critique", "rewrite", "restate", "propose")
"""Entries of the prompt pack that the models learn; the others say these in the names that blocks ask for."""


@cache
def prompts() -> dict[str, dict[str, str]]:
    """The learned part of the prompt pack: name -> role -> template."""
    from ruamel.yaml import YAML

    text = files("harness.pocket").joinpath("prompts.yaml").read_text(encoding="utf-8")
    pack = YAML(typ="safe").load(text)["prompts"]
    return {name: pack[name] for name in ASKED_FOR}


def message(role: str, content: str) -> Message:
    """A chat message in the usual form."""
    return {"role": role, "content": content}


def _conversation(turns: tuple[Turn, ...], system: str | None = None) -> tuple[Message, ...]:
    head = [] if system is None else [message("system", system)]
    pairs = [(message("user", t.user), message("assistant", t.reference)) for t in turns]
    return (*head, *(part for pair in pairs for part in pair))


def shown(turn: Turn, problem: str, rng: Random, split: str | None = "train") -> str:
    """An answer to `turn` that has the given problem (a key of `RATINGS`)."""
    if problem == "wrong answer":
        wrong = corrupted(turn.truth, turn.reference, rng)
        return off_format(turn.truth, wrong, rng.choice(STYLES)) if rng.random() < 0.3 else wrong
    if problem == "wrong form":
        return off_format(turn.truth, turn.reference, rng.choice(STYLES))
    if problem == "cut off":
        return truncated(turn.reference, rng)
    if problem == "other question":
        while True:
            other = draw(rng, rng.choice(CATEGORIES), split=split)[0]
            if other.reference != turn.reference and other.truth["form"] != turn.truth["form"]:
                return other.reference
    return turn.reference


def ask(name: str, **values: str) -> Message:
    """The user message of an asked-for form."""
    return message("user", prompts()[name]["user"].format(**values))


def _judged(rng: Random, name: str, turn: Turn, split: str | None) -> tuple[Message, ...]:
    problem = rng.choices(list(RATINGS), [_SHOWN[problem] for problem in RATINGS])[0]
    verdict = f"rating : {RATINGS[problem]}" if name == "rate" else f"problem : {problem}"
    answer = shown(turn, problem, rng, split)
    # Both conclusions stand side by side before the verdict: a model of this size does not compare over a distance.
    seen = answer.rsplit("\n", maxsplit=1)[-1]
    user = ask(name, question=turn.user, answer=answer)
    return user, message("assistant", f"{turn.reference}\nhere : {seen}\n{verdict}")


def _rewrite(rng: Random, turn: Turn) -> tuple[Message, ...]:
    truth: dict[str, Any] = turn.truth
    text = turn.reference if rng.random() < 0.6 else corrupted(truth, turn.reference, rng)
    style = rng.choice(STYLES)
    user = ask("rewrite", question=turn.user, answer=off_format(truth, text, style))
    return user, message("assistant", rewritten(truth, text, style))


def _restate(rng: Random, turn: Turn) -> tuple[Message, ...]:
    truth: dict[str, Any] = turn.truth
    text = turn.reference if rng.random() < 0.6 else corrupted(truth, turn.reference, rng)
    style = rng.choice((None, *STYLES))
    given = text if style is None else off_format(truth, text, style)
    last = text.rsplit("\n", maxsplit=1)[-1]  # steps that are not shown cannot be said
    said = off_format(truth, last, "sure" if given.startswith("i think") else "think")
    return ask("restate", question=turn.user, answer=given), message("assistant", said)


def chat(rng: Random, split: str | None = "train", kind: str | None = None, user_share: float = 1.0) -> Chat:
    """Draw one conversation of the training mixture.

    User turns of the asked-for forms do not train, so that the bare user prefix yields questions of the world only.

    Args:
        rng: Source of all choices.
        split: Which questions may occur.
        kind: A key of the mixture to force one kind.
        user_share: Share of the other chats whose user turns train.
    """
    kind = kind or rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    learn_user = user_share >= 1 or rng.random() < user_share
    even = learn_user and kind != "steer"
    category = rng.choices(CATEGORIES, [1.0 if even else _HARD.get(name, 1.0) for name in CATEGORIES])[0]
    if kind == "propose":
        leaf = rng.choice(leaves(category))
        target = draw(rng, category, split=split, leaf=leaf)[0]
        return Chat((ask("propose", leaf=f"{category} {leaf}"), message("assistant", target.user)), False)
    turns = draw(rng, category, 2 if kind == "double" else 1, split)
    if kind in ("rate", "critique"):
        return Chat(_judged(rng, kind, turns[0], split), False, verdict=True)
    if kind == "rewrite":
        return Chat(_rewrite(rng, turns[0]), False)
    if kind == "restate":
        return Chat(_restate(rng, turns[0]), False)
    if kind == "single" and rng.random() < 0.03:
        turns = (replace(turns[0], user=f"please {turns[0].user}"),)
    system = prompts()["steer"]["system"].format(category=category) if kind == "steer" else None
    return Chat(_conversation(turns, system), learn_user, turns if learn_user else ())
