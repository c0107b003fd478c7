"""One reading of `10%`, for the configuration and for blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.values import Amount, amount, count, share


@pytest.mark.parametrize(
    ("written", "read"),
    [("10%", Amount(share=0.1)), ("0.5 %", Amount(share=0.005)), (0.1, Amount(share=0.1)), (100, Amount(count=100))],
)
def test_amounts(written: Any, read: Amount) -> None:
    assert amount(written) == read


@pytest.mark.parametrize("written", ["0%", "101%", 0, -3, 1.0, 1.5, True, "ten", None, float("nan")])
def test_amounts_that_are_none(written: Any) -> None:
    with pytest.raises(ValueError, match="should be a share"):
        amount(written)


def test_a_share_is_rounded_down_and_a_count_has_a_limit() -> None:
    assert [Amount(share=0.07).of(n) for n in (100, 99, 14, 0)] == [7, 6, 0, 0]
    assert Amount(share=1.0).of(3) == 3
    assert [Amount(count=5).of(n) for n in (3, 5, 9)] == [3, 5, 5]


@given(st.integers(1, 10_000), st.integers(0, 10**6))
def test_written_and_read_again_an_amount_is_the_same(hundredths: int, total: int) -> None:
    once = amount(f"{hundredths / 100}%")
    assert amount(str(once)).of(total) == once.of(total)


def test_counts_and_shares() -> None:
    assert [count(text) for text in (2000, "2k", "1.5M", 2e3)] == [2000, 2000, 1_500_000, 2000]
    assert [share(text) for text in ("25%", 0.25, 1)] == [0.25, 0.25, 1.0]
    for wrong in (0, "2x", 1.5, True, "0k"):
        with pytest.raises(ValueError, match="positive whole number"):
            count(wrong)
