"""What served models will cost, as far as it can be told before they are asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.loop.calls import Calls


@dataclass(frozen=True)
class Money:
    """What served models will cost in US dollars; None where one of them has no prices.

    `most_usd` takes every answer as long as its limit allows. What the cache of replies holds already costs nothing,
    and cannot be known before the answers are there.
    """

    usd: float | None
    most_usd: float | None
    spent_usd: float
    limit_usd: float | None
    served: tuple[Calls, ...]
    """Sums by role and model."""


def money(served: Iterable[Calls], spent: float, limit: float | None) -> Money:
    """Sums of what stages ask of served models; `spent` before and the experiment's `limit`, in US dollars."""
    sums: dict[tuple[str, str], Calls] = {}
    for calls in served:
        before = sums.get((calls.role, calls.model))
        sums[calls.role, calls.model] = calls if before is None else before.plus(calls)
    usd = [calls.usd for calls in sums.values()]
    most = [calls.most_usd for calls in sums.values()]
    return Money(_total(usd), _total(most), spent, limit, tuple(sums.values()))


def _total(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def said(of: Money) -> str:
    """The forecast of money as one line."""
    if not of.served:
        return "0 (no served model is asked)" + (f"; {of.spent_usd:.2f} USD spent" if of.spent_usd else "")
    parts = [
        f"{c.role} {c.model}: {c.calls:,} calls, {c.prompt_tokens:,} + {c.completion_tokens:,} tokens"
        + (f", and those of {c.uncounted} stages that cannot be counted now ({c.why})" if c.uncounted else "")
        for c in of.served
    ]
    if any(c.uncounted for c in of.served):
        text = f"not known ({'; '.join(parts)})"
    elif of.usd is None or of.most_usd is None:
        text = f"not known, a served model has no prices ({'; '.join(parts)})"
    else:
        text = f"about {of.usd:.2f} USD, at most {of.most_usd:.2f} ({'; '.join(parts)})"
    if of.spent_usd:
        text += f"; {of.spent_usd:.2f} spent before"
    if of.limit_usd is not None:
        text += f"; limits.usd is {of.limit_usd:g}"
        if of.usd is not None and of.spent_usd + of.usd > of.limit_usd:
            text += ", which will not be enough"
    return text
