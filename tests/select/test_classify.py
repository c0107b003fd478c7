"""`classify`: what it learns, what it says of rows that it cannot label, and how well it does on the authors' data."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Context, Embed
from harness.errors import UserError
from harness.select.classify import Classify

DATA = Path(os.environ.get("LOOPBENCH_SHARED_DATA", Path(__file__).parents[2] / "../shared/data")) / "realign"
WORDS = {"math": "how many apples are left", "poem": "write a poem about rain", "code": "mend this python program"}


class Rows(list[Any]):
    """A source that counts its passes."""

    passes = 0

    def __iter__(self) -> Any:
        self.passes += 1
        return super().__iter__()


def labelled(example: Any, times: int = 6) -> Rows:
    return Rows(
        example(f"{label}{k}", f"{text} {k}", "x", tags={"category": label})
        for label, text in WORDS.items()
        for k in range(times)
    )


def context(rows: Any) -> Context:
    return Context(block="classify", sources={"labelled": rows})


def test_labels_follow_the_words_and_training_happens_once(score: Any, example: Any) -> None:
    rows = labelled(example)
    here = context(rows)
    for _ in range(2):
        said = score(Classify(), [example("a", "how many pears", "x"), example("b", "a poem", "x")], context=here)
        assert said["tag:task"] == ["math", "poem"]
    assert rows.passes == 1
    assert all(0 < chance <= 1 for chance in said["task_confidence"])
    assert said["tag:task.problem"] == [None, None]
    assert here.tally.counts == {"task: math": 2, "task: poem": 2}


def test_plain_rows_of_a_file_can_be_learnt_from(score: Any, example: Any) -> None:
    rows = Rows({"instruction": f"{text} {k}", "category": label} for label, text in WORDS.items() for k in range(5))
    said = score(Classify(column="kind"), [example("a", "a python program", None)], context=context(rows))
    assert said["tag:kind"] == ["code"]


def test_a_row_without_prompt_and_one_that_is_not_sure_get_no_label(score: Any, example: Any) -> None:
    rows = [example("a", " ", "x"), example("b", "how many", "x")]
    said = score(Classify(least=1.0), rows, context=context(labelled(example)))
    assert said["tag:task"] == [None, None]
    assert said["tag:task.problem"] == ["no prompt", "not confident"]
    assert said["field:task.nearest"] == [None, "math"]


def test_labelled_rows_without_labels_are_refused_with_their_numbers(score: Any, example: Any) -> None:
    with pytest.raises(UserError, match=r"of 6 labelled rows, 0 have a text and a label in 'kind'"):
        score(Classify(label="kind"), [example("a", "x", "y")], context=context(labelled(example, 2)))


def test_vectors_of_a_model_instead_of_words(score: Any, example: Any) -> None:
    import numpy as np

    def vector(request: Embed) -> Any:
        return np.array([word in (request.text or "") for word in ("many", "poem", "python")], dtype="float32")

    said = score(Classify(model="e"), [example("a", "a poem", "x")], vector, context(labelled(example)))
    assert said["tag:task"] == ["poem"]


@pytest.mark.skipif(not DATA.is_dir(), reason="ReAlign's classification data are not there (LOOPBENCH_SHARED_DATA)")
def test_accuracy_on_the_authors_test_rows(score: Any, example: Any) -> None:
    """1,395 training and 143 test rows, all of the paper. Its fine-tuned 13B model reaches 78.32 % (App. C)."""
    with gzip.open(DATA / "task_classifier_train_dataset.json.gz", "rt", encoding="utf-8") as file:
        train = Rows(json.load(file))
    test = json.loads((DATA / "task_classifier_test_dataset.json").read_text(encoding="utf-8"))
    rows = [example(str(k), row["instruction"], None) for k, row in enumerate(test)]
    said = score(Classify(), rows, context=context(train))["tag:task"]
    right = sum(label == row["category"] for label, row in zip(said, test, strict=True))
    assert (len(train), len(test)) == (1395, 143)
    assert right == 50, "34.97 %"
