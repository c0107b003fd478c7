"""The published Magpie filters: their numbers (Table 5 of the paper), and what each drops for which reason."""

from __future__ import annotations

from typing import Any, get_args

import pandas as pd
import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.select._bounds import Bounds
from harness.select.magpie_filter import PRESETS, MagpieFilter, Name

GOOD, AVERAGE, EASY, MEDIUM = Bounds(min=4), Bounds(min=3), Bounds(min=2), Bounds(min=3)
APART, REWARD, DIFFERENCE = Bounds(above=0), Bounds(above=-12), Bounds(above=0)
TABLE_5: dict[str, tuple[int, dict[str, Bounds], bool]] = {
    "air": (300_000, dict(quality=GOOD, difficulty=MEDIUM, distance=APART, reward_difference=DIFFERENCE), True),
    "pro": (300_000, dict(quality=AVERAGE, distance=APART, reward=REWARD), True),
    "pro2": (300_000, dict(quality=GOOD, difficulty=EASY, distance=APART, reward=REWARD), True),
    "pro3": (300_000, dict(distance=APART, reward=REWARD), True),
    "pro4": (300_000, dict(quality=GOOD, difficulty=EASY, distance=APART, reward_difference=DIFFERENCE), True),
    "pro5": (338_000, dict(quality=GOOD, difficulty=EASY, distance=APART, reward=REWARD), False),
    "pro6": (200_000, dict(distance=APART, reward=REWARD), True),
}


def table(**columns: Any) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    whole: dict[str, Any] = {
        "id": [f"r{k}" for k in range(rows)],
        "quality": [5.0] * rows,
        "difficulty": [5.0] * rows,
        "distance": [1.0] * rows,
        "reward": [0.0] * rows,
        "reward_difference": [1.0] * rows,
        "length": [float(k) for k in range(rows)],
        "tag:similar": [None] * rows,
        "prompt": ["why?"] * rows,
        "field:answer_cut": [None] * rows,
    }
    return pd.DataFrame(
        {**whole, **{n.replace("tag_", "tag:").replace("field_", "field:"): v for n, v in columns.items()}}
    )


def drops(block: MagpieFilter, **columns: Any) -> list[str | None]:
    whole = table(**columns)
    assert set(block.needs()) <= set(whole.columns)
    return block.select(whole[["id", *block.needs()]], Context())


@pytest.mark.parametrize("name", TABLE_5)
def test_the_published_numbers(name: Name) -> None:
    rows, limits, longest = TABLE_5[name]
    preset = PRESETS[name]
    assert (preset.keep, dict(preset.where), preset.longest) == (rows, limits, longest)
    assert set(get_args(Name)) == {*TABLE_5, "notebook", "dpo_pool"}


def test_each_limit_has_its_reason_and_missing_scores_theirs() -> None:
    block = MagpieFilter(preset="pro2", keep=9)
    assert drops(
        block,
        quality=[3.0, 4.0, 4.0, 4.0, None, 4.0],
        difficulty=[2.0, 1.0, 2.0, 2.0, 2.0, 2.0],
        distance=[1.0, 1.0, 0.0, 1.0, 1.0, 1.0],
        reward=[0.0, 0.0, 0.0, -12.0, 0.0, -11.9],
    ) == ["quality < 4", "difficulty < 2", "distance <= 0", "reward <= -12", "quality missing", None]


def test_cut_rows_go_before_the_longest_are_taken() -> None:
    block = MagpieFilter(preset="pro3", keep=1)
    cut = {"length": [1.0, 2.0, 99.0], "field_answer_cut": [None, None, True]}
    assert drops(block, **cut) == ["rank", None, "cut by the length cap"]
    assert drops(MagpieFilter(preset="pro3", keep=1, keep_cut=True), **cut) == ["rank", "rank", None]


def test_the_fifth_takes_the_first_rows_not_the_longest() -> None:
    assert drops(MagpieFilter(preset="pro5", keep=2), length=[1.0, 2.0, 3.0]) == [None, None, "rank"]


def test_the_sixth_is_half_easy_half_harder() -> None:
    hard = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, None]
    got = drops(MagpieFilter(preset="pro6", keep=4), difficulty=hard, length=[1.0, 3.0, 2.0, 6.0, 5.0, 7.0, 9.0])
    assert got == ["rank", None, None, None, "rank", None, "difficulty missing"]


def test_the_notebooks_rules() -> None:
    block = MagpieFilter(preset="notebook", keep=9)
    assert drops(
        block,
        reward=[-10.0, -9.0, -9.0, -9.0, -9.0],
        prompt=["a", "Sort this:\n", "c", "d", "e"],
        tag_similar=[None, None, "r0", "r3", None],
    ) == ["reward <= -10", "ends with a colon", "repeat", None, None]


def test_limits_can_be_left_out_or_replaced() -> None:
    block = MagpieFilter(
        preset="air", keep=9, without=("difficulty", "reward_difference"), where={"quality": {"min": 2}}
    )
    assert block.limits() == {"quality": Bounds(min=2), "distance": APART}
    assert "difficulty" not in block.needs()
    assert drops(block, quality=[1.0, 2.0]) == ["quality < 2", None]
    with pytest.raises(ValidationError, match="`without` names dificulty, which `preset: air` does not limit"):
        MagpieFilter(preset="air", without=("dificulty",))


@pytest.mark.parametrize("name", [name for name in TABLE_5 if name != "pro6"])
def test_a_further_condition_never_adds_rows(name: Name) -> None:
    import numpy as np

    random = np.random.default_rng(0)
    columns = {
        "quality": random.integers(1, 6, 200).astype(float),
        "difficulty": random.integers(1, 6, 200).astype(float),
        "distance": random.integers(0, 2, 200).astype(float),
        "reward": random.normal(-10, 5, 200),
        "reward_difference": random.normal(0, 1, 200),
    }
    whole = drops(MagpieFilter(preset=name, keep=200), **columns)
    for left_out in PRESETS[name].where:
        looser = drops(MagpieFilter(preset=name, keep=200, without=(left_out,)), **columns)
        assert all(reason is None for reason, before in zip(looser, whole, strict=True) if before is None)
