"""Leases: one owner per experiment and per artifact.

The lock is the operating system's (flock, through filelock), so a lease whose owner died is free at once; the note
beside it only says who holds it. On a shared file system the lock is as good as that system's flock.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError


class Held(UserError):
    """Another process holds the lease."""


@contextmanager
def lease(folder: Path, name: str, what: str, timeout: float = 0) -> Iterator[None]:
    """Holds `<folder>/<name>.lock` while the body runs; waits up to `timeout` seconds for it.

    Raises:
        Held: another process has it; names its host, process id and age.
    """
    from filelock import FileLock, Timeout

    lock, note = FileLock(folder / f"{name}.lock"), folder / f"{name}.owner.json"
    try:
        lock.acquire(timeout=timeout, poll_interval=0.1)
    except Timeout as error:
        raise Held(
            f"{what} is already being worked on by {_owner(note)}. Wait for it, or end it, then run the same "
            "command again"
        ) from error
    except OSError as error:
        raise UserError(
            f"{folder / name}.lock cannot be locked ({error.strerror}): loopbench needs a file system with locks; "
            "set LOOPBENCH_HOME to one"
        ) from error
    try:
        note.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def held(folder: Path, name: str) -> bool:
    """Whether some process has a lease; True also where the file system cannot tell."""
    import fcntl

    try:
        lock = os.open(folder / f"{name}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)  # lets go of what was taken to look
    return False


def _owner(note: Path) -> str:
    try:
        owner = json.loads(note.read_text())
        return f"process {owner['pid']} on {owner['host']}, for {time.time() - owner['since']:.0f} s"
    except (OSError, ValueError, KeyError):
        return "another process"
