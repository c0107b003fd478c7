"""Who is gated against whom, and by what margin."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from harness.analysis.baseline import Side, Sides
from harness.analysis.grid import Grid
from harness.errors import UserError

Pair = tuple[str, Mapping[str, Side], str, Mapping[str, Side]]
"""Candidate's name and suites, baseline's name and suites."""


def file_pairs(grid: Grid, sides: Sides, reference: Sides, recipe: str | None) -> list[Pair]:
    """The candidate, or every arm of the file, with its counterpart in the file."""
    if recipe is None:
        return [(name, sides.get(name, {}), name, suites) for name, suites in reference.items()]
    result = []
    for name in arms_named(sides, recipe, grid.experiment):
        other = name if name in reference else next(iter(reference)) if len(reference) == 1 else None
        if other is None:
            raise UserError(f"the baseline file has no arm {name!r}; it has: {', '.join(reference)}")
        result.append((name, sides[name], other, reference[other]))
    return result


def own_pairs(grid: Grid, sides: Sides, recipe: str | None, base: str) -> list[Pair]:
    """The candidate with the experiment's own baseline recipe, student by student."""
    if not base:
        raise UserError(
            f"{grid.experiment} has nothing to be gated against: give --baseline FILE, or set `baseline:` to a recipe"
        )
    others = [name for name in grid.recipes if name != base]
    if recipe is None and len(others) != 1:
        raise UserError(
            f"{grid.experiment} has {len(others)} recipes besides its baseline {base}: "
            f"name the candidate with --recipe ({', '.join(others) or 'none'})"
        )
    candidate = recipe or others[0]
    if candidate == base:
        raise UserError(f"{base} is the baseline itself: a recipe is not gated against itself")
    names = arms_named(sides, candidate, grid.experiment)
    return [
        (name, sides[name], base + name.removeprefix(candidate), sides[base + name.removeprefix(candidate)])
        for name in names
    ]


def arms_named(sides: Sides, recipe: str, experiment: str) -> list[str]:
    """The arms of a recipe (one per student)."""
    found = [name for name in sides if name == recipe or name.startswith(f"{recipe}/")]
    if not found:
        near = difflib.get_close_matches(recipe, list(sides), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{experiment} has no recipe {recipe!r}: its recipes are {', '.join(sides)}{hint}")
    return found


def read_margins(grid: Grid, margins: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """(suite, metric) to margin.

    Raises:
        UserError: none given, a negative one, or one for a metric that no suite has.
    """
    if not margins:
        raise UserError(
            "a gate needs margins: the loss per metric that is still acceptable. Give --margin accuracy=0.02, or "
            "`gate: {margin: {accuracy: 0.02}}` in the experiment"
        )
    known = {(suite, m.name): None for suite, facts in grid.suites.items() for m in facts.metrics}
    result: dict[tuple[str, str], float] = {}
    for name, margin in margins.items():
        if not 0 <= margin < math.inf:  # an infinite loss would let everything pass
            raise UserError(f"the margin of {name} is {margin}: it is a loss, so 0 or more, and finite")
        hits = [one for one in known if name in (one[1], f"{one[0]}/{one[1]}")]
        if not hits:
            names = sorted({metric for _, metric in known})
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"no suite of {grid.experiment} has a metric {name!r} (there are {', '.join(names)}){hint}")
        result |= dict.fromkeys(hits, margin)
    return result
