"""Time by layer: nothing is counted twice, and leaves need no timer handed down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.clock import Timer, each, layer, timed


@dataclass
class Hands:
    """A clock that moves when told."""

    now: float = 100.0

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    monkeypatch.setattr("harness.clock.time.perf_counter", lambda: made.now)
    return made


@timed("io")
def read(hands: Hands) -> str:
    """Reads."""
    hands.move(2)
    return "read"


def test_a_leaf_counts_for_the_timer_that_is_active(hands: Hands) -> None:
    timer = Timer()
    with timer.active(), timer("engine"):
        hands.move(1)
        assert read(hands) == "read"
        hands.move(4)
    report = timer.report()
    assert (report["io"], report["engine"], report["other"], report["wall"]) == (2, 5, 0, 7)


def test_without_an_active_timer_nothing_is_counted(hands: Hands) -> None:
    timer = Timer()
    read(hands)
    with layer("io"):
        hands.move(1)
    assert list(each("io", [1, 2])) == [1, 2]
    assert "io" not in timer.report()
    assert (read.__name__, read.__doc__) == ("read", "Reads.")


def test_another_thread_does_not_count_for_this_timer(hands: Hands) -> None:
    timer = Timer()
    with timer.active():
        thread = threading.Thread(target=read, args=(hands,))
        thread.start()
        thread.join()
    assert "io" not in timer.report()


def test_the_making_of_items_is_told_from_their_use(hands: Hands) -> None:
    def made() -> Iterator[int]:
        for number in range(3):
            hands.move(1)
            yield number

    timer = Timer()
    with timer.active():
        for _ in each("io", made()):
            hands.move(10)
    report = timer.report()
    assert (report["io"], report["other"]) == (3, 30)


def test_what_an_inner_layer_calls_other_is_other(hands: Hands) -> None:
    def parts() -> Iterator[int]:
        for number in range(2):
            hands.move(10)
            yield number

    timer = Timer()
    with timer.active(), layer("io"):
        hands.move(1)
        list(each("other", parts()))
    report = timer.report()
    assert (report["io"], report["other"], report["wall"]) == (1, 20, 21)


def test_an_error_leaves_the_timer_in_order(hands: Hands) -> None:
    @timed("io")
    def break_off() -> None:
        hands.move(1)
        raise ValueError("broken")

    timer = Timer()
    with timer.active():
        with pytest.raises(ValueError, match="broken"):
            break_off()
        read(hands)
    assert timer.report()["io"] == 3


def test_slices_are_told_of_every_measurement(hands: Hands) -> None:
    told: list[tuple[str, float, float]] = []

    class Slices:
        def add(self, name: str, begin: float, seconds: float) -> None:
            told.append((name, begin, seconds))

    timer = Timer(Slices())
    with timer("trainer"):
        hands.move(1)
        with timer("io"):
            hands.move(2)
    assert told == [("io", 101.0, 2.0), ("trainer", 100.0, 3.0)], "a slice lasts as long as it is seen to"
