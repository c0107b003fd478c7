"""Scores and selections equal those that the released scripts gave on the same models and rows.

The numbers are in `data/released_ifd.json`, with the commits and versions that gave them; `benchmarks/released_ifd.py`
makes them anew. The rows are Alpaca's, and are read from a copy of the file: without one these tests are skipped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import released_models

from harness.blocks.kinds import Context, Scorer
from harness.engines import open_engine
from harness.engines.base import Engine, ModelSpec
from harness.loop.drive import Desk, drive
from harness.records.example import Example
from harness.records.formats import convert
from harness.select.embed import Embedding
from harness.select.ifd import Ifd
from harness.select.ira import Ira
from harness.select.kmeans import Clusters
from harness.select.perplexity import Perplexity
from harness.select.rifd import Rifd
from harness.select.top import Top

SAYS = json.loads((released_models.DATA / "released_ifd.json").read_text(encoding="utf-8"))
SHARED = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
POOL = SHARED / released_models.POOL
TOLERANCE = 1e-4
LENGTHS = {"whole": None, "cut": SAYS["cut"]}
VARIANTS = ("superfiltering", "cherry_alpaca", "cherry_vicuna", "cherry_wiz", "wiz")

pytestmark = pytest.mark.skipif(not POOL.is_file(), reason=f"the Alpaca rows are not at {POOL}")


@cache
def rows() -> tuple[Example, ...]:
    _, raw = released_models.rows_of(POOL)
    return tuple(convert(dict(row), "alpaca", f"alpaca/{place}") for place, row in enumerate(raw))


class Opened:
    """What the scripts said about one model, and the model in our engine; each block runs once."""

    def __init__(self, said: Any, engine: Engine) -> None:
        self.said, self.engine = said, engine
        self._found: dict[Scorer, dict[str, list[Any]]] = {}

    def through(self, block: Scorer) -> dict[str, list[Any]]:
        if block not in self._found:
            context = Context(block=block.name, chats={"student": self.engine.chat})
            desk = Desk(lambda _: self.engine, context)
            found = drive({"batch": block.score(rows(), context)}, desk, tolerate=False)["batch"]
            self._found[block] = {name: list(values) for name, values in found.items()}
        return self._found[block]


@pytest.fixture(scope="module", params=released_models.MODELS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    numbers, raw = released_models.rows_of(POOL)
    assert released_models.digest(raw) == SAYS["rows"]["sha256"], "other rows than the scripts read"
    assert numbers == SAYS["rows"]["numbers"]
    folder = released_models.build(request.param, tmp_path_factory.mktemp("released") / request.param, raw)
    said = SAYS["models"][request.param]
    assert released_models.fingerprint(folder) == said["fingerprint"], "this is another model than the scripts ran"
    engine = open_engine(ModelSpec(name=request.param, path=folder))
    yield Opened(said, engine)
    engine.close()


def worst(found: list[Any], wanted: list[Any]) -> float:
    """The largest difference; missing values must be missing on both sides."""
    assert [value is None for value in found] == [value is None for value in wanted]
    return float(max(abs(one - other) for one, other in zip(found, wanted, strict=True) if one is not None))


def test_more_than_a_hundred_rows_of_the_pool() -> None:
    assert len(rows()) >= 100
    assert {"tianyi-lab/Cherry_LLM", "tianyi-lab/Superfiltering"} <= set(SAYS["commits"])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_equal_the_released_scripts(opened: Opened, variant: Any, length: str) -> None:
    said = opened.said[length][variant]
    found = opened.through(Ifd(variant=variant, max_length=LENGTHS[length]))
    for part in ("ca", "da"):
        missing = [other is None for other in said[part]]
        assert [value is None for value in found[part]] == missing
        assert worst(found[part], said[part]) < TOLERANCE
    if "ifd" in said:
        assert worst(found["ifd"], said["ifd"]) < TOLERANCE
    assert sum(value is not None for value in said["ca"]) > (50 if length == "cut" else 100)
    problems = [why is None for why in found["tag:ifd.problem"]]
    assert problems == [value is not None for value in found["ifd"]], "a row without a score has its reason"


@pytest.mark.parametrize("length", LENGTHS)
def test_the_first_and_the_second_script_agree_on_alpaca(opened: Opened, length: str) -> None:
    first, second = (opened.said[length][name] for name in ("cherry_alpaca_v1", "cherry_alpaca"))
    assert [first["ca"], first["da"]] == [second["ca"], second["da"]]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("variant", "source", "where", "of"),
    [
        ("superfiltering", "superfiltering", {"below": 1.0}, "all"),
        ("cherry_vicuna", "cherry_vicuna", {"max": 1.0}, "all"),
        ("cherry_alpaca", "cherry_alpaca_v1", {"max": 1.0}, "survivors"),
    ],
)
def test_selections_equal_the_released_scripts(
    opened: Opened, variant: Any, source: str, where: Any, of: Any, length: str
) -> None:
    scores = opened.through(Ifd(variant=variant, max_length=LENGTHS[length]))["ifd"]
    table = pd.DataFrame({"id": [row.id for row in rows()], "ifd": scores})
    block = Top(by="ifd", where={"ifd": where}, keep=SAYS["take"], of=of)
    kept = {place for place, why in enumerate(block.select(table, Context())) if why is None}
    assert kept == set(opened.said[length][source]["kept"])


@pytest.mark.parametrize("length", LENGTHS)
def test_the_pick_for_the_pre_experienced_model(opened: Opened, length: str) -> None:
    said = opened.said[length]["experience"]
    cap = LENGTHS[length]
    embed = Embedding(model="student", form="cherry_alpaca", max_length=cap or 512)
    vectors = np.stack(opened.through(embed)["vector:embedding"])
    assert np.abs(vectors[: len(said["vectors"])] - np.array(said["vectors"])).max() < TOLERANCE
    found = opened.through(Perplexity(variant="cherry_alpaca", of="prompt", max_length=cap))["perplexity"]
    assert worst([math.log(p) for p in found], [math.log(p) for p in said["perplexity"]]) < TOLERANCE
    how = SAYS["kmeans"]
    low, high = how["window"]
    block = Clusters(clusters=how["clusters"], per_cluster=how["per_cluster"], within="perplexity", low=low, high=high)
    table = pd.DataFrame({"id": [row.id for row in rows()], "perplexity": found})
    reasons = block.select(table, Context(vectors={"embedding": vectors}))
    assert [place for place, why in enumerate(reasons) if why is None] == said["kept"]


@pytest.mark.parametrize("length", LENGTHS)
def test_reversed_scores_equal_the_released_functions(opened: Opened, length: str) -> None:
    said, cap = opened.said[length]["reverse"], LENGTHS[length] or 1024
    found = opened.through(Rifd(variant="cherry_vicuna", max_length=cap, ask=SAYS["ask"]))
    for part in ("cq", "dq"):
        assert worst(found[part], said[part]) < TOLERANCE
    pairs = zip(said["cq"], said["dq"], found["rifd"], strict=True)
    assert all(r == pytest.approx(math.exp(c - d), rel=1e-3) for c, d, r in pairs if c is not None and d is not None)


def test_one_family_gives_the_same_values(opened: Opened) -> None:
    said = opened.said["whole"]["superfiltering"]
    ira = opened.through(Ira(variant="superfiltering"))["ira"]
    perplexity = opened.through(Perplexity(variant="superfiltering"))["perplexity"]
    pairs = [(a, b, c) for a, b, c in zip(said["ifd"], ira, perplexity, strict=True) if a is not None]
    assert [-math.log(score) for score, *_ in pairs] == pytest.approx([value for _, value, _ in pairs], abs=TOLERANCE)
    logs = [math.log(value) for value in perplexity if value is not None]
    assert logs == pytest.approx([value for value in said["ca"] if value is not None], abs=TOLERANCE)
