"""Single things by name, for commands that need no experiment: a block, a suite, a dataset, a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.config.addresses import put_into, read_overrides
from harness.config.checks import fill
from harness.config.datasets import DATA_SUFFIXES, read_dataset
from harness.config.document import Document, Mark, Node, Problems
from harness.config.model import Dataset, Model, Registry, SuiteRef
from harness.config.models import read_models
from harness.config.suites import read_suite
from harness.errors import UserError

T = TypeVar("T")


def load_block(kind: str, name: str, settings: Sequence[str], registry: Registry) -> Any:
    """A block with options given as texts (`keep=5%`, `where.ifd.below=1`).

    Raises:
        ConfigError: unknown options or wrong values, all at once.
        UserError: no block of this kind has the name.
    """
    problems = Problems()
    document = Document({}, Mark(f"{kind} {name}", None, Path.cwd()))
    for override in read_overrides(settings, problems):
        put_into(document, override, problems)
    return _found(fill(document.root(), registry.get(kind, name), problems), problems)


def load_suite(name: str, registry: Registry) -> SuiteRef:
    """A suite by name or path, with the judge that its file names.

    Raises:
        ConfigError: every mistake in its file.
    """
    problems = Problems()
    return _found(read_suite(_named(name), registry, problems), problems)


def load_dataset(name: str | Path, registry: Registry) -> Dataset:
    """A dataset by name, by the path of its YAML file, or by the path of a data file (its format is detected).

    Raises:
        ConfigError: every mistake in its file.
    """
    text = str(name)
    if not text.endswith(DATA_SUFFIXES) and Path(text).is_file() and Path(text).suffix not in (".yaml", ".yml"):
        raise UserError(f"{text}: the ending says what a data file is; known: {', '.join(DATA_SUFFIXES)}")
    problems = Problems()
    return _found(read_dataset(_named(text), registry, problems), problems)


def load_model(name: str, registry: Registry) -> Model:
    """A model by its bundled name (`pocket/chat`) or its folder.

    Raises:
        ConfigError: there is no such model.
    """
    problems = Problems()
    document = Document({"model": name}, Mark("--model", None, Path.cwd()))
    return _found(read_models(document.root(), registry, problems).get("model"), problems)


def _named(name: str) -> Node:
    return Document(name, Mark("command line", None, Path.cwd())).root()


def _found(thing: T | None, problems: Problems) -> T:
    problems.stop_if_any()
    if thing is None:
        raise UserError("nothing was found")
    return thing
