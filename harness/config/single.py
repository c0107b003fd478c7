"""Single things by name, for commands that need no experiment: a block, a suite, a dataset, a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.config.addresses import put_into, read_overrides
from harness.config.checks import fill
from harness.config.datasets import DATA_SUFFIXES, read_dataset
from harness.config.document import Document, Mark, Node, Problems, read
from harness.config.leaks import Leaks
from harness.config.model import Dataset, Model, Registry, SuiteRef
from harness.config.models import read_models
from harness.config.places import found
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


def load_leaks(settings: Sequence[str]) -> Leaks:
    """Options of the contamination check given as texts (`words=8`).

    Raises:
        ConfigError: unknown options or wrong values, all at once.
    """
    problems = Problems()
    document = Document({}, Mark("leaks", None, Path.cwd()))
    for override in read_overrides(settings, problems):
        put_into(document, override, problems)
    return _found(fill(document.root(), Leaks, problems), problems)


def load_suite(name: str, registry: Registry) -> SuiteRef:
    """A suite by name or path, with the judge that its file names.

    Raises:
        ConfigError: every mistake in its file.
    """
    problems = Problems()
    return _found(read_suite(_named(name), registry, problems), problems)


_ROOTS = ("compositional_skills", "foundational_skills", "knowledge")
"""Folders that make a folder a taxonomy."""


def load_dataset(name: str | Path, registry: Registry) -> Dataset:
    """A dataset by name, by the path of its YAML file, of a data file (its format is detected), a taxonomy or a folder.

    Raises:
        ConfigError: every mistake in its file.
    """
    text = str(name)
    if not text.endswith(DATA_SUFFIXES) and Path(text).is_file() and Path(text).suffix not in (".yaml", ".yml"):
        raise UserError(f"{text}: the ending says what a data file is; known: {', '.join(DATA_SUFFIXES)}")
    problems = Problems()
    if any((Path(text) / root).is_dir() for root in _ROOTS):
        about: dict[str, Any] = {"name": Path(text).name, "path": str(Path(text).resolve()), "written": text}
        return Dataset(kind="taxonomy", **about)
    if Path(text).is_dir():
        return Dataset(name=Path(text).name, kind="folder", path=str(Path(text).resolve()), written=text, format="rows")
    return _found(read_dataset(_named(text), registry, problems), problems)


def load_model(name: str, registry: Registry) -> Model:
    """A model by its bundled name (`pocket/chat`) or its folder.

    Raises:
        ConfigError: there is no such model.
    """
    problems = Problems()
    document = Document({"model": name}, Mark("--model", None, Path.cwd()))
    return _found(read_models(document.root(), registry, problems).get("model"), problems)


def load_judge(text: str, registry: Registry) -> Model:
    """What `judge:` under `models:` may be: a name, a folder, a YAML file with the mapping, or `{...}` itself.

    Raises:
        ConfigError: every mistake in it.
    """
    problems = Problems()
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        document = _found(read(path, problems), problems)
        top, data = document.top, document.data
    else:
        top, data = Mark("--judge", None, Path.cwd()), _inline(text) if text.lstrip().startswith("{") else text
    whole = Document({"judge": data}, top)
    return _found(read_models(whole.root(), registry, problems).get("judge"), problems)


def served_models() -> list[tuple[Model, str]]:
    """The served models of all experiments that have a name here, each server and name once, with the experiment.

    Files that cannot be read are passed over: this only looks around, and `plan` says what is wrong with them.
    """
    result: dict[tuple[str, str | None], tuple[Model, str]] = {}
    for name, path in found("experiment").items():
        document = read(path, Problems())
        roles = document.data.get("models") if document is not None and isinstance(document.data, dict) else None
        for role, value in roles.items() if isinstance(roles, dict) else ():
            url, model, env = (
                value.get(k) if isinstance(value, dict) else None for k in ("url", "model", "api_key_env")
            )
            if isinstance(url, str) and all(part is None or isinstance(part, str) for part in (model, env)):
                served = Model(name=str(role), url=url, model=model, api_key_env=env)
                result.setdefault((url, model), (served, name))
    return list(result.values())


def _inline(text: str) -> object:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"--judge {text}: not valid YAML: {error}") from error


def _named(name: str) -> Node:
    return Document(name, Mark("command line", None, Path.cwd())).root()


def _found(thing: T | None, problems: Problems) -> T:
    problems.stop_if_any()
    if thing is None:
        raise UserError("nothing was found")
    return thing
