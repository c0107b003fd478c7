"""The worker's end of a vLLM process: starts it, talks to it, and sees to it that it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from harness.engines.vllm.faults import died, explained
from harness.engines.vllm.messages import Dropped, Failed, Opened, Work
from harness.errors import LoopbenchError, Transient

_LAST = 20_000
"""Bytes at the end of the log that are searched for a reason."""
_GRACE = 5.0
"""Seconds that a process may take to end by itself."""


class Link:
    """One vLLM process. What it prints goes to a file that is read when it fails, and removed when it ends well."""

    def __init__(self, name: str, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Starts the process; `opened` waits for the model. `name` is for messages."""
        self.name, self._arguments = name, arguments
        with ExitStack() as undone:
            self._log = undone.enter_context(tempfile.NamedTemporaryFile(prefix="loopbench-vllm-", suffix=".log"))
            ours, theirs = socket.socketpair()
            undone.enter_context(ours)
            with theirs:
                self._process = self._started(theirs, environment)
            undone.pop_all()  # it runs: both stay open
        self.connection = Connection(ours.detach())
        self._given_up: set[int] = set()
        """Calls that were dropped, and whose end the process has not told yet."""
        self.connection.send(("open", dict(arguments)))

    def _started(self, theirs: socket.socket, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """The process, with its end of the connection."""
        theirs.set_inheritable(True)
        return subprocess.Popen(
            [sys.executable, "-m", "harness.engines.vllm.host", str(os.getpid()), str(theirs.fileno())],
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # so that processes which vLLM starts can be ended with it
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def opened(self) -> Opened:
        """Waits until the model is loaded.

        Raises:
            UserError: it could not be; the message says why and what to do.
        """
        message = self.receive()
        if not isinstance(message, Opened):
            raise TypeError(f"unexpected message {message!r}")
        return message

    def ask(self, ticket: int, works: Sequence[Work]) -> None:
        """Sends the works of a call.

        First it reads what is left of calls that were given up: a process that cannot get rid of old answers reads no
        new questions, and then both would wait for each other.

        Raises:
            Transient: the process has died.
        """
        while self._given_up:
            self.receive()
        try:
            self.connection.send(("ask", ticket, works))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._dead() from error

    def receive(self) -> Any:
        """The next message.

        Raises:
            UserError: what vLLM refused for good, explained.
            Transient: the process died, or failed in a way that another try may mend.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._dead() from error
        if isinstance(message, Failed):
            text = f"{message.error}\n{self._said()}"
            self.close()
            raise explained(self.name, message, text, self._arguments)
        if isinstance(message, Dropped):
            self._given_up.discard(message.ticket)
        return message

    def give_up(self, ticket: int) -> None:
        """Nobody waits for the answers to a call any more."""
        with suppress(BrokenPipeError, ConnectionResetError, OSError):
            self.connection.send(("drop", ticket))
            self._given_up.add(ticket)

    def close(self) -> None:
        """Ends the process and all that it started; their memory is free when this returns."""
        with suppress(BrokenPipeError, ConnectionResetError, OSError):
            self.connection.send(None)
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._kill()
        self._log.close()

    def _kill(self) -> None:
        """Kills what is left of the process and of those that it started, and waits until they hold nothing."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + _GRACE
        while any(_runs(member) for member in _group(self._process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _dead(self) -> LoopbenchError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._kill()
        said = self._said()
        self._log.close()
        return Transient(died(self.name, self._process.returncode, said))

    def _said(self) -> str:
        if self._log.closed:
            return ""
        text = Path(self._log.name).read_bytes()[-_LAST:]
        return text.decode("utf-8", "replace")


def _group(number: int) -> list[psutil.Process]:
    """The processes of a group."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == number:
                found.append(process)
    return found


def _runs(process: psutil.Process) -> bool:
    """Whether a process is more than an entry that nobody has collected yet."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process: the worker's, and where this package lies."""
    root = str(Path(__file__).parents[3])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
