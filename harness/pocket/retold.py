"""A second wording for the passages of plain documents: first what a passage is about, then what there is to say.

Real text names its subjects before it treats them one by one. A base model that never saw that learns each fact but not
to carry a list of subjects over into an answer, and then a thousand chats do not teach it either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from harness.pocket.forms import Turn
from harness.pocket.tasks.stem import SCALES
from harness.pocket.words import LAND, OPPOSITES, ORDERS, REIGN, WEIGHT, WORK


def listed(words: Sequence[str]) -> str:
    """`a , b and c`."""
    return f"{' , '.join(words[:-1])} and {words[-1]}"


def _steps(turn: Turn) -> list[str]:
    return [line.removesuffix(" .") for line in turn.reference.split("\n")[:-1]]


def _math(turn: Turn, rng: Random) -> str:
    story = turn.user.split(" . how many")[0]
    item = turn.user.split(" ")[-3]
    return f"{story} . {' , '.join(_steps(turn))} , so now it is {turn.truth['answer']} {item} ."


def _reasoning(turn: Turn, rng: Random) -> str:
    leaf, state = turn.truth["leaf"], turn.truth["state"]
    if leaf == "order":
        most, least = ORDERS[turn.truth["more"]]
        story = turn.user.split(" who is")[0]
        return f"{story} so {state[0]} is the {most} , {state[1]} is in the middle and {state[2]} is the {least} ."
    if leaf == "swaps":
        told = f"{state[0]} is first , {state[1]} is in the middle and {state[2]} is last"
        return f"{turn.user.split(' . which is')[0]} . now {told} ."
    who = turn.truth["who"]
    told = " , so ".join(f"{who} is a {kind}" for kind in state)
    return f"{turn.user.split(' . what is ')[0]} . {told} . they end with {state[-1]} ."


def _coding(turn: Turn, rng: Random) -> str:
    program = turn.truth["program"]
    if turn.truth["leaf"] == "programs":
        said = turn.user.removeprefix("write a program that ").removesuffix(" and prints it .")
        return f"it {said} : the program is {program} ."
    return f"run {program} : {' , '.join(_steps(turn))} , so it prints {turn.truth['answer']} ."


def _extraction(turn: Turn, rng: Random) -> str:
    record = turn.user.split(" . give")[0].removeprefix("record : ")
    state: dict[str, str] = turn.truth["state"]
    names = rng.sample(list(state), rng.randint(1, 2))
    if rng.random() < 0.5:
        return f"from {record} take the {' and the '.join(names)} : {' and '.join(state[name] for name in names)} ."
    told = " , ".join(f"{name} {state[name]}" for name in names)
    return f"note : {record} . of the {' and the '.join(names)} it is to say : {told} ."


def _stem(turn: Turn, rng: Random) -> str:
    if turn.truth["leaf"] == "animals":
        story = turn.user.removeprefix("how many legs have ").removesuffix(" ?")
        return f"{story} have many legs : {' , '.join(_steps(turn))} , so {turn.truth['answer']} legs ."
    things = turn.truth["state"]
    most, table, _sign = SCALES[turn.truth["scale"]]
    told = listed([f"{thing} has {table[thing]}" for thing in things])
    scale = "weight" if table is WEIGHT else "hardness"
    return f"about the {scale} of {listed(things)} : {told} , so the {most} is {turn.truth['answer']} ."


def _humanities(turn: Turn, rng: Random) -> str:
    people, form = list(turn.truth["state"]), turn.truth["form"]
    if form == "years":
        return f"from {people[0]} to {people[1]} : {' , so '.join(_steps(turn))} years ."
    if form in ("first", "last"):
        told = listed([f"{who} in {REIGN[who]}" for who in people])
        return f"about {listed(people)} : {told} came , so {turn.truth['answer']} came {form} ."
    table, verb = (WORK, "build the") if form == "built" else (LAND, "rule")
    told = listed([f"{who} did {verb} {table[who]}" for who in people])
    return f"about {listed(people)} : {told} , so {' then '.join(table[who] for who in people)} ."


def _writing(turn: Turn, rng: Random) -> str:
    words = turn.truth["words"]
    if "rhyme" in turn.truth:
        rhyme = turn.reference.split(" ")[-2]
        return f"with the {' and the '.join(words)} , and {rhyme} for {turn.truth['rhyme']} : {turn.reference}"
    if "count" in turn.truth:
        return f"of the {' and the '.join(words)} in {turn.truth['count']} words : {turn.reference}"
    return f"with {listed(words)} : {turn.reference}"


def _roleplay(turn: Turn, rng: Random) -> str:
    who, opening, closing = turn.truth["voice"], turn.truth["opening"], turn.truth["closing"]
    said, leaf = turn.user.split(" . ")[1], turn.truth["leaf"]
    if leaf == "sums":
        total = said.removeprefix("what is ").removesuffix(" ?")
        told = f"{total} = {turn.truth['answer'].removeprefix('it is ')}"
        return f"on {total} the {who} will say {opening} {told} {closing}"
    if leaf == "opposites":
        pair = said.removeprefix("what are the opposites of ").removesuffix(" ?").split(" and ")
        told = " and ".join(f"not {word} means {OPPOSITES[word]}" for word in pair)
        return f"on {' and '.join(pair)} the {who} will say {opening} {told} {closing}"
    pair = said.removeprefix("greet ").removesuffix(" .").split(" and ")
    return f"with {' and '.join(pair)} the {who} will say {opening} good day to {' and to '.join(pair)} {closing}"


RETELLERS: dict[str, Callable[[Turn, Random], str]] = {
    "writing": _writing, "roleplay": _roleplay, "reasoning": _reasoning, "math": _math, "coding": _coding,
    "extraction": _extraction, "stem": _stem, "humanities": _humanities,
}  # fmt: skip
