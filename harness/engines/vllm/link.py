"""The worker's end of a vLLM process: starts it, talks to it, and sees to it that it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from harness.engines.vllm.faults import died, explained
from harness.engines.vllm.messages import Dropped, Failed, Opened, Part, Work, Written
from harness.errors import LoopbenchError, Transient

_LAST = 20_000
"""Bytes at the end of the log that are searched for a reason."""
_LOOK = 0.002
"""Seconds between two looks whether a message is sent."""
_GRACE = 5.0
"""Seconds that a process may take to end by itself."""


class Link:
    """One vLLM process, which several calls may ask at once: each reads what arrives, and leaves the others theirs.

    What it prints goes to a file without a name, which is read when it fails and is gone with the last process that has
    it open, however that ends.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Starts the process; `opened` waits for the model. `name` is for messages."""
        self.name, self._arguments = name, arguments
        with ExitStack() as undone:
            self._log = undone.enter_context(tempfile.TemporaryFile())
            ours, theirs = socket.socketpair()
            undone.enter_context(ours)
            with theirs:
                self._process = self._started(theirs, environment)
            undone.pop_all()  # it runs: both stay open
        self.connection = Connection(ours.detach())
        self._given_up: set[int] = set()
        """Calls that were dropped, and whose end the process has not told yet."""
        self._calls: dict[int, list[Written]] = {}
        """Of each call that is under way, what has arrived and was not taken."""
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

        A process that cannot get rid of old answers reads no new questions, and then both would wait for each other. So
        first it reads what is left of calls that were given up, and while it sends, what others ask for.

        Raises:
            Transient: the process has died.
        """
        self.check_open()
        while self._given_up:
            self.read()
        others = bool(self._calls)
        self._calls[ticket] = []
        try:
            self._send(("ask", ticket, works), reading=others)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._dead() from error

    def _send(self, message: object, reading: bool) -> None:
        """Sends a message; `reading`: and reads what comes meanwhile."""
        if not reading:
            self.connection.send(message)
            return
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(self.connection.send, message)
            while not sent.done():
                if self.connection.poll(_LOOK):
                    self.read()
            sent.result()

    def read(self) -> None:
        """Takes the next message, and keeps results for the call that they belong to.

        Raises:
            UserError, Transient: as `receive`.
        """
        self.check_open()
        message = self.receive()
        if isinstance(message, Part) and message.ticket in self._calls:
            self._calls[message.ticket] += message.written

    def take(self, ticket: int) -> list[Written]:
        """What has arrived for a call since the last time."""
        found, self._calls[ticket] = self._calls[ticket], []
        return found

    def forget(self, ticket: int) -> None:
        """A call has all that it asked for, or wants no more."""
        self._calls.pop(ticket, None)

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
        self.forget(ticket)
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

    def check_open(self) -> None:
        """Raises Transient where the process has ended and this end is closed."""
        if self.connection.closed:  # another call met its end
            raise Transient(died(self.name, self._process.returncode, ""))

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
        log = self._log.fileno()  # read in place: where it stands, the process writes on
        return os.pread(log, _LAST, max(0, os.fstat(log).st_size - _LAST)).decode("utf-8", "replace")


def read_any(links: Iterable[Link]) -> None:
    """Waits until one of the processes has said something, and reads it.

    Raises:
        UserError, Transient: as `Link.receive`.
    """
    by_connection = {}
    for link in links:
        link.check_open()
        by_connection[link.connection] = link
    for ready in wait(list(by_connection)):
        by_connection[ready].read()  # type: ignore[index]


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
