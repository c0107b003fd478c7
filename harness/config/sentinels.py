"""`sentinels:` of an experiment: how a judge that is a model is watched for drift."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Sentinels(BaseModel):
    """Answers that are frozen when a suite is first judged, and judged anew in each run that grades with a model.

    With the defaults, and a verdict whose noise is one point in ten, a drift of one point is seen in 9 runs of 10.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    answers: Annotated[int, Field(ge=0, le=200)] = 16
    """Frozen answers per suite; 0 asks for none, and drift is not seen. Counts when a suite is first judged."""
    repeats: Annotated[int, Field(ge=1, le=20)] = 3
    """Verdicts per answer and run of a served judge."""
