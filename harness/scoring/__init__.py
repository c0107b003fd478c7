"""Scores answers that exist already: no model under test is needed, only a suite and, for some, a judge.

`score` grades through the same stages as an experiment does, so a figure cannot differ by where it was computed.
"""

from __future__ import annotations

from harness.scoring.result import Difference, Figure, Scoring, SourceResult, SuiteFacts
from harness.scoring.rowfile import BadOutputs
from harness.scoring.scorer import score
from harness.scoring.table import print_scoring, scoring_text

__all__ = [
    "BadOutputs",
    "Difference",
    "Figure",
    "Scoring",
    "SourceResult",
    "SuiteFacts",
    "print_scoring",
    "score",
    "scoring_text",
]
