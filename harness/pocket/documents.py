"""Plain-text documents of the pocket world, from which `pocket/base` learns: facts and worked stories, no chats.

The wording differs from the questions and answers of the chats on purpose: a base model knows the world but not how to
answer in it, as with real base models.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from harness.pocket.forms import Turn
from harness.pocket.retold import RETELLERS
from harness.pocket.tasks.writing import rhymes_with
from harness.pocket.words import HARDNESS, LAND, LEGS, NAMES, OPPOSITES, ORDERS, REIGN, VOICES, WEIGHT, WORK
from harness.pocket.world import CATEGORIES, draw


def _steps(turn: Turn) -> str:
    return " and ".join(turn.reference.split("\n")[:-1])


def _math(turn: Turn, rng: Random) -> str:
    story = turn.user.split(" . how many")[0]
    return f"{story} . here {_steps(turn)} , which makes {turn.truth['answer']} ."


def _reasoning(turn: Turn, rng: Random) -> str:
    leaf, state = turn.truth["leaf"], turn.truth["state"]
    if leaf == "order":
        story = turn.user.split(" who is")[0]
        most, least = ORDERS[turn.truth["more"]]
        return f"{story} from the {most} to the {least} : {' then '.join(state)} ."
    if leaf == "swaps":
        return f"{turn.user.split(' . which is')[0]} . this leaves {' then '.join(state)} ."
    story = turn.user.split(" . what is ")[0]
    return f"{story} . so {turn.truth['who']} counts as {' and as '.join(state)} , not also as other kinds ."


def _coding(turn: Turn, rng: Random) -> str:
    program = turn.truth["program"]
    if turn.truth["leaf"] == "programs":
        said = turn.user.removeprefix("write a program that ").removesuffix(" and prints it .")
        return f"the code that {said} looks like this : {program} ."
    return f"the code {program} works like this : {_steps(turn)} , and shows {turn.truth['answer']} ."


def _extraction(turn: Turn, rng: Random) -> str:
    record = turn.user.split(" . give")[0].removeprefix("record : ")
    said = [f"the {name} here is {value}" for name, value in turn.truth["state"].items()]
    rng.shuffle(said)
    return f"note : {record} . {' and '.join(said[: rng.randint(1, 3)])} ."


def _stem(turn: Turn, rng: Random) -> str:
    if turn.truth["leaf"] == "animals":
        story = turn.user.removeprefix("how many legs have ").removesuffix(" ?")
        kind = rng.choice(list(LEGS))
        return f"legs of {story} : {_steps(turn)} . one of the {kind} stands on {LEGS[kind]} legs ."
    word, things = turn.truth["scale"], turn.truth["state"]
    table, name = (WEIGHT, "weight") if word in ("heavier", "lighter") else (HARDNESS, "hardness")
    facts = " and ".join(f"{thing} has {name} {table[thing]}" for thing in things)
    return f"{facts} , so {turn.truth['answer']} is {word} than the other ."


def _humanities(turn: Turn, rng: Random) -> str:
    people = list(turn.truth["state"])
    if turn.truth["form"] == "years":
        came = f"{people[0]} came in {REIGN[people[0]]} and {people[1]} in {REIGN[people[1]]}"
        return f"{came} : {_steps(turn).split(' and ')[-1]} years ."
    if turn.truth["form"] in ("first", "last"):
        facts = " and ".join(f"{who} came in {REIGN[who]}" for who in people)
        early = sorted(people, key=REIGN.__getitem__)
        return f"{facts} , so {early[0]} came before {early[1]} and {early[2]} came after them ."
    if turn.truth["form"] == "built":
        return " . ".join(f"the {WORK[who]} is by {who}" for who in people) + " ."
    return " . ".join(f"{who} was from {LAND[who]}" for who in people) + " ."


def _writing(turn: Turn, rng: Random) -> str:
    if "rhyme" in turn.truth:
        word = turn.truth["rhyme"]
        return f"{word} sounds like {' and '.join(rhymes_with(word))} . {turn.reference}"
    if "count" in turn.truth:
        return f"this line is {turn.truth['count']} words long : {turn.reference}"
    return f"a line on {' and '.join(turn.truth['words'])} : {turn.reference}"


def _roleplay(turn: Turn, rng: Random) -> str:
    who, leaf = turn.truth["voice"], turn.truth["leaf"]
    opening, closing = VOICES[who]
    manner = f"the {who} begins with {opening} and finishes with {closing.removeprefix(', ')}"
    said = turn.user.split(" . ")[1]
    if leaf == "sums":
        a, _, b = said.removeprefix("what is ").removesuffix(" ?").split(" ")
        return f"{manner} {a} + {b} = {int(a) + int(b)} ."
    if leaf == "opposites":
        one = rng.choice(list(OPPOSITES))
        return f"{manner} not {one} means {OPPOSITES[one]} ."
    return f"{manner} good day is how {rng.choice(NAMES)} will greet {rng.choice(NAMES)} ."


_WRITERS: dict[str, Callable[[Turn, Random], str]] = {
    "writing": _writing, "roleplay": _roleplay, "reasoning": _reasoning, "math": _math, "coding": _coding,
    "extraction": _extraction, "stem": _stem, "humanities": _humanities,
}  # fmt: skip


def document(rng: Random, split: str | None = "train", retold: float = 0.0) -> str:
    """One document of one to three passages about one category.

    Args:
        rng: Source of all choices.
        split: Which questions the passages tell of.
        retold: Share of the passages in the second wording.
    """
    category = rng.choice(CATEGORIES)
    turns = [draw(rng, category, split=split)[0] for _ in range(rng.randint(1, 3))]
    return " ".join(_passage(category, turn, rng, retold) for turn in turns)


def _passage(category: str, turn: Turn, rng: Random, retold: float) -> str:
    again = retold > 0 and rng.random() < retold
    return (RETELLERS if again else _WRITERS)[category](turn, rng)
