"""`neighbours` and `originals`: distances against plain numpy, and both rules for repeats on a chain A ~ B ~ C."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.blocks.kinds import Context
from harness.select import _nearest, _vectors
from harness.select.neighbours import Neighbours
from harness.select.originals import Originals


def measured(vectors: Any, **options: Any) -> dict[str, list[Any]]:
    given = np.asarray(vectors, dtype=np.float32)
    table = pd.DataFrame({"id": [f"r{k}" for k in range(len(given))]})
    block = Neighbours(**options)
    assert block.needs() == ("vector:embedding",)
    columns = block.score_table(table, Context(vectors={"embedding": given}))
    assert tuple(columns) == block.columns()
    return {name: list(values) for name, values in columns.items()}


def at(*degrees: float) -> list[tuple[float, float]]:
    return [(float(np.cos(np.radians(d))), float(np.sin(np.radians(d)))) for d in degrees]


def kept(tags: list[Any], by: str) -> list[str]:
    table = pd.DataFrame({"id": [f"r{k}" for k in range(len(tags))], f"tag:{by}": tags})
    decisions = Originals(by=by).select(table, Context())
    assert set(decisions) <= {None, "repeat"}
    return [name for name, reason in zip(table["id"], decisions, strict=True) if reason is None]


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_distances_are_those_of_unit_vectors(index: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32) * 3
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    squared = 2 - 2 * unit @ unit.T
    np.fill_diagonal(squared, np.inf)
    got = measured(vectors, near=0.3, index=index)
    assert got["distance"] == pytest.approx(squared.min(axis=1), abs=1e-5)
    assert got["repeats"] == [float(n) for n in (squared < 0.3).sum(axis=1)]


def test_equal_vectors_have_distance_zero_exactly() -> None:
    """The paper keeps rows with a distance above 0: rounding must not let a copy through."""
    row = np.random.default_rng(1).normal(size=300)
    other = np.random.default_rng(2).normal(size=300)
    got = measured([row, other, row, row * 2])
    assert got["distance"][0] == got["distance"][2] == 0.0
    assert got["distance"][1] > 0.1
    assert got["repeats"] == [2.0, 0.0, 2.0, 2.0]


def test_a_chain_of_repeats_by_both_rules() -> None:
    """A ~ B ~ C with A unlike C: the released rule drops B and C, the greedy one B only."""
    got = measured(at(0, 10, 20, 90), near=0.05)  # 10 degrees are 0.03, 20 degrees 0.12
    assert got["tag:similar"] == ["r0", "r0", "r1", None]
    assert got["tag:cluster"] == ["r0", "r0", "r2", None]
    assert kept(got["tag:similar"], "similar") == ["r0", "r3"]
    assert kept(got["tag:cluster"], "cluster") == ["r0", "r2", "r3"]


def test_clusters_larger_than_the_first_look_are_counted_whole() -> None:
    """The released code looks at 500 neighbours, counts 499 at most, and may miss the first of a larger cluster."""
    vectors = [*at(90), *at(*np.linspace(0, 1, 700))]
    got = measured(vectors)
    assert got["repeats"] == [0.0, *[699.0] * 700]
    assert set(got["tag:similar"][1:]) == set(got["tag:cluster"][1:]) == {"r1"}
    assert max(measured(vectors, most=500)["repeats"]) == 499.0


def test_more_equal_rows_than_the_first_look_sees_are_counted_whole() -> None:
    """Among 40 equal vectors the first look need not find the row itself."""
    got = measured([*at(90), *at(0) * 40])
    assert got["repeats"] == [0.0, *[39.0] * 40]
    assert set(got["tag:similar"][1:]) == {"r1"}


def test_rows_without_a_vector_have_no_neighbours() -> None:
    got = measured([(1, 0), (np.nan, np.nan), (0, 1)])
    assert got["distance"] == [2.0, None, 2.0]
    assert got["repeats"] == [0.0, None, 0.0]
    assert measured(np.full((2, 3), np.nan))["distance"] == [None, None]
    assert measured([(1, 0)])["distance"] == [None], "a single row has no neighbour"


def test_columns_of_a_second_measure_have_names_of_their_own() -> None:
    assert Neighbours(column="answer_").columns() == (
        "answer_distance",
        "answer_repeats",
        "tag:answer_similar",
        "tag:answer_cluster",
    )


# --- vectors that do not fit into memory ------------------------------------------------------------------------------
def mapped(folder: Path, vectors: np.ndarray) -> np.ndarray:
    """Vectors as a stage maps them."""
    vectors.astype(np.float32).tofile(folder / "vectors.npy")
    return np.memmap(folder / "vectors.npy", np.float32, "c", shape=vectors.shape)


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_parts_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 16)).astype(np.float32)
    vectors[100:130] = vectors[3] + 0.01 * random.normal(size=(30, 16))  # more near ones than the first look sees
    vectors[[0, 57, 58, 399]] = np.nan
    whole = measured(vectors)
    monkeypatch.setattr(_vectors, "PART", 64)
    for name, size in (("QUERIES", 50), ("_CROWDED", 7), ("_PAIRS", 99)):
        monkeypatch.setattr(_nearest, name, size)
    table = pd.DataFrame({"id": [f"r{k}" for k in range(400)]})
    context = Context(vectors={"embedding": mapped(tmp_path, vectors)})
    parts = Neighbours.model_validate({"index": index}).score_table(table, context)
    assert parts["repeats"] == whole["repeats"]
    assert parts["tag:similar"] == whole["tag:similar"]
    assert parts["tag:cluster"] == whole["tag:cluster"]
    np.testing.assert_allclose(np.array(parts["distance"], float), np.array(whole["distance"], float), atol=1e-6)


def test_vectors_are_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million rows of 384 numbers one copy takes 1.5 GB, and copies are what has to be avoided."""
    monkeypatch.setattr(_vectors, "PART", 256)
    for name, size in (("QUERIES", 256), ("_PAIRS", 256)):
        monkeypatch.setattr(_nearest, name, size)
    vectors = mapped(tmp_path, np.random.default_rng(0).normal(size=(2000, 1024)))
    table = pd.DataFrame({"id": [f"r{k}" for k in range(2000)]})
    measured(np.ones((40, 4)))  # imports are not counted
    tracemalloc.start()
    Neighbours().score_table(table, Context(vectors={"embedding": vectors}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes, f"{peak / vectors.nbytes:.2f} times the vectors"


def test_the_graph_holds_vectors_in_half_precision() -> None:
    import faiss

    vectors = np.random.default_rng(0).normal(size=(1000, 512)).astype(np.float32)
    index = _nearest._graph(_nearest.Units(vectors))
    assert faiss.serialize_index(index).nbytes < 0.8 * vectors.nbytes
