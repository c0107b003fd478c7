"""The LAB blocks through the engine and the store that users run, on one leaf with the pocket teacher."""

from __future__ import annotations

from pathlib import Path

from harness import pocket
from harness.config.model import Dataset, Model
from harness.loop.apply import apply
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
