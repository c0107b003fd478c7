"""Style of two answers, and what a win rate would be if they were alike in it (Arena-Hard's style control).

Features as in arena-hard-auto v0.1 (`add_markdown_info.py`, `utils_math.py`): length, headers, list items and bold
passages outside code blocks, each as the difference over the sum plus one, divided by its standard deviation. That
project counts tokens of one tokenizer that it downloads; here words and marks count, for both answers alike. It centres
the differences over all its models; here one model is compared, so they stay as they are and zero means "equal style".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from harness.evaluate._figures import Figures, absent, figure, percent
from harness.evaluate._logistic import coefficient_errors, fit, mean_prediction

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEAST = 50
"""Items without which no model of style is fitted, as in `_length_control`."""
_NAMES = ("words", "headers", "lists", "bold")
_CODE = re.compile(r"```[^`]*```")
_WORDS = re.compile(r"\w+|[^\w\s]")
_HEADERS = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LISTS = re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True)
class Style:
    """Counts of one text: words and marks, headers, list items, bold passages."""

    words: int
    headers: int
    lists: int
    bold: int

    def text(self) -> str:
        """The counts as a tag of a grade."""
        return " ".join(str(count) for count in astuple(self))


def style(text: str) -> Style:
    """The style of a text."""
    plain = _CODE.sub("", text)
    counts = (len(pattern.findall(plain)) for pattern in (_HEADERS, _LISTS, _BOLD))
    return Style(len(_WORDS.findall(text)), *counts)


def read(text: str) -> Style:
    """The style that a tag holds."""
    return Style(*(int(count) for count in text.split()))


@dataclass(frozen=True)
class Battle:
    """One verdict: the place of its item, the answer's share of the win, its weight, and both styles."""

    item: int
    win: float
    weight: float
    answer: Style
    reference: Style


def controlled(battles: Sequence[Battle], missing: int = 0) -> Figures:
    """Win rates at equal style and at equal length, in percent with intervals clustered by item, and what style earns.

    `style_controlled_win_rate` controls for all four features, `length_controlled_win_rate` for the length alone.
    `style:words` and so on are the coefficients: what one standard deviation more adds to the log-odds of a win.
    Items without a verdict (`missing`) widen the rates. With fewer than `LEAST` items there is no figure: a sandwich
    estimate of up to five coefficients knows too little then, and its intervals are far too narrow.
    """
    import numpy as np

    items = len({battle.item for battle in battles})
    n = items + missing
    if items < LEAST:
        return absent("style_controlled_win_rate", n) | absent("length_controlled_win_rate", n)
    places = {item: place for place, item in enumerate(dict.fromkeys(battle.item for battle in battles))}
    at = np.array([places[battle.item] for battle in battles])
    wins = np.array([battle.win for battle in battles])
    weights = np.array([battle.weight for battle in battles])
    differences = _differences(battles)
    figures: Figures = {}
    for name, columns in (("style_controlled_win_rate", range(4)), ("length_controlled_win_rate", range(1))):
        used = [column for column in columns if differences[:, column].std() > 0]
        features = np.column_stack([np.ones(len(battles)), differences[:, used] / differences[:, used].std(axis=0)])
        coefficients = fit(features, wins, weights)
        if coefficients is None:
            figures |= absent(name, n)
            continue
        equal = np.zeros((items, features.shape[1]))
        equal[:, 0] = 1
        value, error = mean_prediction(features, wins, weights, at, coefficients, equal)
        figures |= percent(name, 100 * value, 100 * error, n, missing)
        if len(columns) > 1:
            errors = coefficient_errors(features, wins, weights, at, coefficients)
            figures |= _coefficients([_NAMES[column] for column in used], coefficients[1:], errors[1:], items)
    return figures


def _coefficients(names: Sequence[str], values: Floats, errors: Floats, items: int) -> Figures:
    from scipy.stats import norm

    half = float(norm.ppf(0.975)) * errors
    figures: Figures = {}
    for name, value, reach in zip(names, values, half, strict=True):
        figures |= figure(f"style:{name}", float(value), float(value - reach), float(value + reach), items)
    return figures


def _differences(battles: Sequence[Battle]) -> Floats:
    """Shape (battles, 4): answer minus reference, over their sum plus one."""
    import numpy as np

    answers = np.array([astuple(battle.answer) for battle in battles], dtype=float)
    references = np.array([astuple(battle.reference) for battle in battles], dtype=float)
    result: Floats = (answers - references) / (answers + references + 1)
    return result
