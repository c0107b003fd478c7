"""One leaf of a taxonomy: a `qna.yaml` of InstructLab's schema, versions 1 to 3, read with the line of each mistake.

| version | skills                                       | knowledge                                               |
|---------|----------------------------------------------|---------------------------------------------------------|
| 1 (also where `version` is missing) | one example or more | refused, as the published parser does            |
| 2       | five different examples or more              | refused                                                 |
| 3       | as 2                                         | five contexts or more with three pairs each, documents  |

Unknown keys are mistakes. A skill's examples all have a `context` (then the leaf is *grounded*) or none has one
(*freeform*); the released pipeline takes the first example's word for all of them, here a mixture is a mistake. One
thing is looser than the published schema: a knowledge leaf whose documents lie beside it needs no `repo` and `commit`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Kind = Literal["freeform", "grounded", "knowledge", "foundational"]
FOLDERS = ("compositional_skills", "foundational_skills", "knowledge")
NAME = "qna.yaml"
VERSIONS = (1, 2, 3)
Text = Annotated[str, StringConstraints(min_length=1)]


class BadLeaf(ValueError):
    """A leaf that cannot be read. `problems` are (line from 1 on, what is wrong)."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("; ".join(f"line {line}: {text}" for line, text in self.problems))


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Pair(_Strict):
    """A question with its answer; `context` is set in grounded skills."""

    question: Text
    answer: Text
    context: Text | None = None


class Passage(_Strict):
    """A passage of a document with questions about it."""

    context: Text
    questions_and_answers: Annotated[tuple[Pair, ...], Field(min_length=3)]


class Documents(_Strict):
    """Where a knowledge leaf's documents are: glob patterns in a repository, or beside the leaf."""

    repo: Text | None = None
    commit: Text | None = None
    patterns: Annotated[tuple[Text, ...], Field(min_length=1)]


class _Skill(_Strict):
    version: int = 1
    created_by: Text
    task_description: str
    seed_examples: Annotated[tuple[Pair, ...], Field(min_length=1)]


class _Skill2(_Skill):
    task_description: Text
    seed_examples: Annotated[tuple[Pair, ...], Field(min_length=5)]


class _Knowledge(_Strict):
    version: int
    created_by: Text
    domain: Text
    document_outline: Text
    document: Documents
    seed_examples: Annotated[tuple[Passage, ...], Field(min_length=5)]


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One leaf. `path` is its folder from the root folder on, such as `compositional_skills/writing/haiku`."""

    path: str
    kind: Kind
    version: int
    created_by: str
    task_description: str = ""
    """Of skills."""
    domain: str = ""
    """Of knowledge, as `outline`, `passages` and `documents`."""
    outline: str = ""
    pairs: tuple[Pair, ...] = ()
    passages: tuple[Passage, ...] = ()
    documents: Documents | None = None

    @property
    def category(self) -> str:
        """The first folder below the root folder."""
        parts = PurePosixPath(self.path).parts
        return parts[1] if len(parts) > 1 else parts[0]


def parse(text: str, path: str) -> Leaf:
    """The leaf that a `qna.yaml` holds; `path` is the leaf's folder.

    Raises:
        BadLeaf: it is not a leaf of a known schema; every mistake that was found, with its line.
    """
    data = _load(text)
    version = data.get("version", 1)
    if version not in VERSIONS or isinstance(version, bool):
        known = ", ".join(map(str, VERSIONS))
        raise BadLeaf([(_line(data, ("version",)), f"version: {version!r} is not known; known: {known}")])
    root = PurePosixPath(path).parts[0]
    if root == "knowledge" or (root not in FOLDERS and "document" in data):
        return _knowledge(data, path, version)
    return _skill(data, path, version, "foundational" if root == "foundational_skills" else None)


def _knowledge(data: Any, path: str, version: int) -> Leaf:
    if version < 3:
        said = f"knowledge needs schema version 3, this leaf has version {version}"
        raise BadLeaf([(_line(data, ("version",)), f"{said}: add `context` to its examples, and `document_outline`")])
    content = _filled(_Knowledge, data)
    if (content.document.repo is None) != (content.document.commit is None):
        raise BadLeaf([(_line(data, ("document",)), "document: `repo` and `commit` belong together")])
    _distinct(content.seed_examples, data)
    for index, passage in enumerate(content.seed_examples):
        _distinct(passage.questions_and_answers, data, ("seed_examples", index, "questions_and_answers"))
        odd = [n for n, pair in enumerate(passage.questions_and_answers) if pair.context is not None]
        if odd:
            at = ("seed_examples", index, "questions_and_answers", odd[0], "context")
            raise BadLeaf([(_line(data, at), "context: a pair of a knowledge leaf has none of its own")])
    return Leaf(
        path=path,
        kind="knowledge",
        version=version,
        created_by=content.created_by,
        domain=content.domain,
        outline=content.document_outline,
        passages=content.seed_examples,
        documents=content.document,
    )


def _skill(data: Any, path: str, version: int, kind: Kind | None) -> Leaf:
    content = _filled(_Skill if version == 1 else _Skill2, data)
    with_context = [pair.context is not None for pair in content.seed_examples]
    if len(set(with_context)) > 1:
        odd = with_context.index(not with_context[0])
        has = "a context, but example 1 has none" if with_context[odd] else "no context, but example 1 has one"
        raise BadLeaf(
            [
                (
                    _line(data, ("seed_examples", odd)),
                    f"example {odd + 1} has {has}: a leaf is grounded or not, never both",
                )
            ]
        )
    if version > 1:
        _distinct(content.seed_examples, data)
    found: Kind = kind or ("grounded" if with_context[0] else "freeform")
    about = {"version": version, "created_by": content.created_by, "task_description": content.task_description}
    return Leaf(path=path, kind=found, pairs=content.seed_examples, **about)


def _distinct(items: Sequence[BaseModel], data: Any, at: tuple[str | int, ...] = ("seed_examples",)) -> None:
    twice = [index for index, item in enumerate(items) if item in items[:index]]
    if twice:
        raise BadLeaf([(_line(data, (*at, twice[0])), f"example {twice[0] + 1} repeats an earlier one")])


# --- YAML with lines --------------------------------------------------------------------------------------------------
def _load(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        data = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadLeaf([((mark.line + 1) if mark else 1, f"not valid YAML: {error.problem}")]) from error
    except (YAMLError, ValueError) as error:  # ValueError: a date such as 2024-99-99
        raise BadLeaf([(1, f"not valid YAML: {error}")]) from error
    if data is None:
        raise BadLeaf([(1, "the file is empty")])
    if not isinstance(data, dict):
        raise BadLeaf([(1, "should be a mapping with `seed_examples` and so on")])
    return data


def _filled(cls: type[Any], data: Any) -> Any:
    try:
        return cls.model_validate_json(json.dumps(data, default=str))
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):
            raise BadLeaf([(1, f"keys should be text: {error}")]) from error
        found = error.errors(include_url=False)
        # an entry with a mistake is not counted: the list may well be long enough
        caused = [
            i for i in found if i["type"] == "too_short" and any(_below(other["loc"], i["loc"]) for other in found)
        ]
        raise BadLeaf([_problem(item, data, cls) for item in found if item not in caused]) from error


def _below(place: tuple[str | int, ...], above: tuple[str | int, ...]) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def _problem(item: Any, data: Any, cls: type[BaseModel]) -> tuple[int, str]:
    place: tuple[str | int, ...] = item["loc"]
    name = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    if item["type"] == "extra_forbidden":
        known = f"; known: {', '.join(cls.model_fields)}" if len(place) == 1 else ""
        return _line(data, place), f"{name}: unknown key{known}"
    if item["type"] == "missing":
        return _line(data, place[:-1]), f"{name}: is missing"
    if item["type"] == "too_short":
        return _line(data, place), f"{name}: needs at least {item['ctx']['min_length']} entries"
    said = {"string_type": "should be text", "string_too_short": "is empty"}.get(item["type"], item["msg"])
    return _line(data, place), f"{name}: {said}"


def _line(data: Any, place: Sequence[str | int]) -> int:
    """The line (from 1 on) of a key or entry; of the nearest one above it that is there."""
    line = 1
    here: Any = data
    for part in place:
        try:
            line = (here.lc.item if isinstance(part, int) else here.lc.key)(part)[0] + 1
            here = here[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
