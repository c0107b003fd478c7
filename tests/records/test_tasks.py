"""Task taxonomies: what the shipped ones hold, and what a file of one's own is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.tasks import load_tasks

UNTOUCHED = {
    "story_generation", "poem_generation", "advice_giving", "code_simplification", "paraphrasing", "table_extraction",
    "title_generation", "text_summarization", "note_summarization", "roleplay", "default",
}  # fmt: skip
LOOKED_UP = {"how_to_generation", "open_qa", "fact_verification", "recommendations", "explain_answer"}


def test_the_papers_taxonomy_has_46_tasks_in_ten_groups() -> None:
    """Sizes of the groups: arXiv 2402.12219 Table 1; sets: `constant.py` at commit 65e66d3, compared name by name."""
    tasks = load_tasks("realign")
    sizes = Counter(task.group for task in tasks)
    assert sum(sizes.values()) == 46
    assert sorted(sizes.values()) == [2, 3, 3, 4, 4, 5, 5, 6, 6, 8]
    assert {task.name for task in tasks if not task.rewrite} == UNTOUCHED
    assert {task.name for task in tasks if task.evidence} == LOOKED_UP
    assert all(task.means and task.format for task in tasks)
    assert {task.name for task in tasks if "code" in task.checks} == {t.name for t in tasks if t.group == "Code"}


def test_the_pocket_world_has_a_task_for_each_family() -> None:
    from harness.pocket.world import CATEGORIES

    tasks = load_tasks("pocket")
    assert set(tasks.by_name) == set(CATEGORIES)
    assert {task.name for task in tasks if not task.rewrite} == {"writing", "roleplay"}


def test_content_decides_the_digest_and_an_edited_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = "default: a\ntasks:\n  a: {group: g, means: m, format: f}\n"
    file.write_text(text)
    before = load_tasks(str(file))
    file.write_text(text.replace("format: f", "format: other"))
    import os

    os.utime(file, ns=(1, 1))
    after = load_tasks(str(file))
    assert before.digest != after.digest
    assert after.get("a") is not None
    assert after.get("a").format == "other"  # type: ignore[union-attr]
    assert after.get("b") is None
    assert after.get(None) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: [a]", "needs `tasks:`"),
        ("tasks: {a: [", "no readable YAML"),
        ("default: a\ntasks: {a: {group: g, means: m}}", "a: 'format' is missing"),
        ("default: a\ntasks: {a: {group: g, means: m, format: f, form: x}}", "unknown key 'form'"),
        ("default: a\ntasks: {a: {group: g, means: m, format: f, rewrite: 1}}", "'rewrite' should be true or false"),
        ("default: a\ntasks: {a: {group: g, means: m, format: f, checks: [speling]}}", "`checks` should be a list of"),
        ("default: b\ntasks: {a: {group: g, means: m, format: f}}", "`default: b` is none of its tasks"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        load_tasks(str(file))


def test_a_name_that_is_neither_a_taxonomy_nor_a_file_is_refused() -> None:
    with pytest.raises(UserError, match="realign, pocket"):
        load_tasks("nonesuch")
