"""The typed form of a named source of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.config.base import Strict
from harness.records.values import FilePath


class Withhold(Strict):
    """Sets rows of a source apart: `rows` prompts, drawn by `seed` and the prompt's text alone.

    The draw does not depend on the order of the file, and rows that share a prompt fall on the same side.
    """

    rows: Annotated[int, Field(ge=1)]
    seed: int = 0


class Dataset(Strict):
    """A named source of examples, everything resolved. `part: withheld` reads only what `withhold` sets apart."""

    given: ClassVar[tuple[str, ...]] = ("name", "written")
    name: str
    kind: Literal["pocket", "file", "folder", "taxonomy"] = "file"
    """`folder`: each file under `path` is a row `{path, text}` (`format: rows`), in the order of their paths."""
    files: str = "**/*"
    """Of a folder: which files count, as a glob pattern; hidden ones never do."""
    leaves: tuple[str, ...] = ()
    """Of a taxonomy: patterns of the leaves that count, such as `knowledge/*`; by default all."""
    bad_leaves: Literal["refuse", "drop"] = "refuse"
    """Of a taxonomy: what a leaf that its schema refuses is: a mistake, or left out and counted."""
    documents: FilePath | None = None
    """Of a taxonomy: a folder with copies of the repositories that its knowledge leaves name."""
    description: str = ""
    path: str | None = None
    url: str | None = None
    """Where the file has both a path and a URL, the path counts if the file is there; the other is then None."""
    written: str = ""
    """The path or URL as the file said it, for records and messages."""
    sha256: str | None = None
    """Of the file as named (packed, where it is packed)."""
    sha256_unpacked: str | None = None
    format: Literal["auto", "messages", "alpaca", "sharegpt", "prompt_completion", "preference", "rows"] = "auto"
    """`rows`: no examples, but rows that a suite or a judge reads as they are."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """At most this many rows, from the start of the source; rows that are dropped do not count."""
    require_answer: bool | Literal["drop"] = True
    """What a row without an answer is: a mistake (true), fine (false), or left out and counted (drop)."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """Renames: name that the format expects -> name in the file."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the pocket generator (rows, seed, defects, ...)."""
    withhold: Withhold | None = None
    part: Literal["rest", "withheld"] = "rest"
    exclude: tuple[Any, ...] = ()
    """`Dataset`s and `SuiteRef`s whose prompts may not be in this source; such rows are dropped and counted."""
