"""Scorers may leave texts and JSON values beside scores; all of them last through the stages that follow."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness import api
from harness.blocks.base import Block
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer, Selector, TableScorer
from harness.config.model import Dataset, Model
from harness.config.models import bundled
from harness.engines.base import ModelSpec
from harness.engines.hashed import HashedEngine
from harness.errors import UserError
from harness.loop import inputs, scorework, selectwork
from harness.loop.apply import Applied, apply
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.models import binding_of
from harness.loop.stage import Action, Input, Stage
from harness.loop.work import Job, run
from harness.records import table
from harness.records.example import Example
from harness.select.embed import Embedding
from harness.select.top import Top
from harness.store.artifacts import Store
from harness.store.home import Home


class Labels(Scorer):
    """A score, a tag and a field per row; the middle row has none."""

    name: ClassVar[str] = "labels"

    def columns(self) -> tuple[str, ...]:
        return ("level", "tag:kind", "field:raw")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        yield from ()
        known = [row.answer != "b" for row in batch]
        return {
            "level": [2 if k else None for k in known],
            "tag:kind": ["fine" if k else None for k in known],
            "field:raw": [{"text": row.answer} if k else None for k, row in zip(known, batch, strict=True)],
        }


class Wrong(Labels):
    """A tag that is no text."""

    name: ClassVar[str] = "wrong"

    def score(self, batch: Sequence[Example], context: Context) -> Any:
        columns = yield from super().score(batch, context)
        return {**columns, "tag:kind": [1] * len(batch)}


def on_rows(block: Block, folder: Path) -> Applied:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"say {a}", "completion": a}) + "\n" for a in "abc"))
    return apply(block, Dataset(name="rows", path=str(path)), None, 0, folder / "home")


def test_a_scorer_may_give_tags_and_fields(tmp_path: Path) -> None:
    rows = on_rows(Labels(), tmp_path).rows
    assert [row.scores["level"] for row in rows] == [2.0, None, 2.0]
    assert [row.tags["kind"] for row in rows] == ["fine", None, "fine"]
    assert [row.fields["raw"] for row in rows] == [{"text": "a"}, None, {"text": "c"}]


def test_a_tag_that_is_no_text_is_the_blocks_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="tag:kind should be text or None, not int"):
        on_rows(Wrong(), tmp_path)


class Nearest(TableScorer):
    """The similarity of each row to the one that is most like it."""

    name: ClassVar[str] = "nearest"

    def columns(self) -> tuple[str, ...]:
        return ("nearest", "tag:first")

    def needs(self) -> tuple[str, ...]:
        return ("answer", "vector:embedding")

    def score_table(self, table: pd.DataFrame, context: Context) -> Columns:
        vectors = context.vectors["embedding"]
        assert list(table.columns) == ["id", "group", "answer"]
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -1)
        return {"nearest": alike.max(1), "tag:first": list(table["answer"])}


def data(folder: Path, *prompts: str) -> Dataset:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": p.upper()}) + "\n" for p in prompts))
    return Dataset(name="rows", path=str(path), require_answer=False)


def stages(folder: Path, rows: Dataset, *blocks: Block, model: Model | None = None) -> tuple[Store, list[Stage]]:
    """A source and blocks that read each other's rows, done in this process."""
    store = Store(Home(folder / "home").prepare())
    source = Stage(action="source", label="data", data=rows, fingerprint={"data": "file"})
    done = [source]
    binding = None if model is None else binding_of(model)
    for block in blocks:
        read = (Input(key=done[-1].key, kind=done[-1].kind),)
        models = {} if binding is None else dict.fromkeys(block.roles().values(), binding)
        action = cast(Action, block.kind)
        done.append(
            Stage(action=action, label=block.name, block=block, inputs=read, models=models, roles=block.roles())
        )
    for stage in done:
        engines = Engines(store, 1)
        keep, result = run(Job(stage, store, engines, Timer(), lambda done, total: None))
        store.commit(stage.kind, stage.key, keep, result)
        engines.close()
    return store, done


HASHED = Model(name="embedder", written="hashed", engine="hashed")


def test_a_table_scorer_sees_all_rows_and_vectors_last_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorework, "SHARD", 2)
    rows = data(tmp_path, "a red dog", "two cats", "a red dog", "one", "the red dog")
    chain = (Embedding(), Labels(), Top(by="level", keep=5), Nearest())
    store, done = stages(tmp_path, rows, *chain, model=HASHED)
    last = store.path("rows", done[-1].key) / "rows.parquet"
    found = {row.id: row for row in table.read(last)}
    assert found["rows/0"].scores["nearest"] == pytest.approx(1.0)
    assert 0.1 < (found["rows/4"].scores["nearest"] or 0) < 0.9
    assert found["rows/1"].tags["first"] == "TWO CATS"


@pytest.mark.parametrize(("bound", "engine"), [("", "hashed"), ("embedder: pocket/base, ", "transformers")])
def test_an_embedder_that_nobody_binds_needs_no_model(tmp_path: Path, bound: str, engine: str) -> None:
    file = tmp_path / "embedded.yaml"
    file.write_text(
        f"experiment: embedded\nmodels: {{{bound}student: pocket/base, judge: pocket/oracle}}\n"
        "data: {pool: {use: pocket/defects, options: {rows: 8}}}\nsuites: [{suite: pocket, count: 8, dev_count: 8}]\n"
        "recipes: [{recipe: one, steps: [{score: embed}, {select: kmeans, clusters: 2, keep: 4}, {finetune: sft}]}]\n"
    )
    plan = api.plan(str(file))
    (stage,) = (stage for stage in plan.stages.values() if stage.name == "embed")
    assert stage.models["embedder"].spec.engine == engine


def test_vectors_are_read_only_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = data(tmp_path, "one", "two", "three")
    store, done = stages(tmp_path, rows, Embedding(of="answer"), Embedding(column="other"), model=HASHED)
    path = store.path("rows", done[-1].key) / "rows.parquet"
    assert {"vector.embedding", "vector.other"} <= set(pq.read_schema(path).names)
    assert not any("vector" in name for row in table.read(path) for name in (*row.scores, *row.tags, *row.fields))
    inputs_ = [Input(key=done[-1].key)]
    found = inputs.vectors(store, inputs_, "vector:other", tmp_path / "v.npy")
    engine = HashedEngine(ModelSpec(name="hashed", engine="hashed"))
    assert np.array_equal(found, engine.embed_texts(["one", "two", "three"]))
    with pytest.raises(UserError, match=r"the rows have no vector:third\. Put the step that makes it"):
        inputs.vectors(store, inputs_, "vector:third", tmp_path / "w.npy")


def test_a_row_without_a_text_has_no_vector(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    turns = [{"messages": [{"role": "user", "content": "hi"}]}]
    turns += [{"messages": [*turns[0]["messages"], {"role": "assistant", "content": "yes"}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in turns))
    rows = Dataset(name="rows", path=str(path), require_answer=False)
    store, done = stages(tmp_path, rows, Embedding(of="answer"), model=HASHED)
    found = inputs.vectors(store, [Input(key=done[-1].key)], "vector:embedding", tmp_path / "v.npy")
    assert np.isnan(found[0]).all()
    assert np.linalg.norm(found[1]) == pytest.approx(1.0)


def test_the_pocket_model_embeds_texts_cut_at_its_context(tmp_path: Path) -> None:
    folder = bundled()["pocket/base"]
    model = Model(name="embedder", path=str(folder), engine="transformers")
    rows = data(tmp_path, "the red dog", "the red dog " * 400, "the red dog")
    store, done = stages(tmp_path, rows, Embedding(max_length=5000), model=model)
    found = inputs.vectors(store, [Input(key=done[-1].key)], "vector:embedding", tmp_path / "v.npy")
    assert np.isfinite(found).all()
    assert np.allclose(found[0], found[2], atol=1e-5)


def test_a_killed_score_goes_on_after_its_last_shard_with_equal_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorework, "SHARD", 2)
    rows = data(tmp_path, *(f"text {n}" for n in range(5)))
    embed, asked = HashedEngine.embed_texts, list[int]()

    def killed_once(self: HashedEngine, texts: Sequence[str], max_tokens: Sequence[int | None] = ()) -> Any:
        asked.append(len(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return embed(self, texts)

    store, done = stages(tmp_path / "whole", rows, Embedding(), model=HASHED)
    whole = (store.path("rows", done[-1].key) / "rows.parquet").read_bytes()
    monkeypatch.setattr(HashedEngine, "embed_texts", killed_once)
    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path / "killed", rows, Embedding(), model=HASHED)
    store, done = stages(tmp_path / "killed", rows, Embedding(), model=HASHED)
    assert asked == [2, 2, 2, 1], "the first shard is not done again"
    assert (store.path("rows", done[-1].key) / "rows.parquet").read_bytes() == whole


def test_apply_gives_vectors_and_writes_them(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from harness.cli.main import main

    data(tmp_path, "one", "two words")
    out = tmp_path / "out.jsonl"
    call = ["apply", "embed", "--data", str(tmp_path / "rows.jsonl"), "--model", "hashed", "-o", str(out)]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(row["vectors"]["embedding"]) for row in rows] == [1024, 1024]
    assert np.linalg.norm(rows[1]["vectors"]["embedding"]) == pytest.approx(1.0)


class Short(Selector):
    """Decides each row by its answer."""

    name: ClassVar[str] = "short"
    row_by_row: ClassVar[bool] = True
    seen: ClassVar[list[int]] = []

    def needs(self) -> tuple[str, ...]:
        return ("answer",)

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        self.seen.append(len(table))
        context.count("seen", len(table))
        return [None if len(answer) < 3 else "long" for answer in table["answer"]]


def test_a_selector_that_decides_row_by_row_is_given_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectwork, "PART", 2)
    store, done = stages(tmp_path, data(tmp_path, "a", "bbb", "cc", "dddd", "e"), Short())
    manifest = store.manifest("rows", done[-1].key)
    assert (manifest["rows"], manifest["dropped"]) == (3, {"long": 2})
    assert manifest["report"] == {"counts": {"seen": 5}}
    assert Short.seen == [2, 2, 1]
    folder = store.path("rows", done[-1].key)
    assert [row.answer for row in table.read(folder / "rows.parquet")] == ["A", "CC", "E"]
    assert [d.example.answer for d in table.read_dropped(folder / "dropped.parquet")] == ["BBB", "DDDD"]


def test_a_text_without_a_word_has_no_vector() -> None:
    found = HashedEngine(ModelSpec(name="hashed", engine="hashed")).embed_texts(["a word", "", "\n "])
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()


def test_what_holds_no_memory_closes_no_model(tmp_path: Path) -> None:
    engines = Engines(Store(Home(tmp_path).prepare()), 1, keep=1)
    model = binding_of(Model(name="m", path=str(bundled()["pocket/base"]), engine="transformers"))
    first = engines.get(model, Timer())
    hashed = engines.get(binding_of(HASHED), Timer())
    assert engines.get(model, Timer()) is first
    assert engines.get(binding_of(HASHED), Timer()) is hashed
    assert engines.opened == 1
    engines.close()
