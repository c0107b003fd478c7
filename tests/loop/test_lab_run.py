"""The LAB blocks through the engine and the store that users run, on one leaf with the pocket teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import api, pocket
from harness.config.model import Dataset, Model
from harness.loop.apply import apply
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.synthesize.lab_knowledge import LabKnowledge
from harness.synthesize.lab_skills import LabSkills

TAXONOMY = str(Path(pocket.__file__).parent / "taxonomy")
TEACHER = Model(name="teacher", path=str(pocket.model_path("pocket/chat")), engine="transformers", prompts="pocket")
OPTIONS = {"questions": 1, "temperature": 1.0, "best": 10, "max_tokens": 96, "judge_max_tokens": 96}


def test_skills_of_one_leaf(tmp_path: Path) -> None:
    data = Dataset(name="t", kind="taxonomy", path=TAXONOMY, leaves=("*/math/packing",))
    block = LabSkills(draws=2, judge_questions=False, **OPTIONS)
    one = apply(block, data, TEACHER, 0, tmp_path / "one")
    assert len(one.rows) + len(one.dropped) == 5 * 2
    assert set(one.reasons) <= {"question: duplicate", "question: a seed's", "answer: cut"} | {
        f"rating judge: {why}" for why in ("1 of 10", "unreadable")
    }
    for row in one.rows:
        assert row.tags["leaf"] == "compositional_skills/math/packing"
        assert row.scores["rating"]
        assert [turn["role"] for turn in row.messages] == ["user", "assistant"]
    again = apply(block, data, TEACHER, 0, tmp_path / "again")
    assert again.rows == one.rows
    other = apply(block, data, TEACHER, 1, tmp_path / "other")
    assert [row.messages for row in other.rows] != [row.messages for row in one.rows]


def test_knowledge_of_one_leaf(tmp_path: Path) -> None:
    data = Dataset(name="t", kind="taxonomy", path=TAXONOMY, leaves=("*/stem/metals",))
    block = LabKnowledge(
        tokenizer="teacher", draws=3, contexts=1, chunk_tokens=80, answers="apart", checks=("rating",), **OPTIONS
    )
    made = apply(block, data, TEACHER, 0, tmp_path)
    assert len(made.rows) + len(made.dropped) == 2 * 3, "two chunks, three draws each"
    assert all("has weight" in str(row.fields["document"]) for row in made.rows)


PHASES = """
experiment: tiny
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/clean, options: {rows: 12}}}
suites: [{use: pocket, count: 2, max_tokens: 4}]
train: {learning_rate: 2e-3, epochs: 1}
leaks: {policy: allow}
recipes:
  - recipe: filtered
    steps:
      - {score: length, as: knowledge}
      - {select: threshold, from: knowledge, by: length, above: 10000, as: long}
      - {finetune: sft, from: knowledge, as: phase-1}
      - {finetune: sft, from: [long, knowledge], as: phase-2}
  - recipe: shared
    steps:
      - {synthesize: pool, as: knowledge}
      - {finetune: sft, from: {knowledge: 1%}, as: phase-1}
      - {finetune: sft, from: knowledge, as: phase-2}
"""


@pytest.mark.slow
def test_phases_without_rows_say_what_left_them_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that keeps nothing, and a share that is less than one row: neither phase trains on what is left."""
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "tiny.yaml").write_text(PHASES)
    plan = api.plan(str(tmp_path / "tiny.yaml"))
    done = api.run(plan, home=Home(tmp_path / "home"), workers=1)
    steps = {cell.recipe: cell.turns[0].steps for cell in plan.cells}
    assert "keeps none of 12 rows" in done.failed[steps["filtered"]["long"]]
    assert "no row is left to train on (the steps before gave none)" in done.failed[steps["shared"]["phase-1"]]
    store = Store(Home(tmp_path / "home"))
    assert store.done("model", steps["filtered"]["phase-1"])
    for recipe in steps:
        assert not store.done("model", steps[recipe]["phase-2"]), "a phase without its rows or its start trains nothing"
