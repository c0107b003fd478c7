"""`magpie_filter`: the published filters of the Magpie sets, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import identity
from harness.blocks.kinds import Context, Selector
from harness.records.cut import CUT_ANSWER
from harness.records.values import Keep
from harness.select._bounds import Bounds, Reasons, scores
from harness.select.longest import CUT, keep_longest

if TYPE_CHECKING:
    import pandas as pd

REPEAT, COLON, RANK = "repeat", "ends with a colon", "rank"
_GOOD, _AVERAGE, _EASY, _MEDIUM = Bounds(min=4), Bounds(min=3), Bounds(min=2), Bounds(min=3)
_APART, _REWARD, _DIFFERENCE = Bounds(above=0), Bounds(above=-12), Bounds(above=0)
"""tau_1 = -12 on the reward, tau_2 = 0 on the reward difference (2406.08464 v2 Table 5)."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published filter: limits per score, rows, and the rest of its rules."""

    where: Mapping[str, Bounds]
    keep: int | None
    longest: bool = True
    halves: bool = False
    """Half of the rows are easy, half harder (the limits leave `difficulty` open)."""
    originals: bool = False
    colon: bool = False
    """Instructions that end with a colon are dropped."""


_PRO = {"quality": _GOOD, "difficulty": _EASY, "distance": _APART}
PRESETS: Mapping[str, Preset] = {
    "air": Preset(
        where={"quality": _GOOD, "difficulty": _MEDIUM, "distance": _APART, "reward_difference": _DIFFERENCE},
        keep=300_000,
    ),
    "pro": Preset(where={"quality": _AVERAGE, "distance": _APART, "reward": _REWARD}, keep=300_000),
    "pro2": Preset(where={**_PRO, "reward": _REWARD}, keep=300_000),
    "pro3": Preset(where={"distance": _APART, "reward": _REWARD}, keep=300_000),
    "pro4": Preset(where={**_PRO, "reward_difference": _DIFFERENCE}, keep=300_000),
    "pro5": Preset(where={**_PRO, "reward": _REWARD}, keep=338_000, longest=False),
    "pro6": Preset(where={"distance": _APART, "reward": _REWARD}, keep=200_000, halves=True),
    "notebook": Preset(where={"quality": _GOOD, "reward": Bounds(above=-10)}, keep=300_000, originals=True, colon=True),
    "dpo_pool": Preset(
        where={"difficulty": _MEDIUM, "quality": _GOOD, "reward": Bounds(min=-5)}, keep=None, longest=False
    ),
}
Name = Literal["air", "pro", "pro2", "pro3", "pro4", "pro5", "pro6", "notebook", "dpo_pool"]
EASY = 2
"""Place of `easy` among the five labels of difficulty."""


class MagpieFilter(Selector):
    """The seven filters of the paper (Table 5), the released notebook's, and the one before preference data.

    Scores that are read: `quality` and `difficulty` (1..5: places of the labels, from `tag` with `ordered`), `distance`
    (`neighbours`), `reward`, `reward_difference`, `length`. Limits come first, then rows whose answer was cut (see
    `longest`), then the longest `keep` rows; without `longest` the first `keep`. Reasons: `<score> missing`, the broken
    limit (`quality < 4`), `repeat`, `ends with a colon`, `cut by the length cap`, `rank`.

    | preset | rows | limits |
    |---|---|---|
    | air | 300,000 | quality good, difficulty medium, distance > 0, reward difference > 0 |
    | pro | 300,000 | quality average, distance > 0, reward > -12 |
    | pro2 | 300,000 | quality good, difficulty easy, distance > 0, reward > -12 |
    | pro3 | 300,000 | distance > 0, reward > -12 |
    | pro4 | 300,000 | quality good, difficulty easy, distance > 0, reward difference > 0 |
    | pro5 | 338,000, not by length | as pro2 |
    | pro6 | 200,000, half very easy or easy, half harder | as pro3 |
    | notebook | 300,000 | quality good, reward > -10, no repeats (`tag:similar`), no colon at the end |
    | dpo_pool | all | quality good, difficulty medium, reward >= -5 (a maintainer's answer, not the paper) |
    """

    name: ClassVar[str] = "magpie_filter"

    preset: Name = identity("pro", description="Which filter.", source="2406.08464 v2 Table 5")
    keep: Keep | None = identity(None, description="Rows to keep: a share or a count; by default the preset's number.")
    where: Mapping[str, Bounds] = identity({}, description="Limits instead of the preset's, per score.")
    without: tuple[str, ...] = identity(
        (), description="Scores whose limits are left out, such as a difficulty that nobody rated."
    )
    keep_cut: bool = identity(False, description="Let answers that hit the length cap compete, as the released code.")

    @model_validator(mode="after")
    def _without_what_is_there(self) -> Self:
        limited = {**PRESETS[self.preset].where, **self.where}
        if strange := sorted({*self.without} - {*limited}):
            raise ValueError(
                f"`without` names {', '.join(strange)}, which `preset: {self.preset}` does not limit; "
                f"it limits {', '.join(sorted(limited))}"
            )
        return self

    def limits(self) -> dict[str, Bounds]:
        """The limits in force."""
        limits = {**PRESETS[self.preset].where, **self.where}
        return {name: bounds for name, bounds in limits.items() if name not in self.without}

    def needs(self) -> tuple[str, ...]:
        """Scores that are limited or ranked by, and what else the preset reads."""
        preset = PRESETS[self.preset]
        more = [
            ("length", preset.longest),
            ("difficulty", preset.halves),
            ("tag:similar", preset.originals),
            ("prompt", preset.colon),
            (f"field:{CUT_ANSWER}", not self.keep_cut),
        ]
        return tuple(dict.fromkeys((*self.limits(), *(name for name, wanted in more if wanted))))

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Limits, then rules, then ranks."""
        preset, reasons = PRESETS[self.preset], Reasons(len(table))
        for name, bounds in self.limits().items():
            bounds.mark(name, scores(table, name), reasons)
        if preset.originals:
            similar = table["tag:similar"]
            reasons.mark(similar.notna() & (similar != table["id"]), REPEAT)
        if preset.colon:
            reasons.mark(table["prompt"].str.rstrip().str.endswith(":"), COLON)
        if not self.keep_cut:
            reasons.mark(table[f"field:{CUT_ANSWER}"].eq(True), CUT)
        count = self.keep.of(len(table)) if self.keep is not None else preset.keep
        if count is not None:
            self._rank(table, count, reasons)
        return reasons.result()

    def _rank(self, table: pd.DataFrame, count: int, reasons: Reasons) -> None:
        import numpy as np
        import pandas as pd

        preset = PRESETS[self.preset]
        lengths = scores(table, "length") if preset.longest else pd.Series(0.0, index=table.index)
        if not preset.halves:
            keep_longest(lengths, "length", count, reasons)
            return
        hardness = scores(table, "difficulty")
        reasons.mark(hardness.isna(), "difficulty missing")
        for half, size in ((hardness <= EASY, count - count // 2), (hardness > EASY, count // 2)):
            own = Reasons(len(table))
            own.mark(~half | ~reasons.kept(), "not in this half")
            keep_longest(lengths, "length", size, own)
            beyond = np.array([reason not in (None, "not in this half") for reason in own.result()])
            reasons.mark(beyond & lengths.isna(), "length missing")
            reasons.mark(beyond, RANK)
