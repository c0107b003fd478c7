"""`best_worst`: which answers make a pair, and why a group gives none."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Context
from harness.records.example import Candidate, Dropped, Example, Message
from harness.select.best_worst import BestWorst


def answers(example: Any, group: str, *given: tuple[str | None, float | None], **more: Any) -> list[Example]:
    return [
        example(f"{group}{k}", f"ask {group}", text, group=group, scores={"reward": score}, **more)
        for k, (text, score) in enumerate(given)
    ]


def paired(rows: list[Example], **options: Any) -> tuple[list[Example], dict[str, str]]:
    made = list(BestWorst(**options).pair(rows, Context(iteration=2)))
    pairs = [row for row in made if isinstance(row, Example)]
    return pairs, {row.example.id: row.reason for row in made if isinstance(row, Dropped)}


def test_the_highest_is_chosen_and_the_lowest_rejected(example: Any) -> None:
    rows = answers(example, "a", ("fair", 0.4), ("good", 0.9), ("bad", 0.1))
    (pair,), dropped = paired([*rows[:2], *answers(example, "b", ("x", 1.0)), rows[2]])
    assert (pair.answer, pair.rejected) == ("good", "bad")
    assert pair.scores == {"chosen": 0.9, "rejected": 0.1, "margin": pytest.approx(0.8)}
    assert pair.origin.parents == ("a1", "a2")
    assert pair.origin.iteration == rows[1].origin.iteration, "of the answers, which a pair of no chance shares"
    assert pair.group == "a"
    assert dropped == {"a0": "neither best nor worst", "b0": "fewer answers than needed"}


def test_only_open_groups_are_held(example: Any) -> None:
    """A pair comes as soon as its group is whole, whatever follows."""
    rows = [row for name in "abc" for row in answers(example, name, ("x", 0.1), ("y", 0.9))]
    made = BestWorst().pair(rows, Context())
    assert isinstance(first := next(made), Example)
    assert first.group == "a"
    scattered = [*rows[::2], *rows[1::2]]
    again, dropped = paired(scattered)
    assert {pair.group for pair in again} == set("abc")
    assert not dropped


def test_of_equal_scores_the_first_counts(example: Any) -> None:
    rows = answers(example, "a", ("one", 0.1), ("two", 0.9), ("three", 0.9), ("four", 0.1))
    (pair,), _ = paired(rows)
    assert (pair.answer, pair.rejected) == ("two", "one")


def test_groups_without_a_pair_say_why(example: Any) -> None:
    groups = {
        "same": (("x", 0.1), ("x", 0.2)),
        "tied": (("x", 0.5), ("y", 0.5)),
        "near": (("x", 0.50), ("y", 0.51)),
        "none": (("x", None), (None, 0.3)),
    }
    rows = [row for name, given in groups.items() for row in answers(example, name, *given)]
    pairs, dropped = paired(rows, margin=0.1)
    assert not pairs
    assert dropped == {
        "same0": "all answers the same",
        "same1": "all answers the same",
        "tied0": "tie",
        "tied1": "tie",
        "near0": "margin too small",
        "near1": "margin too small",
        "none0": "no score",
        "none1": "no score",
    }


def test_a_cut_end_is_remembered_on_both_sides(example: Any) -> None:
    rows = [
        example("a0", "q", "good", group="a", scores={"reward": 1.0}),
        example("a1", "q", "ba", group="a", scores={"reward": 0.0}, fields={"answer_cut": True}),
    ]
    (pair,), _ = paired(rows)
    assert pair.fields == {"rejected_cut": True}


def test_candidates_of_one_row(example: Any) -> None:
    row = example(
        "a", "q", "kept", candidates=tuple(Candidate(text=t, score=s) for t, s in (("x", 0.2), ("y", 0.7), ("z", None)))
    )
    (pair,), dropped = paired([row])
    assert (pair.answer, pair.rejected, pair.candidates) == ("y", "x", ())
    assert not dropped


def test_every_row_of_a_group_of_candidates_is_accounted_for(example: Any) -> None:
    rows = [
        example(name, "q", "kept", group="g", candidates=tuple(Candidate(text=f"{name}{s}", score=s) for s in scores))
        for name, scores in (("a", (1.0, 5.0)), ("b", (2.0, 3.0)), ("c", (0.0, 4.0)))
    ]
    (pair,), dropped = paired(rows)
    assert (pair.answer, pair.rejected) == ("a5.0", "c0.0")
    assert dropped == {"b": "neither best nor worst"}
    _, dropped = paired(rows, least=9)
    assert set(dropped) == {"a", "b", "c"}


def test_the_score_that_is_named_goes_before_candidates(example: Any) -> None:
    """Candidates of `rewrite` carry lengths: a reward that was given to the row is what counts."""
    long = Candidate(text="long and bad", score=3.0)
    rows = [
        example("a", "q", "long and bad", group="g", scores={"reward": -2.0}, candidates=(long,)),
        example("b", "q", "good", group="g", scores={"reward": -1.0}),
    ]
    (pair,), _ = paired(rows)
    assert (pair.answer, pair.rejected, pair.scores["margin"]) == ("good", "long and bad", 1.0)


def test_the_released_example_gives_the_released_pairs() -> None:
    """Chosen is the argmax and rejected the argmin of the bundled rewards (data_po of the released code)."""
    root = Path(os.environ.get("LOOPBENCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "magpie" / "example_instructions_5res_armorm.json.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there (set LOOPBENCH_SHARED_DATA)")
    given = json.loads(gzip.decompress(file.read_bytes()))
    rows = [
        Example(
            id=f"{one['uuid']}/{k}",
            group=one["uuid"],
            messages=(Message(role="user", content=one["instruction"]), Message(role="assistant", content=text)),
            scores={"reward": reward["score"]},
        )
        for one in given
        for k, (text, reward) in enumerate(zip(one["responses"], one["rewards_armorm"], strict=True))
    ]
    pairs, _ = paired(rows, least=5)
    places = []
    for one, pair in zip(given, pairs, strict=True):
        places.append((one["responses"].index(pair.answer), one["responses"].index(pair.rejected)))
    assert places == [(3, 1), (2, 3), (4, 2), (0, 3), (2, 0)]
    assert max(pair.scores["margin"] or 0 for pair in pairs) < 0.04, "margins lie within hundredths"
