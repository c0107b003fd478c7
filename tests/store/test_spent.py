"""The ledger: a cap that holds across processes, kills and torn lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LimitReached, UserError
from harness.store.spent import STALE, Ledger


def pay(ledger: Ledger, usd: float, at_most: float = 1.0) -> None:
    with ledger.spending(at_most, model="judge") as bill:
        bill.settle(usd, prompt_tokens=10, completion_tokens=5)


def test_sums_are_read_back_by_any_process(tmp_path: Path) -> None:
    path = tmp_path / "spent" / "night.jsonl"
    assert Ledger(path).spent().usd == 0
    assert not path.parent.exists(), "asking creates nothing"
    first, second = Ledger(path, 10.0), Ledger(path, 10.0)
    for usd in (0.25, 0.5):
        pay(first, usd)
        pay(second, usd)
    for ledger in (first, second, Ledger(path)):
        spent = ledger.spent()
        assert (spent.usd, spent.unsure_usd, spent.calls) == (1.5, 0.0, 4)
        assert (spent.prompt_tokens, spent.completion_tokens) == (40, 20)


def test_a_call_that_could_pass_the_cap_is_refused_before_it_is_made(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "night.jsonl", 2.0)
    pay(ledger, 0.9)
    pay(ledger, 0.9)
    with pytest.raises(LimitReached, match=r"limits\.usd is 2, 1\.80 of it is spent .* next call may cost up to 1"):
        pay(ledger, 0.1)
    pay(ledger, 0.2, at_most=0.2)
    assert ledger.total() == pytest.approx(2.0)


def test_calls_in_flight_count_at_their_highest_price(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "night.jsonl", 2.0)
    bill = ledger.open(1.5, "judge")
    assert bill is not None
    assert ledger.reserved() == 1.5
    assert ledger.open(1.0, "judge") is None, "it fits if the other turns out cheaper: wait"
    bill.settle(0.5)
    ledger.close(bill)
    other = ledger.open(1.0, "judge")
    assert other is not None
    ledger.close(other)
    assert (ledger.total(), ledger.reserved()) == (0.5, 0.0)


def test_what_a_killed_process_reserved_stays_counted(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    code = (
        "import os, sys; from pathlib import Path; from harness.store.spent import Ledger\n"
        "Ledger(Path(sys.argv[1]), 2.0).open(1.5, 'judge'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    ledger = Ledger(path, 2.0)
    assert ledger.spent().usd == ledger.spent().unsure_usd == 1.5
    with pytest.raises(LimitReached):
        ledger.open(1.0, "judge")
    bill = ledger.open(0.5, "judge")
    assert bill is not None


@pytest.mark.parametrize(("age", "waits"), [(1.0, True), (STALE + 1, False)])
def test_another_machines_reservation_is_waited_for_until_it_is_stale(tmp_path: Path, age: float, waits: bool) -> None:
    path = tmp_path / "night.jsonl"
    line = {"time": 1000.0, "id": "a", "event": "reserved", "usd": 1.5, "model": "m", "pid": 1, "host": "elsewhere"}
    path.write_text(json.dumps(line) + "\n")
    ledger = Ledger(path, 2.0, clock=lambda: 1000.0 + age)
    if waits:
        assert ledger.open(1.0, "judge") is None
    else:
        with pytest.raises(LimitReached):
            ledger.open(1.0, "judge")


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    pay(Ledger(path, 10.0), 0.5)
    with path.open("ab") as file:
        file.write(b'{"time": 1.0, "id": "b", "event": "reser')
    ledger = Ledger(path, 10.0)
    assert ledger.total() == 0.5
    pay(ledger, 0.25)
    assert Ledger(path).total() == 0.75
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("line", [b"\0" * 40, b"{}", b'{"id": "b", "event": "settled", "usd": null}', b"[1]"])
def test_a_damaged_line_is_a_sentence_and_stops_spending(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "night.jsonl"
    pay(Ledger(path, 10.0), 0.5)
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UserError, match=r"night\.jsonl holds a damaged line"):
        Ledger(path, 10.0).open(1.0, "judge")


def test_a_line_that_a_full_disk_cut_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "night.jsonl"
    ledger = Ledger(path, 10.0)
    pay(ledger, 0.5)
    whole = path.read_bytes()

    class Full(FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:20])

    monkeypatch.setattr("harness.store.spent.FileIO", Full)
    with pytest.raises(UserError, match="No space left|bytes written"):
        ledger.open(1.0, "judge")
    assert path.read_bytes() == whole
    monkeypatch.undo()
    pay(ledger, 0.25)
    assert Ledger(path).total() == 0.75


def test_a_call_without_an_answer_costs_nothing_or_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "night.jsonl", 10.0)
    with pytest.raises(RuntimeError), ledger.spending(1.0, model="judge"):
        raise RuntimeError
    assert ledger.spent().usd == 0
    with ledger.spending(1.0, model="judge") as bill:
        bill.settle_unsure()
    assert ledger.spent().usd == ledger.spent().unsure_usd == 1.0


def test_without_a_cap_only_what_was_paid_is_written(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    ledger = Ledger(path)
    with ledger.spending(5.0, model="judge"):
        pass
    assert not path.exists()
    pay(ledger, 0.5)
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "spoil", [lambda path: path.parent.write_text("a file"), lambda path: path.mkdir(parents=True)]
)
def test_money_that_cannot_be_counted_is_not_spent(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "spent" / "night.jsonl"
    spoil(path)
    with pytest.raises(UserError, match="money that cannot be counted is not spent"):
        Ledger(path, 1.0).open(0.5, "judge")


def test_processes_side_by_side_never_pass_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    code = (
        "import sys; from pathlib import Path; from harness.store.spent import Ledger; from harness.errors import *\n"
        "ledger = Ledger(Path(sys.argv[1]), 2.0)\n"
        "try:\n"
        "    for _ in range(100):\n"
        "        with ledger.spending(0.1, model='m') as bill: bill.settle(0.05, prompt_tokens=1)\n"
        "except LimitReached: pass\n"
    )
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root, env=os.environ) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    spent = Ledger(path).spent()
    assert 1.85 < spent.usd <= 2.0
    assert spent.calls == round(spent.usd / 0.05)
