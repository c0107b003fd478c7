"""Coding: a mini language with one number or one list; trace a program, or write one.

Example: "what does this print : x = 4 ; x + 3 ; x * 2 ; print x"
         "4 + 3 = 7 / 7 * 2 = 14 / prints : 14"
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from harness.pocket.forms import Form, Slots, Solution, Table, Turn, final
from harness.pocket.tasks.math import calculate

_SAID = {"+": "adds", "-": "takes", "*": "times"}
_DIGITS = range(10)
_OPS = ("reverse", "drop", "sort")


def run(program: str) -> tuple[str, list[str]] | None:
    """Interpret a program of the mini language.

    Args:
        program: Statements joined by ` ; `. `x = n`, then `x + n`, `x - n`, `x * n`, then `print x`; or `list a b c`,
            then `reverse`, `drop` (the first), `sort`, then `print`.

    Returns:
        What is printed and one trace line per statement, or None for anything that is not a valid program.
    """
    lines = program.split(" ; ")
    if len(lines) < 2:
        return None
    if lines[0].startswith("x = "):
        return _run_number(lines)
    return _run_list(lines) if lines[0].startswith("list ") else None


def _run_number(lines: list[str]) -> tuple[str, list[str]] | None:
    words = [line.split(" ") for line in lines]
    if lines[-1] != "print x" or len(words[0]) != 3 or not words[0][2].isdigit():
        return None
    steps = []
    for word in words[1:-1]:
        if len(word) != 3 or word[0] != "x" or word[1] not in _SAID or not word[2].isdigit():
            return None
        steps.append((word[1], int(word[2])))
    result = calculate(int(words[0][2]), steps)
    return None if result is None else (str(result[0]), result[1])


def _run_list(lines: list[str]) -> tuple[str, list[str]] | None:
    values, trace = lines[0].split(" ")[1:], []
    if lines[-1] != "print":
        return None
    for op in lines[1:-1]:
        if op not in _OPS:
            return None
        values = {"reverse": values[::-1], "drop": values[1:], "sort": sorted(values)}[op]
        trace.append(f"{op} : {' '.join(values)}")
    return (" ".join(values), trace) if values else None


def _print(program: str) -> Solution | None:
    done = run(program)
    return None if done is None else final("prints :", done[0], done[1], program=program)


def _template(signs: str) -> str:
    return " ; ".join(["x = {a}", *(f"x {sign} {{n{i}}}" for i, sign in enumerate(signs)), "print x"])


def _shown(template: str) -> Callable[[Slots, Turn | None], Solution | None]:
    return lambda slots, _previous: _print(template.format(**slots))


def _written(program: str) -> Solution | None:
    done = run(program)
    return None if done is None else Solution(program, "program", program, {"prints": done[0], "program": program})


def _write(template: str) -> Callable[[Slots, Turn | None], Solution | None]:
    return lambda slots, _previous: _written(template.format(**slots))


def _add_line(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    *lines, last = previous.truth["program"].split(" ; ")
    line = slots.get("op") or f"x {slots['sign']} {slots['n']}"
    return _print(" ; ".join([*lines, line, last]))


def _new_start(slots: Slots, previous: Turn | None) -> Solution | None:
    if previous is None:
        return None
    _first, *rest = previous.truth["program"].split(" ; ")
    return _written(" ; ".join([f"x = {slots['n']}", *rest]))


def _forms() -> list[Form]:
    forms = []
    for signs in ("+", "-", "*", "++", "+-", "*+", "-+", "*-", "+*", "*+-", "+-+"):
        numbers: dict[str, Table] = {"a": range(2, 10) if "*" in signs else range(20, 60)}
        for i, sign in enumerate(signs):
            numbers[f"n{i}"] = range(2, 20) if sign == "+" and "*" not in signs else range(2, 10)
            if sign == "-":
                numbers[f"n{i}"] = range(2, 4) if "*" in signs else range(2, 20)
        if len(signs) > 1:
            form = _template(signs)
            forms.append(Form(f"trace_{signs}", "numbers", f"what does this print : {form}", numbers, _shown(form)))
        said = " , ".join(f"{_SAID[sign]} {{n{i}}}" for i, sign in enumerate(signs))
        asked = f"write a program that starts with {{a}} , {said} and prints it ."
        forms.append(Form(f"write_{signs}", "programs", asked, numbers, _write(_template(signs)), weight=0.6))
    for size, ops in product((3, 4), product(_OPS, repeat=2)):
        if ops[0] != ops[1] or ops[0] == "drop":
            digits: dict[str, Table] = {f"d{i}": _DIGITS for i in range(size)}
            form = f"list {' '.join('{' + d + '}' for d in digits)} ; {ops[0]} ; {ops[1]} ; print"
            name = f"list{size}_{'_'.join(ops)}"
            forms.append(Form(name, "lists", f"what does this print : {form}", digits, _shown(form), weight=0.5))
    return forms


FORMS = tuple(_forms())
_NUMBERS, _PROGRAMS, _LISTS = (
    tuple(form.name for form in FORMS if form.leaf == leaf) for leaf in ("numbers", "programs", "lists")
)
_ADD = "now add the line x {sign} {n} . what does it print ?"
FOLLOW_UPS = (
    Form("line_number", "follow", _ADD, {"sign": ("+", "-"), "n": range(2, 10)}, _add_line, _NUMBERS),
    Form("line_list", "follow", "now add the line {op} . what does it print ?", {"op": _OPS}, _add_line, _LISTS),
    Form("new_start", "follow", "now make it start with {n} .", {"n": range(10, 30)}, _new_start, _PROGRAMS),
)
