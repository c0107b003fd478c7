"""Local rows in the place of a task's own dataset: nothing is fetched, and lm-eval notices no difference.

Either two files hold the documents and the examples of one task, or a folder holds all splits of one or many tasks, as
files of one's own or as the copy of a dataset of the Hugging Face hub has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.evaluate._lm_spec import Spec
from harness.records import datafile

Row = dict[str, Any]
_ENDINGS = ("jsonl", "json", "csv", "parquet", "jsonl.gz", "json.gz", "csv.gz")
_WHOLE = (None, "default", "main")
"""Names of a dataset's only part: its files may lie in the folder itself."""


def split_files(folder: str, task: str, spec: Spec) -> dict[str, list[Path]]:
    """The files of each split that a task names: `<folder>/<task or part>/<split>.jsonl` and the like.

    Raises:
        UserError: no such folder, or nothing in it for the split whose documents are asked.
    """
    base = datafile.locate_folder(folder, "folder")
    places = [base / task, base / str(spec.get("dataset_name")), base / "data", base]
    if spec.get("dataset_name") not in _WHOLE:
        places = places[:2]
    found = {split: files for split in _splits(spec) if (files := _first(places, split))}
    asked = documents_split(spec)
    if asked not in found:
        raise UserError(
            f"task {task}: no file of its split {asked!r} in {base}. Looked for {asked}.jsonl, .json, .csv, .parquet "
            f"(gzip too) or {asked}-*.parquet in {', '.join(dict.fromkeys(_shown(p, base) for p in places))}"
        )
    return found


def read(files: Mapping[str, Sequence[Path]]) -> dict[str, list[Row]]:
    """The rows of all splits."""
    return {split: [row for path in paths for row in datafile.rows(str(path), split)] for split, paths in files.items()}


def documents_split(spec: Spec) -> str:
    """The split whose documents a task asks."""
    return str(spec.get("test_split") or spec.get("validation_split") or "test")


def use_folder(config: Spec, splits: Mapping[str, Sequence[Row]], shots: int) -> None:
    """Gives a task the splits of a folder under their own names; splits that are not there are taken away.

    Raises:
        UserError: examples are shown, but their split is not there.
    """
    examples = _examples_split(config)
    if shots and examples not in splits and not _own_examples(config):
        raise UserError(
            f"task {config['task']} shows {shots} examples of its split {examples!r}, which the folder does not have: "
            "add its file, or set `fewshot: 0`"
        )
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in splits:
            config[key] = None
    shown = config.get("fewshot_config") or {}
    if shown.get("split") is not None and shown["split"] not in splits:
        config["fewshot_config"] = {**shown, "split": None}
    _put(config, splits)


def use_rows(config: Spec, documents: Sequence[Row], examples: Sequence[Row] | None, shots: int) -> None:
    """Puts local rows where the task expects its own splits, and takes away the splits that have no rows.

    Raises:
        UserError: examples are shown, but there are none.
    """
    asked, shown = documents_split(config), config.get("fewshot_split") or config.get("training_split") or "train"
    if shots and not examples and not _own_examples(config):
        raise UserError(
            f"task {config['task']} shows {shots} examples: name their file as `train_path`, or set `fewshot: 0`"
        )
    splits = {asked: documents}
    config.update(test_split=asked, validation_split=None, training_split=None, fewshot_split=None)
    if examples and not _own_examples(config):
        shown = "train" if shown == asked else shown
        splits[shown] = examples
        config.update(training_split=shown, fewshot_split=shown)
        if config.get("fewshot_config"):
            config["fewshot_config"] = {**config["fewshot_config"], "split": shown}
    _put(config, splits)


def _put(config: Spec, splits: Mapping[str, Sequence[Row]]) -> None:
    config.update(dataset_path=None, dataset_name=None, dataset_kwargs=None, custom_dataset=_dataset(splits))


def _dataset(splits: Mapping[str, Sequence[Row]]) -> Callable[..., Any]:
    def make(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({name: Dataset.from_list(list(rows)) for name, rows in splits.items()})

    return make


def _splits(spec: Spec) -> Iterator[str]:
    named = [spec.get(f"{kind}_split") for kind in ("test", "validation", "training", "fewshot")]
    named.append((spec.get("fewshot_config") or {}).get("split"))
    yield from dict.fromkeys([documents_split(spec), *(str(name) for name in named if name)])


def _examples_split(spec: Spec) -> str:
    inner = (spec.get("fewshot_config") or {}).get("split")
    found = inner or spec.get("fewshot_split") or spec.get("training_split") or spec.get("validation_split")
    return str(found or documents_split(spec))


def _own_examples(spec: Spec) -> bool:
    return bool((spec.get("fewshot_config") or {}).get("samples"))


def _first(places: Sequence[Path], split: str) -> list[Path]:
    """The split's only file, or all its parts, in the first place that has any."""
    for place in places:
        for ending in _ENDINGS:
            if (file := place / f"{split}.{ending}").is_file():
                return [file]
        if parts := sorted(place.glob(f"{split}-*.parquet")):
            return parts
    return []


def _shown(place: Path, base: Path) -> str:
    return "the folder itself" if place == base else f"{place.relative_to(base)}/"
