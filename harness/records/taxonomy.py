"""A taxonomy as a data source: a folder or archive of `qna.yaml` leaves, as examples.

One row per seed pair (an ordinary example: question, with its context before it where the leaf is grounded, and
answer) and one per document of a knowledge leaf (a user turn without an answer). What blocks need stands in tags and
fields:

* tags: `leaf` (path of the leaf), `leaf_kind` (freeform, grounded, knowledge, foundational), `category` (first folder
  below the root), `part` (seed, document);
* fields of seeds: `question`, `answer`, `context` (grounded, knowledge), `passage` (number of the context in its leaf);
  of all skills `task_description`; of all knowledge `domain`, `document_outline`; of documents `document` (file name).

Leaves are sorted by path, so nothing depends on the order in which a disk lists its folders. The identity is the
content of the leaves and of the documents that they name: a folder and its archive are the same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from harness.config.model import Dataset
from harness.errors import UserError
from harness.records import leaves
from harness.records.example import Dropped, Example, Message, Origin
from harness.records.hashing import file_sha256, sha256
from harness.records.leaves import BadLeaf, Leaf
from harness.records.trees import Tree, tree_of

TEXTS = (".md", ".markdown", ".txt")
_SHOWN = 20


def examples(dataset: Dataset, path: Path) -> Iterator[Example | Dropped]:
    """The rows of a taxonomy; leaves, documents and patterns that cannot be used come out as dropped, if allowed.

    Raises:
        UserError: there is no leaf at all, or a leaf is refused and `bad_leaves` is not `drop`: every mistake with file
            and line.
    """
    tree = tree_of(path, _wanted)
    copies = tree_of(Path(dataset.documents), _wanted) if dataset.documents is not None else None
    found = list(_leaves(dataset, tree))
    bad = [(name, error) for name, error in found if isinstance(error, BadLeaf)]
    if bad and dataset.bad_leaves == "refuse":
        raise UserError(_refusal(tree, bad))
    for name, leaf in found:
        if isinstance(leaf, BadLeaf):
            line, said = leaf.problems[0]
            empty = Example(id=f"{dataset.name}/{_inside(name)}", messages=(), fields={"line": line, "mistake": said})
            yield Dropped(empty, "leaf refused")
        else:
            yield from _seeds(leaf, dataset.name)
            yield from _documents(leaf, name, dataset.name, tree, copies)


def content(dataset: Dataset, path: Path | None) -> str:
    """The identity of a taxonomy: the names (from the root folders on) and bytes of its leaves and of all texts.

    `path` is None for one behind a URL, which is known by its checksum alone.

    Raises:
        UserError: an archive is not the one that its checksum names.
    """
    if path is not None and path.is_file() and dataset.sha256 not in (None, file_sha256(path)):
        raise UserError(f"{path} is not the archive that was meant: its SHA-256 is not {dataset.sha256}")
    own = dataset.sha256 if path is None else _digest(tree_of(path, _wanted))
    copies = None if dataset.documents is None else _digest(tree_of(Path(dataset.documents), _wanted))
    return sha256([own, copies, list(dataset.leaves), dataset.bad_leaves])


def _wanted(name: str) -> bool:
    return PurePosixPath(name).name == leaves.NAME or PurePosixPath(name).suffix.lower() in TEXTS


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    root = next((i for i, part in enumerate(parts) if part in leaves.FOLDERS), 0)
    return "/".join(parts[root:])


def _digest(tree: Tree) -> str:
    wanted = sorted((_inside(name), name) for name in tree.files if _wanted(name))
    return sha256([[inside, hashlib.sha256(tree.files[name]()).hexdigest()] for inside, name in wanted])


# --- leaves -----------------------------------------------------------------------------------------------------------
def _leaves(dataset: Dataset, tree: Tree) -> Iterator[tuple[str, Leaf | BadLeaf]]:
    named = sorted((leaf, name) for name in tree.files if (leaf := _leaf_path(name)) is not None)
    chosen = [(leaf, name) for leaf, name in named if _chosen(leaf, dataset.leaves)]
    if not chosen:
        why = (
            f"none of its {len(named)} leaves fits {', '.join(dataset.leaves)}"
            if named
            else (f"no {leaves.NAME} lies below a folder {', '.join(leaves.FOLDERS)}")
        )
        raise UserError(f"the taxonomy {dataset.name} ({dataset.written or tree.place}) has no leaves: {why}")
    for leaf, name in chosen:
        try:
            yield name, leaves.parse(tree.text(name), leaf)
        except BadLeaf as error:
            yield name, error


def _leaf_path(name: str) -> str | None:
    """The folder of a leaf from its root folder on (archives have a folder of their own above it)."""
    parts = PurePosixPath(name).parts
    root = next((i for i, part in enumerate(parts) if part in leaves.FOLDERS), None)
    if parts[-1] != leaves.NAME or root is None or len(parts) - root < 3:
        return None
    return "/".join(parts[root:-1])


def _chosen(leaf: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(leaf, pattern) for pattern in patterns)


def _refusal(tree: Tree, bad: list[tuple[str, BadLeaf]]) -> str:
    lines = [f"  {tree.place}/{name}:{line}: {text}" for name, error in bad for line, text in error.problems]
    more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return (
        f"{len(bad)} {'leaves are' if len(bad) > 1 else 'leaf is'} refused. Mend them, name others with "
        "`leaves: [patterns]`, or write `bad_leaves: drop` to leave them out (they are counted).\n"
        + "\n".join(lines[:_SHOWN]) + more
    )  # fmt: skip


# --- rows -------------------------------------------------------------------------------------------------------------
def _seeds(leaf: Leaf, source: str) -> Iterator[Example]:
    if leaf.kind != "knowledge":
        about = {"task_description": leaf.task_description, "created_by": leaf.created_by}
        for number, pair in enumerate(leaf.pairs):
            context = {} if pair.context is None else {"context": pair.context}
            asked = pair.question if pair.context is None else f"{pair.context}\n\n{pair.question}"
            yield _row(leaf, source, f"{number}", asked, pair.answer, {**about, **_qa(pair), **context})
        return
    about = {"domain": leaf.domain, "document_outline": leaf.outline, "created_by": leaf.created_by}
    for number, passage in enumerate(leaf.passages):
        for index, pair in enumerate(passage.questions_and_answers):
            fields = {**about, **_qa(pair), "context": passage.context, "passage": number}
            yield _row(leaf, source, f"{number}.{index}", pair.question, pair.answer, fields)


def _qa(pair: leaves.Pair) -> dict[str, str]:
    return {"question": pair.question, "answer": pair.answer}


def _row(leaf: Leaf, source: str, number: str, asked: str, answer: str, fields: Mapping[str, Any]) -> Example:
    messages = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Example(
        id=f"{source}/{leaf.path}/{number}",
        messages=messages,
        fields=fields,
        tags=_tags(leaf, "seed"),
        origin=Origin(block="source", model=source),
    )


def _tags(leaf: Leaf, part: str) -> dict[str, str | None]:
    return {"leaf": leaf.path, "leaf_kind": leaf.kind, "category": leaf.category, "part": part}


# --- documents --------------------------------------------------------------------------------------------------------
def _documents(leaf: Leaf, qna: str, source: str, tree: Tree, copies: Tree | None) -> Iterator[Example | Dropped]:
    if leaf.documents is None:
        return
    place, names = _named(leaf, qna, tree, copies)
    if not names:
        yield Dropped(_document(leaf, source, "document", ""), "documents not found")
    for name in names:
        file = PurePosixPath(name)
        if file.suffix.lower() not in TEXTS:
            said = f"document is no text ({file.suffix}): convert it to {', '.join(TEXTS)}"
            yield Dropped(_document(leaf, source, name, ""), said)
            continue
        row = _document(leaf, source, name, place.text(name).strip())
        yield row if row.messages else Dropped(row, "document is empty")


def _document(leaf: Leaf, source: str, name: str, text: str) -> Example:
    fields = {"domain": leaf.domain, "document_outline": leaf.outline, "document": PurePosixPath(name).name}
    return Example(
        id=f"{source}/{leaf.path}/document/{name}",
        messages=(Message(role="user", content=text),) if text else (),
        fields=fields,
        tags=_tags(leaf, "document"),
        origin=Origin(block="source", model=source),
    )


def _named(leaf: Leaf, qna: str, tree: Tree, copies: Tree | None) -> tuple[Tree, list[str]]:
    """Files that a leaf's patterns name: beside the leaf, or in a copy of its repository below `documents`."""
    if leaf.documents is None or (leaf.documents.repo is not None and copies is None):
        return tree, []
    if leaf.documents.repo is None or copies is None:
        place, start = tree, qna.removesuffix(leaves.NAME)
    else:
        place, repository = copies, PurePosixPath(leaf.documents.repo).name.removesuffix(".git")
        start = "" if Path(copies.place).name == repository else f"{repository}/"
    inner = {name: name.removeprefix(start) for name in place.files if name.startswith(start)}
    fits = [n for n, i in inner.items() if any(fnmatchcase(i, pattern) for pattern in leaf.documents.patterns)]
    return place, [name for name in fits if PurePosixPath(name).name != leaves.NAME]
