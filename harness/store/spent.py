"""What served models cost: an append-only ledger that several processes share, with a hard cap.

Before a call its highest possible price is reserved, under a lock and only if the cap allows it; afterwards the price
is settled. So calls in flight can never carry the sum over the cap. The reservation of a process that was killed stays
counted, because its call may have been charged. Without a cap nothing is reserved, and only what was paid is noted.
Lines are left to the operating system, not flushed to the disk one by one: they survive the process, and a power cut
may lose the last ones.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

from harness.errors import LimitReached, UserError

STALE = 3600.0
"""Seconds after which a reservation counts as that of a dead process, whatever now has its number."""


@dataclass
class Bill:
    """One call that is being paid. Without `settle` it cost nothing: it was not answered.

    `unsure` is the part of the price that may not have been charged: a call without an answer is booked at its highest
    price, because nobody can tell.
    """

    id: str
    model: str
    at_most: float
    price: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unsure: float = 0.0

    def settle(self, usd: float, *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Notes what the call cost, in US dollars, and its tokens."""
        self.price, self.prompt_tokens, self.completion_tokens = usd, prompt_tokens, completion_tokens

    def settle_unsure(self) -> None:
        """The call broke off after it was sent: it is booked at its highest price."""
        self.price = self.unsure = self.at_most


@dataclass(frozen=True)
class Spent:
    """The sums of a ledger. `usd` is all that counts against the cap; `unsure_usd` the part that may not be charged."""

    usd: float = 0.0
    unsure_usd: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class _Sums:
    total: float = 0.0
    unsure: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    open: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Ledger:
    """The money of one experiment in US dollars. `limit` is its cap (None: none)."""

    path: Path
    limit: float | None = None
    clock: Callable[[], float] = time.time
    _read: int = 0
    _sums: _Sums = field(default_factory=_Sums)
    _file: FileIO = field(init=False, repr=False)

    def total(self) -> float:
        """All that was settled or is reserved, by every process."""
        return self.spent().usd

    def reserved(self) -> float:
        """The part of the total that is not settled: calls in flight, or cut off when a process died."""
        with self._locked():
            return self._reserved()

    def spent(self) -> Spent:
        """The sums so far, by every process; nothing is created where there is no ledger."""
        if not self.path.exists():
            return Spent()
        with self._locked():
            s = self._sums
            unsure = s.unsure + self._reserved()
            return Spent(s.total, unsure, s.calls, s.prompt_tokens, s.completion_tokens)

    def open(self, at_most: float, model: str) -> Bill | None:
        """A bill for one call of at most so many dollars; None where calls in flight must be settled first.

        Raises:
            LimitReached: with this call the sum could pass the cap, and nothing in flight could free a part of it.
            UserError: the ledger cannot be written.
        """
        bill = Bill(id=secrets.token_hex(8), model=model, at_most=at_most)
        if self.limit is None:
            return bill
        with self._locked():
            if self._sums.total + at_most > self.limit:
                if any(self._alive(entry) for entry in self._sums.open.values()):
                    return None
                raise LimitReached(used_up(self._sums.total, self.limit, at_most))
            who = {"pid": os.getpid(), "host": self._host}
            self._append({"id": bill.id, "event": "reserved", "usd": at_most, "model": model, **who})
        return bill

    def close(self, bill: Bill) -> None:
        """Settles a bill."""
        if self.limit is None and not bill.price and not bill.prompt_tokens:
            return
        entry: dict[str, Any] = {"id": bill.id, "event": "settled", "usd": bill.price, "model": bill.model}
        entry |= {"prompt_tokens": bill.prompt_tokens, "completion_tokens": bill.completion_tokens}
        with self._locked():
            self._append(entry | ({"unsure": bill.unsure} if bill.unsure else {}))

    @contextmanager
    def spending(self, at_most: float, *, model: str) -> Iterator[Bill]:
        """Waits for room and opens a bill; settle it in the body.

        Raises:
            LimitReached: with this call the sum could pass the cap; nothing was reserved.
            UserError: the ledger cannot be written.
        """
        while (bill := self.open(at_most, model)) is None:
            time.sleep(0.1)
        try:
            yield bill
        finally:
            self.close(bill)

    @cached_property
    def _host(self) -> str:
        return socket.gethostname()

    def _reserved(self) -> float:
        return sum(float(entry["usd"]) for entry in self._sums.open.values())

    def _alive(self, entry: dict[str, Any]) -> bool:
        """Whether the process that reserved may still settle; of another machine it is assumed until it is stale."""
        if self.clock() - float(entry["time"]) > STALE:
            return False
        if entry.get("host") != self._host:
            return True
        try:
            os.kill(int(entry["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The system's lock on the ledger, with everything read that other processes wrote."""
        try:
            with self._opened() as self._file:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                self._catch_up()
                yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}), and money that cannot be counted is not spent: "
                "free or unlock the disk, then run the same command again"
            ) from error

    def _opened(self) -> FileIO:
        try:
            return FileIO(self.path, "a+")
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return FileIO(self.path, "a+")

    def _catch_up(self) -> None:
        if os.fstat(self._file.fileno()).st_size == self._read:
            return
        self._file.seek(self._read)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):  # torn when its writer was killed
            self._file.truncate(self._read + whole)
        try:
            entries = [_entry(line) for line in data[:whole].splitlines()]
        except (ValueError, KeyError, TypeError) as error:  # a power cut, or a hand
            raise UserError(
                f"{self.path} holds a damaged line, and money that cannot be counted is not spent: take that line out "
                f"(or the file, if nothing of it should count), then run the same command again"
            ) from error
        for entry in entries:
            self._count(entry)
        self._read += whole

    def _append(self, entry: dict[str, Any]) -> None:
        entry = {"time": self.clock(), **entry}
        line = json.dumps(entry).encode() + b"\n"
        if (written := self._file.write(line)) != len(line):  # a disk that has just become full takes a part
            self._file.truncate(self._read)
            raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written", str(self.path))
        self._read += len(line)
        self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        s, name, usd = self._sums, str(entry["id"]), float(entry["usd"])
        if entry["event"] == "reserved":
            s.open[name] = entry
            s.total += usd
            return
        reserved = s.open.pop(name, None)
        s.total += usd - (float(reserved["usd"]) if reserved else 0.0)
        s.unsure += float(entry.get("unsure", 0.0))
        s.prompt_tokens += int(entry.get("prompt_tokens", 0))
        s.completion_tokens += int(entry.get("completion_tokens", 0))
        s.calls += bool(entry.get("prompt_tokens"))


def _entry(line: bytes) -> dict[str, Any]:
    """A line of a ledger; a ValueError, KeyError or TypeError where it is none."""
    raw = json.loads(line)
    return {**raw, "id": str(raw["id"]), "event": str(raw["event"]), "usd": float(raw["usd"])}


def used_up(total: float, limit: float, next_call: float | None = None) -> str:
    """The sentence that says that the money is spent, and how to go on."""
    more = "" if next_call is None else f", and the next call may cost up to {next_call:.2g}"
    return (
        f"limits.usd is {limit:g}, {total:.2f} of it is spent or reserved{more}: nothing more is spent. Finished work "
        f"is kept; to go on, raise limits.usd (`--set limits.usd=...`) and run the same command again"
    )
