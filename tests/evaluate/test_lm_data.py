"""Where an lm-eval task's rows come from, and what is said where they do not come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from suite_driver import grades, said

from harness import config
from harness.blocks import registry
from harness.errors import UserError
from harness.evaluate.lm_eval import LMEval
from harness.records import datafile

ARC = [
    {"question": f"{i}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "AB"[i % 2]}
    for i in range(4)
]
PRESETS = {
    "gsm8k-cot": ("numeric", 1319),
    "mmlu": ("acc", None),
    "arc-challenge": ("acc_norm", None),
    "hellaswag": ("acc_norm", None),
    "winogrande": ("acc", None),
    "truthfulqa-mc1": ("acc", None),
    "truthfulqa-mc2": ("acc", None),
    "truthfulqa-gen": ("bleu_acc", None),
    "ifeval": ("prompt_level_strict_acc", 541),
    "wikitext": ("item_bits_per_byte", None),
}


def parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_with_their_headline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_DATA", str(tmp_path))
    for folder in ("mmlu", "ai2_arc", "hellaswag", "winogrande", "truthful_qa", "wikitext", "gsm8k", "prompts"):
        (tmp_path / folder).mkdir()
    for file in ("gsm8k/test.jsonl", "prompts/ifeval_input_data.jsonl.gz"):
        (tmp_path / file).touch()
    suite = config.load_suite(name, registry).block
    assert isinstance(suite, LMEval)
    assert suite.metrics()[0].name == PRESETS[name][0]
    assert suite.splits() == ("test",)
    assert any(note.startswith("lm-eval ") for note in suite.notes())
    assert not any("hub" in note for note in suite.notes()), "presets read local rows"


@pytest.mark.parametrize("name", [name for name, (_, count) in PRESETS.items() if count])
def test_presets_read_their_files(name: str, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    if name == "ifeval":
        pytest.importorskip("langdetect", reason="IFEval needs lm-eval[ifeval]")
    suite = config.load_suite(name, registry).block
    assert len(suite.items("test")) == PRESETS[name][1]


def test_a_preset_without_its_data_says_what_to_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOOPBENCH_DATA", raising=False)
    with pytest.raises(UserError, match="LOOPBENCH_DATA is not set"):
        config.load_suite("winogrande", registry)
    monkeypatch.setenv("LOOPBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no file or folder .*winogrande"):
        config.load_suite("winogrande", registry)
    (tmp_path / "winogrande").mkdir()
    suite = config.load_suite("winogrande", registry).block
    with pytest.raises(UserError, match=r"no file of its split 'validation'.*winogrande_xl/"):
        suite.fingerprint("test")


def test_a_copy_of_the_hubs_dataset_is_read_as_it_is(tmp_path: Path) -> None:
    parquet(tmp_path / "hub" / "ARC-Challenge" / "test-00000-of-00002.parquet", ARC[:3])
    parquet(tmp_path / "hub" / "ARC-Challenge" / "test-00001-of-00002.parquet", ARC[3:])
    parquet(tmp_path / "hub" / "ARC-Challenge" / "train-00000-of-00001.parquet", ARC)
    own = tmp_path / "own" / "arc_challenge"
    own.mkdir(parents=True)
    for split in ("test", "train"):
        (own / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ARC))
    hub, mine = (LMEval(task="arc_challenge", folder=str(tmp_path / f), fewshot=2) for f in ("hub", "own"))
    assert [item.data for item in hub.items("test")] == [item.data for item in mine.items("test")]
    assert len(hub.items("test")) == 4
    before = hub.fingerprint("test")
    parquet(tmp_path / "hub" / "ARC-Challenge" / "train-00000-of-00001.parquet", ARC[:2])
    assert hub.fingerprint("test") != before, "other examples are another suite"


def test_examples_that_the_folder_lacks_are_missed(tmp_path: Path) -> None:
    parquet(tmp_path / "ARC-Challenge" / "test-0.parquet", ARC)
    assert len(LMEval(task="arc_challenge", folder=str(tmp_path), fewshot=0).items("test")) == 4
    with pytest.raises(UserError, match="shows 2 examples of its split 'train', which the folder does not have"):
        LMEval(task="arc_challenge", folder=str(tmp_path), fewshot=2).items("test")


def test_one_file_is_not_the_rows_of_several_tasks(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ARC[0]))
    with pytest.raises(UserError, match="test_path holds the rows of one task"):
        LMEval(task="ai2_arc", test_path=str(file)).fingerprint("test")
    with pytest.raises(ValidationError, match="two places of the same rows"):
        LMEval(task="arc_easy", test_path=str(file), folder=str(tmp_path))
    with pytest.raises(ValidationError, match="the rows are local"):
        LMEval(task="arc_easy", folder=str(tmp_path), revision="abc")


def test_a_hub_out_of_reach_is_one_paragraph_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    def unreachable(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach 'Rowan/hellaswag' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"hf download Rowan/hellaswag --repo-type dataset.*`folder: FOLDER`") as error:
        LMEval(task="hellaswag", fewshot=0).items("test")
    assert "\n" not in str(error.value)
    notes = " ".join(LMEval(task="hellaswag").notes())
    assert "without a `revision`" in notes
    assert "without a `revision`" not in " ".join(LMEval(task="hellaswag", revision="0" * 40).notes())


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "test.parquet"
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"test\.parquet cannot be read as Parquet"):
        datafile.rows(str(file), "test_path")


def test_numeric_agrees_with_every_published_verdict(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = real_data / "gsm8k" / "example_model_solutions.jsonl"
    if not file.is_file():
        pytest.skip(f"no recorded solutions: {file} of openai/grade-school-math is not there")
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    suite = config.load_suite("gsm8k", registry).block
    items, rows = suite.items("test"), [json.loads(line) for line in file.read_text().splitlines()]
    for model, right in (
        ("6b_finetuning", 286),
        ("6b_verification", 515),
        ("175b_finetuning", 458),
        ("175b_verification", 742),
    ):
        found = grades(suite, items, said(items, [(row[model]["solution"],) for row in rows]), None)
        assert [g.values["numeric"] == 1 for g in found] == [row[model]["is_correct"] for row in rows]
        assert sum(g.values["numeric"] or 0 for g in found) == right


def test_all_gold_solutions_are_right_by_numeric(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_DATA", str(real_data))
    suite = config.load_suite("gsm8k", registry).block
    items = suite.items("test")
    found = grades(suite, items, [answer for item in items if (answer := suite.gold(item))], None)
    assert len(found) == 1319
    assert {name: sum(g.values[name] or 0 for g in found) for name in ("numeric", "strict-match")} == {
        "numeric": 1319,
        "strict-match": 1319,
    }


def test_a_package_that_a_task_needs_is_named(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("import no_such_package_here\n\ndef f(doc, results):\n    return {}\n")
    task = (
        "task: t\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\nprocess_results: !function utils.f\n"
    )
    (tmp_path / "t.yaml").write_text(task)
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": "b"}')
    suite = LMEval(task=str(tmp_path / "t.yaml"), test_path=str(tmp_path / "rows.jsonl"))
    with pytest.raises(
        UserError, match="needs a Python package that is not installed .*pip install no_such_package_here"
    ):
        suite.items("test")


def test_sentence_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    code = "def f(doc, results):\n    raise LookupError('Resource punkt_tab not found. Use the NLTK Downloader')\n"
    (tmp_path / "utils.py").write_text(code)
    task = (
        "task: t\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\nprocess_results: !function utils.f\n"
    )
    (tmp_path / "t.yaml").write_text(task)
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": "b"}')
    suite = LMEval(task=str(tmp_path / "t.yaml"), test_path=str(tmp_path / "rows.jsonl"))
    items = suite.items("test")
    with pytest.raises(UserError, match=r"python -m nltk\.downloader punkt_tab"):
        grades(suite, items, said(items, [("x",)]), None)
