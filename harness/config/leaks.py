"""`leaks:` of an experiment: what is done about training rows that hold items of its suites."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.config.checks import fill
from harness.config.document import Node, Problems

Policy = Literal["flag", "drop", "allow"]


class Leaks(BaseModel):
    """How training rows are compared with every item of every suite, both splits, before each finetune.

    `flag` trains on all rows and shows scores without the affected items as well; `drop` leaves such rows out, with
    their reason; `allow` does not look.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    policy: Policy = "flag"
    words: Annotated[int, Field(ge=3, le=50)] = 13
    """Length of the run of words that a row may not share with an item (arXiv 2005.14165, appendix C: 8 to 13)."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Part of a passage's words that must lie in runs shared with one row (arXiv 2307.09288, A.6: below 20 % is clean);
    0 is GPT-3's rule, a single run. A quotation or a line of boilerplate is not an item."""
    shortest: Annotated[int, Field(ge=1)] = 5
    """A question with fewer words than this counts only where a turn is that question and nothing else."""
    near: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    """Jaccard similarity from which on a user turn is a near duplicate of a question; null does not look for any."""
    shingle: Annotated[int, Field(ge=1)] = 3
    """Length of the runs of words that near duplicates are compared by."""


def read_leaks(node: Node | None, problems: Problems) -> Leaks:
    """The value of `leaks:`, a policy's name or a mapping; the default where there is none."""
    if node is None or node.value is None:
        return Leaks()
    if isinstance(node.value, dict):
        return fill(node, Leaks, problems) or Leaks()
    if node.value in ("flag", "drop", "allow"):
        return Leaks(policy=node.value)
    problems.add(
        f"leaks: should be flag, drop or allow, or a mapping such as {{policy: drop, words: 13}}, not {node.value!r}",
        node.mark(),
    )
    return Leaks()
