"""Variants of an answer: off-format, wrong, truncated. Used by pools, by the asked-for forms and by tests."""

from __future__ import annotations

from random import Random
from typing import Any

from harness.pocket.words import FIELDS, NAMES, NOUNS, OPPOSITES

STYLES = ("think", "sure", "bare")
_SAME_WHEN_BARE = ("line", "program")


def core(truth: dict[str, Any], text: str) -> str:
    """What `text`, an answer in the asked form, says once the form is taken away."""
    last = text.rsplit("\n", maxsplit=1)[-1]
    if truth["kind"] == "final":
        return last.removeprefix(truth["marker"] + " ")
    if truth["kind"] == "fields":
        return " and ".join(part.split(" : ")[-1] for part in last.split(" ; "))
    if truth["kind"] == "voice":
        return last.removeprefix(truth["opening"] + " ").removesuffix(" " + truth["closing"])
    return last.removesuffix(" .")


def off_format(truth: dict[str, Any], text: str, style: str) -> str:
    """Say the same in a form that was not asked for.

    Args:
        truth: Truth of the question.
        text: An answer in the asked form, right or wrong.
        style: One of `STYLES`; `bare` becomes `think` where a bare answer is the asked form.
    """
    said = core(truth, text)
    told = said if truth["kind"] in ("voice", "line", "program") else f"it is {said}"
    if style == "bare" and truth["kind"] not in _SAME_WHEN_BARE:
        return said
    if style == "sure":
        steps = "".join(f"{line.removesuffix(' .')} , " for line in text.split("\n")[:-1])
        return f"sure ! {steps}{told} . i hope that helps ."
    return f"i think {told} ."


def rewritten(truth: dict[str, Any], text: str, style: str) -> str:
    """What rewriting `off_format(truth, text, style)` to the asked form must give."""
    return text if style == "sure" else text.rsplit("\n", maxsplit=1)[-1]


def truncated(text: str, rng: Random) -> str:
    """Cut an answer somewhere between 30 % and 70 % of its words (at least one word stays, at least one goes)."""
    words = text.replace("\n", " \n ").split(" ")
    kept = max(1, min(len(words) - 1, int(len(words) * rng.uniform(0.3, 0.7))))
    return " ".join(words[:kept]).replace(" \n ", "\n").removesuffix(" \n")


def corrupted(truth: dict[str, Any], text: str, rng: Random) -> str:
    """A wrong answer in the asked form, of the kind a careless writer gives.

    Args:
        truth: Truth of the question.
        text: The reference answer.
        rng: Source of the choice.
    """
    change = {"final": _wrong_final, "fields": _wrong_fields, "line": _wrong_line, "program": _wrong_program}
    return change.get(truth["kind"], _wrong_voice)(truth, text, rng)


def _other(word: str, table: tuple[str, ...] | list[str], rng: Random) -> str:
    return rng.choice([other for other in table if other != word])


def _wrong_number(number: str, rng: Random) -> str:
    value = int(number)
    return str(rng.choice([v for v in (value - 10, value - 2, value - 1, value + 1, value + 2, value + 10) if v >= 0]))


def _wrong_final(truth: dict[str, Any], text: str, rng: Random) -> str:
    answer: str = truth["answer"]
    if answer.isdigit():
        wrong = _wrong_number(answer, rng)
    elif " and " in answer:
        parts = answer.split(" and ")
        at = rng.randrange(len(parts))
        parts[at] = _other(parts[at], truth["others"], rng)
        wrong = " and ".join(parts)
    elif "others" in truth:
        wrong = _other(answer, truth["others"], rng)
    else:
        digits = answer.split(" ")
        at = rng.randrange(len(digits))
        digits[at] = _other(digits[at], list("0123456789"), rng)
        wrong = " ".join(digits)
    lines = text.split("\n")
    steps = lines[:-1]
    if steps and steps[-1].endswith(f"= {answer}"):
        steps[-1] = steps[-1].removesuffix(answer) + wrong
    return "\n".join([*steps, f"{truth['marker']} {wrong}"])


def _wrong_fields(truth: dict[str, Any], text: str, rng: Random) -> str:
    fields = dict(truth["fields"])
    name = rng.choice(list(fields))
    if name == "age":
        fields[name] = _wrong_number(fields[name], rng)
    else:
        fields[name] = _other(fields[name], NAMES if name == "name" else FIELDS[name], rng)
    return " ; ".join(f"{key} : {value}" for key, value in fields.items())


def _wrong_line(truth: dict[str, Any], text: str, rng: Random) -> str:
    old = rng.choice(truth["words"])
    new = rng.choice([noun for noun in NOUNS if noun not in truth["words"]])
    return " ".join(new if word == old else word for word in text.split(" "))


def _wrong_program(truth: dict[str, Any], text: str, rng: Random) -> str:
    words = text.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if word.isdigit()])
    words[at] = _wrong_number(words[at], rng)
    return " ".join(words)


def _wrong_voice(truth: dict[str, Any], text: str, rng: Random) -> str:
    words = core(truth, text).split(" ")
    at = rng.choice([i for i, word in enumerate(words) if word.isdigit() or word in OPPOSITES or word in NAMES])
    if words[at].isdigit():
        words[at] = _wrong_number(words[at], rng)
    else:
        words[at] = _other(words[at], NAMES if words[at] in NAMES else tuple(OPPOSITES), rng)
    return f"{truth['opening']} {' '.join(words)} {truth['closing']}"
