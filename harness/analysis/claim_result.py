"""What became of an experiment's claims: frozen records that the table and the JSON output read alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.records.jsonable import plain

Verdict = Literal["holds", "does not hold", "cannot tell"]
HOLDS: Verdict = "holds"
DOES_NOT: Verdict = "does not hold"
CANNOT_TELL: Verdict = "cannot tell"
Kind = Literal["recipes", "scorer", "rows"]


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """One claim and what was measured of it.

    `value` with `low` and `high` (95 %, not corrected) is a difference, or the area of a scorer; `null` is the number
    that it has to pass on `side`, and `p` is about. `p_holm` is corrected over all claims of the experiment. `compared`
    names both sides, `sample` says what was counted. `reason` says why there is no verdict, `settle` what would settle
    it, `budget` what the two sides trained on.
    """

    id: str
    text: str
    source: str
    kind: Kind
    measure: str
    compared: str
    side: Literal["high", "low"] = "high"
    null: float = 0.0
    unit: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    sample: str = ""
    runs: int = 0
    verdict: Verdict = "cannot tell"
    reason: str = ""
    settle: str = ""
    budget: str = ""

    @property
    def towards(self) -> bool:
        """True where the value lies on the side that is claimed."""
        return self.value is not None and (self.value > self.null) == (self.side == "high") and self.value != self.null


@dataclass(frozen=True, kw_only=True)
class ScorerResult:
    """How well one score tells the rows with one planted defect from clean rows of the same table.

    `value` is the area under the ROC curve: above 0.5 the defective rows score higher. `missing` counts rows of both
    kinds without a score, which are left out.
    """

    scorer: str
    recipe: str
    step: str
    defect: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    defective: int
    clean: int
    missing: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """All claims of an experiment, in its order; `family` is the number of p-values that Holm corrects for."""

    experiment: str
    split: str
    seeds: tuple[int, ...]
    data_seeds: tuple[int, ...]
    results: tuple[ClaimResult, ...]
    scorers: tuple[ScorerResult, ...] = ()
    family: int = 0
    warnings: tuple[str, ...] = ()

    def result(self, claim: str) -> ClaimResult:
        """The result of a claim by its id.

        Raises:
            KeyError: there is none.
        """
        for one in self.results:
            if one.id == claim:
                return one
        raise KeyError(claim)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many claims have each verdict."""
        return {name: sum(one.verdict == name for one in self.results) for name in (HOLDS, DOES_NOT, CANNOT_TELL)}

    def to_json(self) -> dict[str, Any]:
        """The whole tree as JSON values; numbers that do not exist are null."""
        document: dict[str, Any] = plain(asdict(self))
        return document | {"counts": dict(self.counts)}
