"""A block may read a second source: by name, as often as it likes, and its content is in the key."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest

from harness.blocks import registry
from harness.blocks.base import SourceRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.config.model import Dataset
from harness.config.single import load_dataset
from harness.errors import ConfigError, UserError
from harness.loop.apply import apply
from harness.records.example import Example

from .conftest import Make


class Shared(Scorer):
    """How many texts of the other source hold the row's answer; reads it once per batch."""

    name: ClassVar[str] = "shared"
    documents: SourceRole = identity("documents", description="Where to look.")

    def columns(self) -> tuple[str, ...]:
        return ("shared",)

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        yield from ()
        texts = [_text(row) for row in context.sources[self.documents]]
        assert texts == [_text(row) for row in context.sources[self.documents]], "each pass reads anew"
        return {"shared": [sum(str(row.answer) in text for text in texts) for row in batch]}


def _text(row: Example | dict[str, str]) -> str:
    return row["text"] if isinstance(row, dict) else str(row.answer)


RECIPE = """
recipe: looks
steps:
  - {score: shared, documents: NAME}
  - {finetune: sft}
"""


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    value = f"{Shared.__module__}:Shared"
    entry = EntryPoint(name="score.shared", value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "_foreign", lambda: {"score.shared": entry})


def rows(path: Path, *answers: str) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"say {a}", "completion": a}) + "\n" for a in answers))
    return path


def texts(path: Path, *found: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in found))
    return path


def shared_with(tmp_path: Path, source: Dataset) -> list[float | None]:
    data = Dataset(name="rows", path=str(rows(tmp_path / "rows.jsonl", "a", "b")))
    made = apply(Shared(), data, None, 0, tmp_path / "home", sources={"documents": source}).rows
    return [row.scores["shared"] for row in made]


def test_examples_rows_and_files_can_all_be_read(tmp_path: Path) -> None:
    examples = Dataset(name="more", path=str(rows(tmp_path / "more.jsonl", "ab", "b")))
    assert shared_with(tmp_path / "", examples) == [1.0, 2.0]
    as_they_are = Dataset(name="raw", path=str(texts(tmp_path / "raw.jsonl", "a", "a b")), format="rows")
    (tmp_path / "2").mkdir()
    assert shared_with(tmp_path / "2", as_they_are) == [2.0, 1.0]


def test_the_files_of_a_folder_are_rows_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name, text in (("z.md", "b"), ("x/y.md", "a"), (".hidden/y.md", "a"), ("note.bin", "a")):
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    folder = load_dataset(tmp_path / "docs", registry).model_copy(update={"files": "**/*.md"})
    assert shared_with(tmp_path, folder) == [1.0, 1.0]


def test_apply_says_which_source_is_missing(tmp_path: Path) -> None:
    data = Dataset(name="rows", path=str(rows(tmp_path / "rows.jsonl", "a")))
    with pytest.raises(UserError, match=r"shared reads 'documents' besides its rows .* add --source documents=FILE"):
        apply(Shared(), data, None, 0, tmp_path / "home")


def test_the_content_of_a_source_is_in_the_key_and_its_name_is_not(make: Make, known: None, tmp_path: Path) -> None:
    def key(name: str, *found: str) -> str:
        path = texts(tmp_path / "docs.jsonl", *found)
        dataset = json.dumps({"dataset": "docs", "path": str(path), "format": "rows"})
        plan = make(RECIPE.replace("NAME", name), overrides=(f"data.{name}={dataset}",))
        (stage,) = (s for s in plan.stages.values() if s.name == "shared")
        (source,) = stage.sources[name]
        assert source.raw
        assert source.key in stage.parents
        return stage.key

    first = key("texts", "a")
    assert key("others", "a") == first
    assert key("texts", "b") != first


def test_a_source_may_be_an_earlier_step(make: Make, known: None) -> None:
    recipe = RECIPE.replace("steps:\n", "steps:\n  - {select: sample, keep: 4, as: few}\n").replace("NAME", "few")
    plan = make(recipe)
    (stage,) = (s for s in plan.stages.values() if s.name == "shared")
    assert plan.stages[stage.sources["few"][0].key].name == "sample"


def test_a_source_that_is_not_there_is_refused_with_its_line(make: Make, known: None) -> None:
    with pytest.raises(ConfigError) as caught:
        make(RECIPE.replace("NAME", "nowhere"))
    (problem,) = caught.value.problems
    assert "documents: there are no rows named 'nowhere': bind them under `data:`" in problem.message
    assert problem.line == 11


def test_steps_do_not_read_rows_that_are_no_examples(make: Make, tmp_path: Path) -> None:
    dataset = json.dumps({"path": str(texts(tmp_path / "docs.jsonl", "a")), "format": "rows"})
    recipe = "\nrecipe: wrong\nsteps:\n  - {select: sample, keep: 4, from: docs}\n  - {finetune: sft}\n"
    with pytest.raises(ConfigError, match="from: docs holds rows of a file as they are"):
        make(recipe, overrides=(f"data.docs={dataset}",))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{select: sample, keep: 4, from: tuned}", "from: 'tuned' is a finetune, which gives a model"),
        ("{score: shared, documents: tuned}", "documents: there are no rows named 'tuned'"),
    ],
)
def test_a_finetune_has_no_rows(step: str, said: str, make: Make, known: None) -> None:
    recipe = f"\nrecipe: wrong\nsteps:\n  - {{finetune: sft, as: tuned}}\n  - {step}\n  - {{finetune: sft}}\n"
    with pytest.raises(ConfigError, match=said):
        make(recipe)
