"""What a stage took of memory: its worker's, and that of the processes that its models run in."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.loop import memory
from harness.loop.desk import Engines

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks")
MIB = 2**20
CHILD = "held = bytearray(b'x') * ({} << 20); held = None; print('done', flush=True); input()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD.format(64)!r}], stdin=subprocess.PIPE)
input()
child.communicate(b"end")
"""


def started(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"end\n", timeout=20)


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    process = started(CHILD.format(96))
    yield process
    if process.poll() is None:
        ended(process)


def test_processes_that_models_run_in_count_with_their_peaks(engine: subprocess.Popen[bytes]) -> None:
    """The model's memory is theirs, given back or not; the worker alone has next to nothing."""
    own, both = memory.peak(), memory.peak([engine.pid])
    assert own is not None
    assert both is not None
    assert both - own > 96 * MIB
    memory.forget_peak([engine.pid])
    after = memory.peak([engine.pid])
    assert after is not None
    assert both - after > 80 * MIB, "what it had before this stage does not count in it"


def test_what_such_a_process_started_counts_too() -> None:
    """A server's keeper holds nothing: its server and that one's engine do."""
    keeper = started(PARENT)
    try:
        own, family = memory.peak(), memory.peak([keeper.pid])
        assert own is not None
        assert family is not None
        assert family - own > 64 * MIB
    finally:
        ended(keeper)


def test_what_is_not_known_is_none(engine: subprocess.Popen[bytes]) -> None:
    assert memory.peak([engine.pid], gpu=True) is None, "a process's resident size says nothing of a GPU"
    ended(engine)
    assert memory.peak([engine.pid]) is None, "it has died, and its peak with it"


def test_engines_tell_the_processes_of_what_is_open(tmp_path: Any) -> None:
    engines = Engines.__new__(Engines)
    shared = (11, 12)  # two adapters over one base
    open_ = {"a": SimpleNamespace(pids=shared), "b": SimpleNamespace(pids=shared), "c": SimpleNamespace()}
    engines._open = OrderedDict(open_)
    assert engines.processes() == shared
