"""What a judge said about the sentinels: answers that were frozen when a suite was first judged, and are judged anew.

A served judge can change under the same name. Its verdicts on the same few answers, before the verdicts of each run,
are the only alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One judging of the sentinels of a suite, in one run.

    `panel` identifies the frozen answers; `judge` all that makes the judge the same by name (readings of unlike ones
    are never compared); `taken` is unix time, UTC. `values` maps a metric to item to its value in each repeat (None: no
    readable verdict); several turns of an item are averaged.
    """

    panel: str
    judge: str
    run: str
    taken: float
    values: Mapping[str, Mapping[str, tuple[float | None, ...]]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Reading:
        """The reading that `to_json` wrote."""
        values = {m: {item: tuple(v) for item, v in items.items()} for m, items in raw["values"].items()}
        return cls(**{**raw, "values": values})
