"""What a gate found: one check per arm and metric, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.analysis.numbers import number, pair, things
from harness.errors import EXIT_CANNOT_TELL, EXIT_GATE_FAILED, EXIT_OK
from harness.stats import MIN_RUNS, Difference, Rates

Status = Literal["passed", "failed", "cannot tell"]
EXIT_CODES: Mapping[Status, int] = {"passed": EXIT_OK, "failed": EXIT_GATE_FAILED, "cannot tell": EXIT_CANNOT_TELL}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One metric of one arm. `difference` is candidate minus baseline as measured, also where less is better."""

    arm: str
    baseline: str
    suite: str
    metric: str
    unit: str
    margin: float
    status: Status
    difference: Difference | None = None
    rates: Rates | None = None
    reason: str = ""

    def text(self) -> str:
        """One line."""
        name = f"{self.status}: {self.arm} against {self.baseline} on {self.suite} {self.metric}"
        found = self.difference
        if found is None:
            return f"{name}: {self.reason}"
        ends = pair(found.low, found.high, self.unit, 3, signed=True)
        line = f"{name}: {number(found.value, self.unit, 3, signed=True)} {ends}, margin {self.margin:g}"
        line += f", {things(found.n, 'item')} × {things(found.runs, 'seed')}, {found.missing:,} missing"
        return f"{line}: {self.reason}" if self.reason else line


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The verdict over all checks: failed if any failed, passed only if all passed and there was one."""

    experiment: str
    against: str
    status: Status
    checks: tuple[Check, ...]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 cannot tell."""
        return EXIT_CODES[self.status]

    @property
    def ruled(self) -> tuple[Check, ...]:
        """The checks that the gate's rule decided: those that can fail."""
        return tuple(c for c in self.checks if c.difference is not None and c.difference.runs >= MIN_RUNS)

    @property
    def false_alarm_bound(self) -> float | None:
        """At most so often does the gate fail though nothing changed: the checks' rates summed, at most 1.

        One failed check fails the gate. None where no check was ruled, or where one saw no variation to go by.
        """
        rates = [check.rates for check in self.ruled]
        known = [rate.false_alarm for rate in rates if rate is not None]
        return min(1.0, sum(known)) if known and len(known) == len(rates) else None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, with the exit code and the whole gate's false alarms."""
        return asdict(self) | {"exit_code": self.exit_code, "false_alarm_bound": self.false_alarm_bound}

    def text(self) -> str:
        """For people: the verdict, each check, its error rates."""
        lines = [f"{self.experiment}: {self.status.upper()} against {self.against}"]
        for check in self.checks:
            lines.append(f"  {check.text()}")
            if check.rates is not None:
                lines.append(f"    {_rates_text(check.rates, check)}")
            elif check in self.ruled:
                lines.append("    no variation was seen, so how often this check errs is not known")
        if self.false_alarm_bound is not None:
            n = things(len(self.ruled), "check")
            lines.append(
                f"  the gate as a whole ({n}) fails at most {self.false_alarm_bound:.1%} of unchanged candidates"
            )
        lines += [f"  {reason}" for reason in self.reasons]
        lines += [f"  note: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _rates_text(rates: Rates, check: Check) -> str:
    drop = number(rates.planted, check.unit, 3, signed=True)
    seeds = things(check.difference.runs, "seed") if check.difference is not None else "no seeds"
    return (
        f"with this noise (as {seeds} show it) this check fails {rates.false_alarm:.1%} and cannot tell "
        f"{rates.undecided:.0%} of unchanged candidates; of a true change by {drop} it passes {rates.miss:.1%} "
        f"and fails {rates.found:.0%}"
    )
