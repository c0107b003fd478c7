"""Files of answers: every form, ids of both kinds, and all mistakes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.model import SuiteRef
from harness.errors import CannotTell, UserError
from harness.scoring import BadOutputs
from harness.scoring.align import Items
from harness.scoring.sources import Source, read_sources
from harness.store.home import Home

from .conftest import Write


def read(ref: SuiteRef, *files: str, home: Path | None = None) -> list[Source]:
    return read_sources(files, Items(ref.block, "test"), ref.name, "test", Home(home or Path("/nowhere")))


def outputs(source: Source) -> list[tuple[str, ...]]:
    (answers,) = source.runs.values()
    return [answer.outputs for answer in answers]


def mistakes(ref: SuiteRef, *files: str) -> list[str]:
    with pytest.raises(BadOutputs) as caught:
        read(ref, *files)
    return [str(problem) for problem in caught.value.problems]


GIVEN = [f"answer {i}" for i in range(6)]


@pytest.mark.parametrize("name", ["o.jsonl", "o.json", "o.jsonl.gz", "o.json.gz"])
@pytest.mark.parametrize("form", ["index", "text index", "own id", "instruction", "lm-eval"])
def test_every_form_gives_the_same_answers(pairs: SuiteRef, write: Write, name: str, form: str) -> None:
    rows: dict[str, list[Any]] = {
        "index": [{"id": i, "output": text} for i, text in enumerate(GIVEN)],
        "text index": [{"id": str(i), "output": [text]} for i, text in enumerate(GIVEN)],
        "own id": [{"id": f"pairwise/{i}", "output": text} for i, text in enumerate(GIVEN)],
        "instruction": [{"instruction": f"task {i}", "output": t, "generator": "m"} for i, t in enumerate(GIVEN)],
        "lm-eval": [{"doc_id": i, "resps": [[text]]} for i, text in enumerate(GIVEN)],
    }
    (source,) = read(pairs, write(name, list(reversed(rows[form]))))
    assert outputs(source) == [(text,) for text in GIVEN]
    assert source.name == ("m" if form == "instruction" else "o")


def test_turns_come_as_a_list_or_in_fastchats_form(pocket_turns: SuiteRef, write: Write) -> None:
    items = pocket_turns.block.items("test")
    plain = [{"id": item.id, "output": ["a", f"b {i}"]} for i, item in enumerate(items)]
    fastchat = [{"question_id": i, "choices": [{"turns": ["a", f"b {i}"]}], "model_id": "m"} for i in range(8)]
    for rows in (plain, fastchat):
        (source,) = read(pocket_turns, write("o.jsonl", rows))
        assert outputs(source) == [("a", f"b {i}") for i in range(8)]


def test_an_index_counts_over_the_whole_source(write: Write, pairs: SuiteRef) -> None:
    part = pairs.block.model_copy(update={"limit": 2})
    file = write("o.jsonl", [{"id": i, "output": text} for i, text in enumerate(GIVEN)])
    (source,) = read_sources([file], Items(part, "test"), "pairs", "test", Home(Path("/nowhere")))
    assert outputs(source) == [("answer 0",), ("answer 1",)]
    assert source.notes == ("4 entries are of items that this suite leaves out",)


def test_a_share_set_apart_does_not_move_the_indexes(pairs: SuiteRef, write: Write) -> None:
    part = pairs.block.model_copy(update={"dev": 0.5})
    file = write("o.jsonl", [{"id": i, "output": text} for i, text in enumerate(GIVEN)])
    kept: dict[str, tuple[str, ...]] = {}
    for split in ("dev", "test"):
        items = Items(part, split)
        (source,) = read_sources([file], items, "pairs", split, Home(Path("/nowhere")))
        kept |= {item.id: out for item, out in zip(items.items, outputs(source), strict=True)}
    assert kept == {f"pairwise/{i}": (text,) for i, text in enumerate(GIVEN)}


def test_missing_entries_are_missing_answers_with_their_reason(pairs: SuiteRef, write: Write) -> None:
    file = write("o.jsonl", [{"id": 0, "output": "a"}, {"id": 1, "output": None}, {"id": 2, "output": ""}])
    (source,) = read(pairs, file)
    (answers,) = source.runs.values()
    assert [a.outputs for a in answers] == [("a",), (), ("",), (), (), ()]
    assert answers[1].data["error"] == "the file of outputs has null here"
    assert answers[3].data["error"] == "not in the file of outputs"


def test_all_mistakes_of_all_files_are_told_at_once_with_their_lines(pairs: SuiteRef, write: Write) -> None:
    first = write("a.jsonl", '{"id": 0, "output": "a"}\n{"id": 0, "output": "b"}\n\n{"id": 1, "output": 3}\n{oops\n[1]')
    second = write("b.json", '[\n {"id": 9, "output": "a"},\n {"id": true, "output": "b"},\n {"output": "c"}\n]')
    found = mistakes(pairs, first, second)
    assert found == [
        f"{first}:2: a second answer to pairwise/0, which line 1 answers already",
        f"{first}:4: `output` should be a text, or a list of texts for several turns, not a number",
        f"{first}:5: not valid JSON: Expecting property name enclosed in double quotes (column 2)",
        f"{first}:6: a mapping is expected here, not list",
        f"{second}:2: id '9' is of no item of this suite (its ids are like pairwise/0, or an index from 0 to 5)",
        f"{second}:3: `id` should be a number or a text, not true or false",
        f"{second}:4: this entry has no id; the file is read as id and output",
    ]


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"),
    (" \n\n", "is empty"),
    ("[]", "is an empty list"),
    ('{\n "a": 1\n}', "holds one JSON object"),
    ('[{"id": 1', "not valid JSON"),
    ("id,output\n1,a", "not one line of it is JSON"),
    ('{"question": "x", "answer": "y"}', "no file of answers: its entries have answer, question"),
    ('{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 1}', "name the file with --verdicts"),
    ('{"question_id": 81, "judgment": "[[1]]"}', "name the file with --verdicts"),
    ('{"doc_id": 0, "resps": [[[-1.5, false]]]}', "holds log-likelihoods, not texts"),
    ('{"doc_id": 0, "resps": null}', "`resps` should be a list with the texts of each request, not null"),
    ('{"doc_id": 0, "resps": "yes"}', "not a text"),
    ('{"question_id": 81, "choices": []}', "whose first entry has `turns`"),
    ('{"instruction": "task 99", "output": "x"}', "instruction 'task 99' is of no item of this suite"),
    ('{"id": 6, "output": "x"}', "indexes count from 0 to 5"),
    ('{"id": 0, "output": ["x", "y"]}', "pairwise/0 has 1 turn, but 2 outputs are given"),
])  # fmt: skip
def test_the_wrong_kind_of_file_is_named(pairs: SuiteRef, write: Write, text: str, message: str) -> None:
    (problem,) = mistakes(pairs, write("o.jsonl", text))
    assert message in problem


def test_what_is_no_text_or_no_file_is_told(pairs: SuiteRef, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.gz").write_bytes(b"\x1f\x8bbroken")
    found = mistakes(pairs, str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c.gz"), str(tmp_path))
    assert "there is no file" in found[0]
    assert "is no text in UTF-8" in found[1]
    assert "cannot be read" in found[2]
    assert "is a folder" in found[3]


def test_several_models_in_one_file_are_named(pairs: SuiteRef, write: Write) -> None:
    rows = [{"instruction": "task 0", "output": "a", "generator": name} for name in ("x", "y")]
    (problem,) = mistakes(pairs, write("o.json", rows))
    assert "the file has answers of several models (x, y)" in problem


def test_only_the_first_mistakes_are_listed(pairs: SuiteRef, write: Write) -> None:
    with pytest.raises(BadOutputs, match=r"50 mistakes; nothing was scored") as caught:
        read(pairs, write("o.jsonl", [{"id": 100 + i, "output": "x"} for i in range(50)]))
    assert str(caught.value).endswith("... and 30 more")


def test_no_answer_at_all_is_no_measurement(pairs: SuiteRef, write: Write) -> None:
    with pytest.raises(CannotTell, match="answers none of the 6 items"):
        read(pairs, write("o.jsonl", [{"id": 0, "output": None}]))


def test_ids_that_could_be_either_are_read_as_own_ids_and_said(write: Write) -> None:
    from harness.blocks.kinds import EvalItem
    from harness.evaluate.pocket import Pocket
    from harness.judges._tasks import source_data
    from harness.scoring.forms import read_outputs

    class Numbered(Pocket):
        name = "numbered"

        def items(self, split: str) -> list[EvalItem]:
            return [EvalItem(id=f"n/{i}", turns=("a",), data=source_data(i)) for i in (1, 0)]

    problems: list[Any] = []
    file = read_outputs(Path(write("o.jsonl", [{"id": 0, "output": "zero"}, {"id": 1, "output": "one"}])), problems)
    assert file is not None
    aligned = Items(Numbered(), "test").aligned(file, problems)
    assert [a.outputs for a in aligned.answers] == [("one",), ("zero",)]
    assert aligned.notes == ("its ids are read as the items' own ids, though they could be indexes too",)
    assert not problems


def test_a_double_name_is_replaced_by_the_path(pairs: SuiteRef, write: Write, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    rows = [{"id": 0, "output": "a"}]
    first, second = write("o.jsonl", rows), write("x/o.jsonl", rows)
    assert [s.name for s in read(pairs, first, second)] == [first, second]


def test_an_experiment_that_was_never_run_is_no_file(pairs: SuiteRef, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no experiment of that name"):
        read(pairs, "night/best", home=tmp_path)
