"""Runs a server for a process and ends it with that process, however that ends: `keeper.py PARENT COMMAND...`.

A process that is killed cannot end what it started, and a server's own helpers outlive it. So this small program stands
between: it leads no group of the server's, looks twice a second whether its parent is there, and kills the server's
whole group when it is not, when it is told to end, and when the server itself has ended. Only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

_LOOK = 0.5
_GRACE = 10.0
"""Seconds that the server may take to end by itself when this program is told to end."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main() -> int:
    """Runs the command; returns its exit code, negative for a signal as `subprocess` has it."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: told.append(got))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_tie,  # noqa: PLW1509  there is one thread only, so what runs before the command is safe
    )
    while server.poll() is None and os.getppid() == parent and not told:
        with suppress(subprocess.TimeoutExpired):
            server.wait(_LOOK)
    if server.poll() is None and os.getppid() == parent:
        server.terminate()
        end = time.monotonic() + _GRACE
        while server.poll() is None and time.monotonic() < end and os.getppid() == parent:
            with suppress(subprocess.TimeoutExpired):
                server.wait(_LOOK)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    return server.wait()


def _tie() -> None:
    """The server ends should this program be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    code = main()
    sys.stdout.write(f"[loopbench] the server ended with {code}\n")
    sys.exit(0 if code == 0 else 128 - code if code < 0 else code)
