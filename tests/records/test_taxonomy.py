"""The taxonomy reader: every schema version, every refusal with its line, folder and archive alike, real leaves."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.config.model import Dataset, Withhold
from harness.errors import UserError
from harness.records import leaves
from harness.records.contents import fingerprint
from harness.records.example import Dropped, Example
from harness.records.leaves import BadLeaf
from harness.records.sources import load

SHARED = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
real = pytest.mark.skipif(not (SHARED / "taxonomy").is_dir(), reason=f"no real taxonomy at {SHARED}")

PAIRS = "".join(f"- question: q{n}\n  answer: a{n}\n" for n in range(5))
SKILL = f"version: 3\ncreated_by: me\ntask_description: to test\nseed_examples:\n{PAIRS}"
PASSAGE = "- context: c{n}\n  questions_and_answers:\n" + "".join(
    f"  - question: q{{n}}{i}\n    answer: a{{n}}{i}\n" for i in range(3)
)
PASSAGES = "".join(PASSAGE.format(n=n) for n in range(5))
KNOWLEDGE = (
    "version: 3\ncreated_by: me\ndomain: tests\ndocument_outline: about tests\n"
    f"document:\n  patterns: ['*.md']\nseed_examples:\n{PASSAGES}"
)


def refused(text: str, path: str = "compositional_skills/a/b") -> tuple[tuple[int, str], ...]:
    with pytest.raises(BadLeaf) as caught:
        leaves.parse(text, path)
    return caught.value.problems


def test_a_skill_without_version_needs_one_example_only() -> None:
    text = "created_by: me\ntask_description: ''\nseed_examples:\n- {question: q, answer: a}\n"
    leaf = leaves.parse(text, "compositional_skills/writing/haiku")
    assert (leaf.version, leaf.kind, leaf.category, len(leaf.pairs)) == (1, "freeform", "writing", 1)


@pytest.mark.parametrize("version", [2, 3])
def test_later_skills_need_five_different_examples(version: int) -> None:
    four = SKILL.replace("version: 3", f"version: {version}").replace("- question: q4\n  answer: a4\n", "")
    assert refused(four) == ((4, "seed_examples: needs at least 5 entries"),)
    twice = SKILL.replace("question: q4\n  answer: a4", "question: q3\n  answer: a3")
    assert refused(twice) == ((13, "example 5 repeats an earlier one"),)


def test_unknown_keys_are_mistakes_with_their_line() -> None:
    text = SKILL.replace("created_by", "createdby").replace("  answer: a2\n", "  answer: a2\n  hint: x\n")
    found = refused(text)
    assert (11, "seed_examples.3.hint: unknown key") in found
    assert any(line == 2 and said.startswith("createdby: unknown key; known: ") for line, said in found)
    assert (1, "created_by: is missing") in found


def test_a_leaf_with_and_without_context_is_refused_at_the_odd_example() -> None:
    mixed = SKILL.replace("- question: q3\n", "- question: q3\n  context: c\n")
    said = "example 4 has a context, but example 1 has none: a leaf is grounded or not, never both"
    assert refused(mixed) == ((11, said),)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("version: 4\n", 1, "version: 4 is not known; known: 1, 2, 3"),
        ("created_by: me\nversion: two\n", 2, "version: 'two' is not known; known: 1, 2, 3"),
        ("", 1, "the file is empty"),
        ("[a, b]\n", 1, "should be a mapping with `seed_examples` and so on"),
        (SKILL.replace("answer: a1", "answer: 7"), 8, "seed_examples.2.answer: should be text"),
        (SKILL.replace("answer: a1", "answer: ''"), 8, "seed_examples.2.answer: is empty"),
        (SKILL.replace("task_description: to test", "task_description: ''"), 3, "task_description: is empty"),
    ],
)
def test_other_refusals(text: str, line: int, said: str) -> None:
    assert refused(text) == ((line, said),)


def test_broken_yaml_names_its_line() -> None:
    ((line, said),) = refused("created_by: me\nseed_examples:xx\n- question: q\n")
    assert line == 3
    assert said.startswith("not valid YAML")


@pytest.mark.parametrize("version", ["", "version: 1\n", "version: 2\n"])
def test_knowledge_of_old_versions_is_refused(version: str) -> None:
    text = version + "created_by: me\ndomain: d\nseed_examples:\n- {question: q, answer: a}\n"
    ((line, said),) = refused(text, "knowledge/a/b")
    assert line == 1
    assert said.startswith("knowledge needs schema version 3")


def test_knowledge_needs_five_contexts_of_three_pairs() -> None:
    leaf = leaves.parse(KNOWLEDGE, "knowledge/a/b")
    assert (leaf.kind, len(leaf.passages), leaf.outline) == ("knowledge", 5, "about tests")
    short = KNOWLEDGE.replace("  - question: q41\n    answer: a41\n", "")
    assert refused(short, "knowledge/a/b") == ((41, "seed_examples.5.questions_and_answers: needs at least 3 entries"),)


def build(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("--", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def taxonomy(path: Path, **more: Any) -> Dataset:
    return Dataset(name="t", kind="taxonomy", path=str(path), **more)


def test_rows_are_seeds_and_documents_in_the_order_of_paths(tmp_path: Path) -> None:
    build(
        tmp_path,
        **{
            "knowledge__z__y__qna--yaml": KNOWLEDGE,
            "knowledge__z__y__doc--md": "a fact",
            "compositional_skills__b__c__qna--yaml": SKILL.replace("  answer: a", "  context: c\n  answer: a"),
            "foundational_skills__d__e__qna--yaml": SKILL,
        },
    )
    rows = [row for row in load(taxonomy(tmp_path)) if isinstance(row, Example)]
    kinds = [(row.tags["leaf_kind"], row.tags["part"]) for row in rows]
    assert kinds == [("grounded", "seed")] * 5 + [("foundational", "seed")] * 5 + [("knowledge", "seed")] * 15 + [
        ("knowledge", "document")
    ]
    assert rows[0].id == "t/compositional_skills/b/c/0"
    assert rows[0].messages[0]["content"] == "c\n\nq0"
    assert rows[-1].messages == ({"role": "user", "content": "a fact"},)
    assert rows[-2].fields["passage"] == 4


def test_folder_and_archive_are_the_same_data(tmp_path: Path) -> None:
    folder = build(tmp_path / "one", **{"compositional_skills__b__c__qna--yaml": SKILL})
    archive = tmp_path / "two.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "taxonomy-abc")
    assert [r.id for r in load(taxonomy(folder)) if isinstance(r, Example)] == [
        r.id for r in load(taxonomy(archive)) if isinstance(r, Example)
    ]
    assert fingerprint(taxonomy(folder)) == fingerprint(taxonomy(archive))
    before = fingerprint(taxonomy(folder))
    build(folder, **{"compositional_skills__b__c__qna--yaml": SKILL.replace("a1", "a one")})
    assert fingerprint(taxonomy(folder)) != before


def test_a_refused_leaf_stops_the_reading_or_is_counted(tmp_path: Path) -> None:
    build(
        tmp_path,
        **{
            "compositional_skills__b__c__qna--yaml": SKILL,
            "compositional_skills__b__d__qna--yaml": "version: 9\n",
        },
    )
    with pytest.raises(UserError, match=r"compositional_skills/b/d/qna\.yaml:1: version: 9 is not known"):
        list(load(taxonomy(tmp_path)))
    rows = list(load(taxonomy(tmp_path, bad_leaves="drop")))
    dropped = [row for row in rows if isinstance(row, Dropped)]
    assert [(d.reason, d.example.id, d.example.fields["line"]) for d in dropped] == [
        ("leaf refused", "t/compositional_skills/b/d/qna.yaml", 1)
    ]
    assert len(list(load(taxonomy(tmp_path, leaves=["*/b/c"])))) == 5


def test_documents_of_a_repository_come_from_its_copy(tmp_path: Path) -> None:
    remote = KNOWLEDGE.replace(
        "patterns: ['*.md']", "patterns: ['a/*.md']\n  repo: https://x.test/y/Docs.git\n  commit: c"
    )
    build(tmp_path / "taxonomy", **{"knowledge__a__b__qna--yaml": remote})
    build(tmp_path / "copies", Docs__a__one__md="", **{"Docs__a__two--md": "text", "Docs__b__no--md": "other"})
    rows = list(load(taxonomy(tmp_path / "taxonomy")))
    assert [r.reason for r in rows if isinstance(r, Dropped)] == ["documents not found"]
    rows = list(load(taxonomy(tmp_path / "taxonomy", documents=str(tmp_path / "copies"))))
    documents = [r for r in rows if isinstance(r, Example) and r.tags["part"] == "document"]
    assert [r.fields["document"] for r in documents] == ["two.md"]
    (copy,) = (tmp_path / "copies").iterdir()
    rows = list(load(taxonomy(tmp_path / "taxonomy", documents=str(copy))))
    documents = [r for r in rows if isinstance(r, Example) and r.tags["part"] == "document"]
    assert [r.fields["document"] for r in documents] == ["two.md"], "the copy itself"


def test_the_copy_of_another_repository_is_not_taken_for_the_one_that_is_missing(tmp_path: Path) -> None:
    remote = KNOWLEDGE.replace(
        "patterns: ['*.md']", "patterns: ['*.md']\n  repo: https://x.test/y/Docs.git\n  commit: c"
    )
    build(tmp_path / "taxonomy", **{"knowledge__a__b__qna--yaml": remote})
    build(tmp_path / "copies", **{"Others__a__no--md": "other"})
    rows = list(load(taxonomy(tmp_path / "taxonomy", documents=str(tmp_path / "copies"))))
    assert [r.reason for r in rows if isinstance(r, Dropped)] == ["documents not found"]
    assert not [r for r in rows if isinstance(r, Example) and r.tags["part"] == "document"]


def test_a_folder_without_leaves_says_so(tmp_path: Path) -> None:
    build(tmp_path, **{"elsewhere__b__qna--yaml": SKILL})
    with pytest.raises(UserError, match="has no leaves: no qna.yaml lies below a folder compositional_skills"):
        list(load(taxonomy(tmp_path)))


@real
def test_every_real_leaf_is_read_or_refused_with_its_line() -> None:
    data = taxonomy(SHARED / "taxonomy", bad_leaves="drop")
    rows = list(load(data))
    leaf_of = {row.tags["leaf"]: row.tags["leaf_kind"] for row in rows if isinstance(row, Example)}
    assert Counter(leaf_of.values()) == {"freeform": 7, "grounded": 5, "foundational": 5, "knowledge": 2}
    dropped = [row for row in rows if isinstance(row, Dropped)]
    # the documents of the two knowledge leaves of version 3 lie in a repository of their own, which is not here
    assert Counter(row.reason for row in dropped) == {"leaf refused": 2, "documents not found": 2}
    refusals = {row.example.id: row.example.fields for row in dropped if row.reason == "leaf refused"}
    assert {id_.split("/")[-2]: fields["line"] for id_, fields in refusals.items()} == {
        "ibm_redbooks": 1,
        "ibm_history": 1,
    }
    assert sum(isinstance(row, Example) for row in rows) == 99
    with pytest.raises(UserError, match="2 leaves are refused"):
        list(load(taxonomy(SHARED / "taxonomy")))


def test_a_zip_is_read_and_checked_against_its_checksum(tmp_path: Path) -> None:
    archive = tmp_path / "t.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("top/compositional_skills/b/c/qna.yaml", SKILL)
        file.writestr("top/README.md", "nothing")
    known = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert len(list(load(taxonomy(archive, sha256=known)))) == 5
    with pytest.raises(UserError, match="is not the archive that was meant"):
        fingerprint(taxonomy(archive, sha256="0" * 64))
    (tmp_path / "t.txt").write_text("no archive")
    with pytest.raises(UserError, match="is no folder, zip or tar archive"):
        list(load(taxonomy(tmp_path / "t.txt")))


def test_hidden_folders_are_not_part_of_it(tmp_path: Path) -> None:
    build(tmp_path, **{"compositional_skills__b__c__qna--yaml": SKILL})
    before = fingerprint(taxonomy(tmp_path))
    (tmp_path / ".git" / "knowledge" / "x" / "y").mkdir(parents=True)
    (tmp_path / ".git" / "knowledge" / "x" / "y" / "qna.yaml").write_text("broken")
    assert fingerprint(taxonomy(tmp_path)) == before
    assert len(list(load(taxonomy(tmp_path)))) == 5


def test_seeds_can_be_set_apart(tmp_path: Path) -> None:
    """What a benchmark of one's own asks must not be what the teacher is shown."""
    build(tmp_path, **{"compositional_skills__b__c__qna--yaml": SKILL})
    withhold = Withhold(rows=2)
    rest = {r.id for r in load(taxonomy(tmp_path, withhold=withhold)) if isinstance(r, Example)}
    apart = {r.id for r in load(taxonomy(tmp_path, withhold=withhold, part="withheld")) if isinstance(r, Example)}
    assert (len(rest), len(apart), rest & apart) == (3, 2, set())
