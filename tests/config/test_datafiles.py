"""Options that are data files: named in `datasets_cfg/`, by path or inline, with every mistake at its line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.blocks import registry
from harness.config.single import load_dataset, load_suite
from harness.errors import ConfigError, UserError
from harness.evaluate.mt_bench import MTBench
from harness.records.sources import check

SUM = "a" * 64
ENTRY = f"dataset: mine\npath: ${{MY_DATA}}/q.jsonl\nurl: https://example.org/q.jsonl\nsha256: {SUM}\nformat: rows\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MY_DATA", raising=False)
    (tmp_path / "datasets_cfg").mkdir()
    (tmp_path / "datasets_cfg/mine.yaml").write_text(ENTRY)
    (tmp_path / "q.jsonl").write_text('{"question_id": 1, "turns": ["a", "b"]}')
    return tmp_path


def suite(folder: Path, **options: str) -> Any:
    lines = [f"{name}: {value}" for name, value in options.items()]
    (folder / "s.yaml").write_text("\n".join(["suite: mt_bench", *lines]))
    return load_suite(str(folder / "s.yaml"), registry)


def mistakes(folder: Path, **options: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        suite(folder, **options)
    return [f"{Path(p.file or '').name}:{p.line}: {p.message}" for p in caught.value.problems]


def test_a_name_a_path_and_a_mapping(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = suite(folder, questions="mine")
    assert (named.block.questions.url, named.block.questions.path) == ("https://example.org/q.jsonl", None)
    assert named.written == {"questions": "mine"}
    monkeypatch.setenv("MY_DATA", str(folder))
    assert suite(folder, questions="mine").block.questions.path == str(folder / "q.jsonl")
    by_path = suite(folder, questions="q.jsonl").block
    inline = suite(folder, questions="{path: q.jsonl}").block
    assert by_path.questions == inline.questions
    assert by_path.fingerprint("test") == MTBench(questions=str(folder / "q.jsonl")).fingerprint("test")
    assert str(folder) not in str(inline.model_dump(mode="json"))


def test_a_judge_of_a_suite_may_name_a_file_too(folder: Path) -> None:
    judge = suite(folder, questions="q.jsonl", judge="{judge: rubric, prompts: mine}").judge
    assert judge.identity_options()["prompts"] == SUM


def test_all_mistakes_at_once(folder: Path) -> None:
    assert mistakes(
        folder, questions="mien", references="nowhere.jsonl", baseline="{use: mine, sha256: 5}", mode="pairs"
    ) == [
        "s.yaml:2: there is no dataset named 'mien'; did you mean 'mine'?" + _known(),
        f"s.yaml:3: there is no file or folder {folder / 'nowhere.jsonl'}",
        "s.yaml:4: sha256: should be text, the checksum of the file",
        "s.yaml:5: mode: there is no \"pairs\"; did you mean 'pairwise'? Known: pairwise, single.",
    ]
    assert mistakes(folder, questions="{url: https://example.org/q.jsonl}") == [
        "s.yaml:2: a url needs the sha256 of the file, so that what is downloaded is what was meant"
    ]
    assert "questions: is required" in mistakes(folder, limit="3")[0]


def _known() -> str:
    from harness.config.checks import nearest
    from harness.config.places import found

    return nearest("mien", found("dataset", Path.cwd())).partition("?")[2]


def test_rows_are_no_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", str(folder))
    (problem,) = check(load_dataset("mine", registry))
    assert "holds no examples, but rows that a suite or a judge reads" in problem.message


@pytest.mark.parametrize("name", ["mt-bench", "mt-bench-pairwise"])
def test_the_shipped_suites_need_no_folder_of_data_to_be_planned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPBENCH_DATA", raising=False)
    away = load_suite(name, registry).block
    assert away.questions.url.startswith("https://")
    data = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not (data / "mt_bench").is_dir():
        pytest.skip(f"no real files in {data}: set LOOPBENCH_SHARED_DATA")
    monkeypatch.setenv("LOOPBENCH_DATA", str(data))
    here = load_suite(name, registry).block
    assert here.questions.url is None
    assert here.fingerprint("test") == away.fingerprint("test")
    assert here.identity_options() == away.identity_options()
    assert len(here.items("test")) == 80


def test_an_unset_folder_without_a_url_is_still_a_mistake(folder: Path) -> None:
    (folder / "datasets_cfg/mine.yaml").write_text("dataset: mine\npath: ${MY_DATA}/q.jsonl\n")
    (mistake,) = mistakes(folder, questions="mine")
    assert mistake.startswith("mine.yaml:2: ${MY_DATA}/q.jsonl: the environment variable MY_DATA is not set")
    with pytest.raises(UserError, match="MY_DATA"):
        load_dataset("mine", registry)
