"""How many rows stages are expected to give: what a taxonomy's leaves say, and what stays unknown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import harness.pocket
from harness import api
from harness.loop.forecast import Line, forecast
from harness.records.example import Example, Message
from harness.store.home import Home
from harness.synthesize.lab_knowledge import LabKnowledge
from harness.synthesize.lab_skills import LabSkills
from harness.synthesize.resample import Resample

EXPERIMENT = """
experiment: tiny
models: {student: pocket/base, teacher: pocket/chat, judge: pocket/oracle}
data: {taxonomy: {kind: taxonomy, path: taxonomy}}
suites: [{use: pocket, count: 4, dev_count: 4}]
leaks: {policy: allow}
recipes:
  - recipe: lab
    steps:
      - {synthesize: lab_knowledge, from: taxonomy, contexts: 1, draws: 40, temperature: 1.0, answers: apart,
         questions: 1, as: knowledge}
      - {synthesize: lab_skills, from: taxonomy, draws: 4, temperature: 1.0, questions: 1, as: skills}
      - {select: dedup, from: skills}
      - {synthesize: resample, rows: 3, per: leaf, replacement: true, as: few}
      - {synthesize: resample, from: skills, rows: 3, per: category, as: by-category}
      - {finetune: sft, from: knowledge, as: first}
      - {finetune: sft, from: [few, knowledge], as: second}
baseline: lab
"""


@pytest.fixture
def taxonomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(EXPERIMENT)
    return Path(shutil.copytree(Path(harness.pocket.__file__).parent / "taxonomy", tmp_path / "taxonomy"))


def lines(*overrides: str) -> dict[str, Line]:
    said = forecast(api.plan("tiny.yaml", overrides), Home(Path("home")))
    return {line.label.split()[-1]: line for line in said.stages}


def test_a_taxonomy_says_how_many_rows_lab_will_make_of_it(taxonomy: Path) -> None:
    """Measured (benchmarks of the claims): 197 rows of knowledge and 338 of skills, after what could not be used."""
    found = lines()
    leaves = len(list(taxonomy.rglob("qna.yaml")))
    assert found["knowledge"].rows == pytest.approx(197, rel=0.05)
    assert found["skills"].rows == pytest.approx(338, rel=0.05)
    assert 0 < (found["taxonomy"].rows or 0) < 1000
    few = found["few"].rows or 0
    assert few % 3 == 0
    assert 3 < few <= 3 * leaves, "three rows of each skill leaf"
    assert found["by-category"].rows is None, "how many categories there are is not known"
    assert found["first"].rows == found["knowledge"].rows
    assert found["second"].rows == few + (found["knowledge"].rows or 0)
    assert all(found[name].tokens for name in ("knowledge", "skills", "first", "second"))


def test_a_taxonomy_that_cannot_be_read_and_leaves_without_documents_stay_unknown(taxonomy: Path) -> None:
    for document in taxonomy.rglob("*.md"):
        document.unlink()
    found = lines()
    assert (found["knowledge"].rows, found["first"].rows, found["second"].rows) == (None, None, None)
    assert found["skills"].rows == pytest.approx(338, rel=0.05)
    next((taxonomy / "compositional_skills").rglob("qna.yaml")).write_text("version: 3\n")
    assert lines()["skills"].rows is None, "the run will refuse this leaf; the plan is made all the same"
    assert lines("data.taxonomy.bad_leaves=drop")["skills"].rows


def test_rows_of_a_taxonomy_may_be_fewer(taxonomy: Path) -> None:
    few = lines("data.taxonomy.rows=20")
    assert few["taxonomy"].rows == 20
    assert few["skills"].rows == 20 * 4, "compositional skills come first"


def row(leaf: str, kind: str, part: str = "seed", text: str = "x", passage: int = 0) -> Example:
    tags = {"leaf": leaf, "leaf_kind": kind, "part": part}
    fields = {"question": "q", "answer": "a", "context": "c", "passage": passage}
    return Example(id=leaf, messages=(Message(role="user", content=text),), tags=tags, fields=fields)


def test_skills_are_expected_per_seed_and_draw() -> None:
    rows = [row("free", "freeform"), row("free", "freeform"), row("with", "grounded"), row("base", "foundational")]
    assert LabSkills().expects_by_leaf(rows) == {"free": 2 * 30, "with": 10 * 3}
    assert LabSkills(draws=2, contexts=0).expects_by_leaf(rows) == {"free": 120, "with": 2 * 3}
    assert LabSkills(kinds=("foundational",), questions=5).expects_by_leaf(rows) == {"base": 5}


def test_knowledge_is_expected_per_chunk_and_seed_context() -> None:
    rows = [*(row("k", "knowledge", passage=n) for n in (0, 0, 1)), row("k", "knowledge", "document", "word " * 900)]
    rows += [row("no documents", "knowledge"), row("no seeds", "knowledge", "document"), row("s", "freeform")]
    chunks = 3  # 4,500 characters are about 1,125 tokens
    assert LabKnowledge().expects_by_leaf(rows) == {"k": chunks * 2 * 3, "no seeds": 0}
    aside = LabKnowledge(rewrites=("spelling",), auxiliary=True, contexts=1)
    assert aside.expects_by_leaf(rows)["k"] == chunks * (2 * 3 + 1)
    apart = LabKnowledge(answers="apart", questions=2, draws=4, chunk_tokens=2000)
    assert apart.expects_by_leaf(rows)["k"] == 2 * 2 * 4


def test_rows_are_resampled_as_its_options_say() -> None:
    assert Resample(times=2.5).expects(10, None) == 25
    assert Resample(rows=7).expects(10, 3) == 7
    assert Resample(rows=7, per="leaf").expects(10, 3) == 21
    assert Resample(rows=7, per="leaf").expects(10, None) is Resample(rows=7, per="category").expects(10, 3) is None
