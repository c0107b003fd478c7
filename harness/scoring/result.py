"""What a scoring found: frozen records that the table and the JSON output read alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from harness.records.jsonable import plain

Origin = Literal["items", "suite"]
HIGHER, LOWER, CANNOT_TELL = "higher", "lower", "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with its uncertainty. `origin`: a mean over graded items, or the suite's own (a package's) figure.

    `n` counts items; `missing` counts grades that are not there, out of `n * runs` times the turns of an item. `low`
    and `high` are the ends of the 95 % interval, None with a `reason` where there is none.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int
    unit: str = "share"
    origin: Origin = "items"
    random_runs: bool = False
    reason: str = ""
    error: float | None = None
    """The standard error that a package gives to its own figure."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A source minus the first one, on the same items. `exact` is the p of an exact paired test, where there is one.

    `p_holm` is corrected for the comparisons of this metric. `verdict` reads it: higher, lower or cannot tell.
    """

    name: str
    baseline: str
    metric: str
    unit: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    exact: float | None
    exact_test: str | None
    n: int
    missing: int
    runs: int
    verdict: str


@dataclass(frozen=True, kw_only=True)
class SourceResult:
    """One source: its figures, the headline first, and why grades are missing."""

    name: str
    where: str
    form: str
    sha256: str | None
    runs: int
    figures: tuple[Figure, ...]
    counts: Mapping[str, float]
    """Plain counts (right items, wins, draws): they are no estimates and have no interval."""
    missing: Mapping[str, int]
    flagged: Mapping[str, int] = field(default_factory=dict)
    """Answers that look like attacks on the judge, by kind of flag."""
    judge: Mapping[str, Any] | None = None
    cost: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure:
        """The figure of a name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.figures, name)


@dataclass(frozen=True, kw_only=True)
class SuiteFacts:
    """What gives the figures their meaning; figures under unlike ones are not to be put side by side."""

    name: str
    block: str
    version: int
    scorer: int
    """Raised when the same answers would get other grades."""
    split: str
    items: int
    fingerprint: str
    options: Mapping[str, Any]
    label: str
    stand_in: bool
    real: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scored answers, and how they compare. Answers are compared here, not training recipes."""

    suite: SuiteFacts
    versions: Mapping[str, str]
    sources: tuple[SourceResult, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def source(self, name: str) -> SourceResult:
        """The result of a source by its name.

        Raises:
            KeyError: there is none.
        """
        return _by_name(self.sources, name)

    def to_json(self) -> dict[str, Any]:
        """The whole tree as JSON values; numbers that do not exist are null."""
        document: dict[str, Any] = plain(asdict(self))
        return document


_Named = TypeVar("_Named", Figure, SourceResult)


def _by_name(things: Iterable[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)
