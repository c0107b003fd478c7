"""Extraction: pull fields out of a short record.

Example: "record : name ann ; age 34 ; city oslo ; job baker . give the city ."  ->  "city : oslo"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from random import Random

from harness.pocket.forms import Form, Slots, Solution, Table, Turn
from harness.pocket.words import FIELDS, NAMES

_AGES = range(18, 90)
_TABLES: dict[str, Table] = {"name": NAMES, "age": _AGES, **FIELDS}


def _fields(record: dict[str, str], asked: list[str]) -> Solution | None:
    if any(name not in record for name in asked) or len(set(asked)) != len(asked):
        return None
    answer = " ; ".join(f"{name} : {record[name]}" for name in asked)
    return Solution(answer, "fields", answer, {"fields": {name: record[name] for name in asked}, "state": record})


def _solver(names: tuple[str, ...], asked: tuple[str, ...]) -> Callable[[Slots, Turn | None], Solution | None]:
    return lambda slots, _previous: _fields({name: slots[name] for name in names}, list(asked))


def _give(slots: Slots, previous: Turn | None) -> Solution | None:
    return None if previous is None else _fields(previous.truth["state"], [slots["field"]])


def _change(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    record: dict[str, str] = {**previous.truth["state"], "age": slots["age"]}
    return _fields(record, ["name", "age"])


def _draw_field(rng: Random, previous: Turn) -> Slots:
    asked = previous.truth["fields"]
    return {"field": rng.choice([name for name in previous.truth["state"] if name not in asked])}


def _forms() -> list[Form]:
    forms = []
    for extra in combinations(FIELDS, 2):
        for names in (("name", "age", *extra), ("name", *extra[::-1], "age")):
            record = "record : " + " ; ".join(f"{name} {{{name}}}" for name in names)
            tables = {name: _TABLES[name] for name in names}
            for one in names:
                asked = f"{record} . give the {one} ."
                forms.append(Form(f"{'_'.join(names)}:{one}", "field", asked, tables, _solver(names, (one,))))
            for two in combinations(names, 2):
                asked = f"{record} . give the {two[0]} and the {two[1]} ."
                name = f"{'_'.join(names)}:{'_'.join(two)}"
                forms.append(Form(name, "fields", asked, tables, _solver(names, two), weight=0.5))
    return forms


FORMS = tuple(_forms())
_ALL = tuple(form.name for form in FORMS)
FOLLOW_UPS = (
    Form("give", "follow", "now give the {field} .", {"field": tuple(_TABLES)}, _give, _ALL, draw=_draw_field),
    Form("change", "follow", "now make the age {age} and give the name and the age .", {"age": _AGES}, _change, _ALL),
)
