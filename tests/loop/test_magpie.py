"""Magpie's stages as they run: every tag, the filter, several turns, preference pairs, and the control arm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import api
from harness.loop.plan import Plan
from harness.records import table
from harness.store.artifacts import Store
from harness.store.home import Home

pytestmark = pytest.mark.slow
EXPERIMENT = """
experiment: tiny
models: {student: pocket/base, teacher: pocket/chat, embedder: hashed, judge: pocket/oracle}
data: {pool: {use: pocket/clean, options: {rows: 40}}}
suites: [{use: pocket, count: 4, max_tokens: 8}]
train: {learning_rate: 2e-3, epochs: 1}
leaks: {policy: allow}
baseline: magpie-full
recipes:
  - magpie-full
  - magpie-self-instruct
  - recipe: turns-and-pairs
    steps:
      - {synthesize: magpie, model: teacher, rows: 8, max_tokens: 96, response_max_tokens: 96, as: made}
      - {synthesize: extend, model: teacher, max_tokens: 96, response_max_tokens: 96, as: talks}
      - {synthesize: respond, from: made, model: teacher, n: 3, temperature: 4.0, max_tokens: 60, keep_cut: true}
      - {score: length, as: long}
      - {pair: best_worst, by: length, as: pairs}
      - {finetune: sft, from: talks}
      - {finetune: dpo, from: pairs}
"""
SMALL = (
    "magpie-full.magpie.rows=16",
    "magpie-self-instruct.self_instruct.rows=6",
    "magpie-self-instruct.sample.keep=6",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    folder = tmp_path_factory.mktemp("magpie")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    plan = api.plan(str(folder / "tiny.yaml"), SMALL)
    home = Home(folder / "home")
    assert api.run(plan, home=home, workers=1).failed == {}
    return plan, Store(home)


def stage(done: tuple[Plan, Store], label: str) -> Path:
    plan, store = done
    (key,) = [stage.key for stage in plan.stages.values() if stage.label == label]
    return store.open("rows", key)


def test_every_row_that_trains_has_its_tags(done: tuple[Plan, Store]) -> None:
    rows = list(table.read(stage(done, "magpie-full i1 magpie_filter") / "rows.parquet"))
    assert 0 < len(rows) <= 8, "at most half of the attempts"
    for row in rows:
        assert {"distance", "repeats", "reward", "quality", "length"} <= row.scores.keys()
        assert {"quality", "quality.problem", "reward.problem", "language", "similar", "cluster"} <= row.tags.keys()
        assert row.scores["distance"] is not None
        assert row.scores["distance"] > 0
        assert {"made", "quality.text", "reward.text"} <= row.fields.keys()
        assert row.fields["made"][0]["response"]["finish"] == "stop"
    dropped = list(table.read_dropped(stage(done, "magpie-full i1 magpie_filter") / "dropped.parquet"))
    assert all(one.reason for one in dropped)
    assert len(rows) + len(dropped) <= 16


def test_the_taggers_count_what_they_read(done: tuple[Plan, Store]) -> None:
    plan, store = done
    told: dict[str, float] = {}
    for one in plan.stages.values():
        if one.label == "magpie-full i1 tag":
            told |= json.loads((store.open("rows", one.key) / "manifest.json").read_text())["report"]["counts"]
    assert sum(n for name, n in told.items() if name.startswith("reward: ")) <= 16
    assert any(name.startswith("quality: ") for name in told)


def test_conversations_grow_and_answers_pair(done: tuple[Plan, Store]) -> None:
    talks = list(table.read(stage(done, "turns-and-pairs i1 talks") / "rows.parquet"))
    assert {tuple(m["role"] for m in row.messages) for row in talks} == {("user", "assistant", "user", "assistant")}
    pairs = list(table.read(stage(done, "turns-and-pairs i1 pairs") / "rows.parquet"))
    assert pairs
    assert all(len(row.answer or "") > len(row.rejected or "") for row in pairs)
    assert all((row.scores["margin"] or 0) > 0 for row in pairs)


def test_the_control_arm_asks_for_the_subjects_of_its_seeds(done: tuple[Plan, Store]) -> None:
    rows = list(table.read(stage(done, "magpie-self-instruct i1 self_instruct") / "rows.parquet"))
    assert len(rows) == 6
    assert all(row.answer and row.tags["leaf"] for row in rows)
