"""`tagged`: rows by their tag, and the strata of `sample` after it."""

from __future__ import annotations

from typing import Any

from harness.select.sample import Sample
from harness.select.tagged import Tagged

KINDS = ["math", None, "coding", "math", None]


def test_rows_without_the_tag_are_dropped_with_their_reason(select: Any) -> None:
    assert select(Tagged(by="kind"), tag_kind=KINDS) == [None, "kind missing", None, None, "kind missing"]
    assert select(Tagged(by="kind", values=("math",)), tag_kind=KINDS) == [
        None, "kind missing", "kind not wanted", None, "kind missing",
    ]  # fmt: skip


def test_before_a_sample_per_tag_it_leaves_as_many_strata_as_values(select: Any) -> None:
    """Without it, rows of which no label could be read are one stratum more, and the sample is larger than meant."""
    kept = [kind for kind, why in zip(KINDS, select(Tagged(by="kind"), tag_kind=KINDS), strict=True) if why is None]
    one_each = Sample(keep=1, per="kind")
    assert select(one_each, tag_kind=KINDS).count(None) == 3
    assert select(one_each, tag_kind=kept).count(None) == 2
