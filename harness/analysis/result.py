"""What a comparison holds: frozen records that the table, the JSON output, MLflow and the gate read alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.analysis.aggregates import Aggregate
from harness.analysis.costs import ArmCost
from harness.analysis.leaks import Found
from harness.analysis.subsets import Without
from harness.records.jsonable import plain
from harness.stats import Difference, Estimate, Settle

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
CHECKPOINT = "checkpoint difference"
BASELINE, NO_DATA = "baseline", "no data"


@dataclass(frozen=True)
class Exact:
    """An exact test of two checkpoints on their items, not corrected; `test` is mcnemar or permutation.

    `low` and `high` are the ends of the item bootstrap's interval of the difference.
    """

    p: float
    test: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One recipe on one suite, at its last iteration. `history`: its score at every iteration.

    `verdict` is one of better, worse, cannot tell, checkpoint difference (fewer than three paired training seeds),
    baseline, no data; `note` adds what the verdict alone would hide, such as a multiple of the baseline's tokens.
    `token_ratio` is trained tokens over the baseline's; `test` is the one behind the difference's interval and p-value,
    `exact` one more for a single pair of checkpoints; `reason` says why a score or a difference could not be told.
    `detectable` is the smallest difference that this design finds with 80 % power; `aggregates` are the suite's own
    figures; `flags` counts suspect answers by what makes them so; `without` shows the arm without `flagged` or `leaked`
    items, where there are some.
    """

    recipe: str
    score: Estimate | None
    difference: Difference | None
    p_holm: float | None
    test: str | None
    verdict: str
    note: str
    history: Mapping[int, Estimate]
    cost: ArmCost
    token_ratio: float | None
    missing: Mapping[str, int] = field(default_factory=dict)
    settle: Settle | None = None
    exact: Exact | None = None
    reason: str = ""
    detectable: float | None = None
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    without: Mapping[str, Without] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Verdict and note, as the table shows them."""
        return f"{self.verdict}, {self.note}" if self.note else self.verdict


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """All arms of one student on one suite's metric, best first."""

    suite: str
    split: str
    version: int
    label: str
    stand_in: bool
    real: bool
    metric: str
    unit: str
    higher_is_better: bool
    student: str
    items: int
    baseline: str | None
    arms: tuple[ArmResult, ...]
    untuned: Estimate | None
    groups: tuple[tuple[str, ...], ...]
    """Recipes that are not told apart, empty where seeds are too few to say."""
    noise: Mapping[str, float | None]
    """Shares of the differences' variance: seeds, items, judge (None: not measured)."""
    scope: str
    bounds: tuple[float, float] | None = None
    """Of one grade."""
    notes: tuple[str, ...] = ()
    """What the suite itself says of its figures."""
    groups_rule: str = ""
    """How the pairs behind `groups` were corrected."""

    @property
    def dominant(self) -> str | None:
        """The largest source of noise."""
        return max(self.noise, key=lambda name: self.noise[name] or 0.0) if any(self.noise.values()) else None

    @property
    def missing(self) -> int:
        """Grades that are missing, over all arms."""
        return sum(arm.score.missing for arm in self.arms if arm.score is not None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of an experiment's recipes. `family` is the number of differences that Holm corrects for."""

    experiment: str
    split: str
    recipes: tuple[str, ...]
    students: tuple[str, ...]
    seeds: tuple[int, ...]
    data_seeds: tuple[int, ...]
    iterations: int
    suites: tuple[SuiteResult, ...]
    family: int
    spent: Mapping[str, int]
    overrides: Mapping[str, Mapping[str, Any]]
    equalised: Mapping[str, Any]
    warnings: tuple[str, ...]
    failed_stages: Mapping[str, str]
    next_commands: tuple[str, ...]
    leaks: tuple[Found, ...] = ()
    """What the checks of training rows against the suites found."""
    unchecked: int = 0
    """Such checks that are planned and not finished: without them, what leaked is not known."""

    def suite(self, name: str, student: str | None = None) -> SuiteResult:
        """The result of one suite (for the first student, unless one is named).

        Raises:
            KeyError: there is none.
        """
        for result in self.suites:
            if result.suite == name and student in (None, result.student):
                return result
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The whole tree as JSON values; numbers that do not exist are null."""
        document: dict[str, Any] = plain(asdict(self))
        for raw, suite in zip(document["suites"], self.suites, strict=True):
            raw["dominant"] = suite.dominant
            for arm_raw, arm in zip(raw["arms"], suite.arms, strict=True):
                arm_raw["verdict_words"] = arm.words
                if arm.difference is not None:
                    arm_raw["difference"]["noise_shares"] = arm.difference.noise.shares()
        return document
