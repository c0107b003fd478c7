"""A server that loopbench starts for a model folder: vLLM's, on 127.0.0.1, for this process alone.

It ends when it is closed, and with the process that started it however that ends (`harness.engines.served.keeper`).
What it prints is kept in `<home>/served/logs`, and the end of that is quoted where it fails.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines.adapters import Adapter
from harness.engines.base import ModelSpec
from harness.engines.served.settings import LOCAL, LOCAL_NAME
from harness.engines.vllm.checks import ready as ready_vllm
from harness.engines.vllm.checks import servable
from harness.engines.vllm.faults import died, explained
from harness.engines.vllm.hosts import environments
from harness.engines.vllm.installed import HOW, build, vllm_version
from harness.engines.vllm.messages import Failed
from harness.engines.vllm.options import VllmOptions, arguments, limit_of
from harness.errors import LoopbenchError, Transient, UserError
from harness.records.hashing import sha256
from harness.store.home import Home

_MODULE = "vllm.entrypoints.openai.api_server"
START_SECONDS = 1800.0
"""A server that is not healthy by then is ended: large models take minutes to load and compile."""
_LOOK = 0.2
_GRACE = 20.0
_PORTS = 3
"""Tries, because a port that was free may be taken before the server has it."""
_LOGS = 20
"""Logs that are kept."""
_LAST = 40_000
_ERROR = re.compile(r"[\w.]*(?:Error|Exception): ")
_numbers = itertools.count()


def options_of(spec: ModelSpec) -> VllmOptions:
    """The options of the server: all but ours.

    Raises:
        UserError: vLLM has no such option.
    """
    return VllmOptions.of(theirs(spec))


def theirs(spec: ModelSpec) -> ModelSpec:
    """The model with the options of vLLM alone."""
    return replace(spec, options={name: value for name, value in spec.options.items() if name not in LOCAL})


def ready(spec: ModelSpec) -> None:
    """Refuses what this machine cannot serve, before any stage that needs it runs.

    Raises:
        UserError: vLLM is not installed, or was built for another device than the model asks for.
    """
    if build() is None:
        raise UserError(
            f"the model {spec.name} asks for `engine: openai` without `url:`, so loopbench would serve it with vLLM, "
            f"and that is not installed here: {HOW}, or `url:` and `model:` of a server that runs."
        )
    ready_vllm(theirs(spec))


def context_for(spec: ModelSpec) -> int | None:
    """The longest sequence that the model will take, prompt and answer together.

    Raises:
        UserError: `max_model_len` is longer than the model's context.
    """
    return limit_of(spec, options_of(spec), servable(spec))


def identity_of(spec: ModelSpec) -> str:
    """What decides the replies of the server: weights, number format, options, and vLLM's version."""
    return sha256([spec.revision, spec.dtype, options_of(spec).identity, vllm_version()])


class LocalServer:
    """One server process; `start` again after it has died."""

    def __init__(self, spec: ModelSpec, home: Home, threads: int = 1, models: int = 1) -> None:
        """Settings only: nothing is started. `models` is how many share the device."""
        self._spec, self._home, self._threads, self._models = spec, home, threads, models
        self._options, self._adapter = options_of(spec), servable(spec)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.model = f"{LOCAL_NAME}-{os.getpid()}-{next(_numbers)}"
        """Its name there: another one's, so that a server that took the same port answers nothing in its place."""
        self.log: Path | None = None
        """What the server prints."""
        self.open_s = 0.0
        """Seconds of the last start."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        """The process that holds the server; None where none runs."""
        return None if self._keeper is None else self._keeper.pid

    def start(self) -> None:
        """Starts the server and waits until it is healthy; nothing where it runs.

        Raises:
            UserError: it could not be started; the message says why and what to do.
        """
        if self._keeper is not None and self._keeper.poll() is None:
            return
        begun = time.monotonic()
        for left in reversed(range(_PORTS)):
            self.close()
            self._launch()
            try:
                self._wait(begun + START_SECONDS)
                break
            except _PortTaken:
                if not left:
                    raise UserError(f"the server of {self._spec.name} found no free port on 127.0.0.1") from None
            except BaseException:
                self.close()
                raise
        self.open_s = time.monotonic() - begun

    def gone(self) -> LoopbenchError | None:
        """Why the server has ended, where it has: worth another try, which starts it anew."""
        if self._keeper is None or self._keeper.poll() is None:
            return None
        return Transient(died(self._spec.name, _code(self._keeper.returncode), self._said()))

    def close(self) -> None:
        """Ends the server and all that it started; their memory is free when this returns."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.poll() is None:
            keeper.terminate()
            with suppress(subprocess.TimeoutExpired):
                keeper.wait(_GRACE)
        keeper.kill()
        keeper.wait()

    def command(self) -> list[str]:
        """What the server is started with."""
        made = build() or "gpu"
        flags = arguments(self._spec, self._options, made, self._models, self._adapter)
        if (context := context_for(self._spec)) is not None:
            flags["max_model_len"] = context + 1  # what is scored needs room for a token that is never read
        flags.setdefault("max_logprobs", 1024)
        if self._options.data_parallel_size > 1:
            flags["data_parallel_size"] = self._options.data_parallel_size
        flags |= {
            "host": "127.0.0.1",
            "port": self._port,
            "served_model_name": self.model if self._adapter is None else f"{self.model}-base",
            "uvicorn_log_level": "warning",
        }
        return [sys.executable, "-m", _MODULE, *_flags(flags), *_lora(self._adapter, self.model)]

    # --- the process --------------------------------------------------------------------------------------------------
    def _launch(self) -> None:
        self._port = _free_port()
        self.log = self._new_log()
        keeper = Path(__file__).with_name("keeper.py")
        with self.log.open("wb") as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(keeper), str(os.getpid()), *self.command()],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        copies, each = self._options.data_parallel_size, self._options.tensor_parallel_size
        # One server has the devices of all its copies.
        whole = self._options.model_copy(update={"data_parallel_size": 1, "tensor_parallel_size": copies * each})
        (own,) = environments(self._spec, whole, build() or "gpu", self._threads)
        # A key of the environment is for a server elsewhere; with it, this one would ask us for it.
        given = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
        return {**given, **own, "PYTHONUNBUFFERED": "1"}

    def _wait(self, until: float) -> None:
        """Until the server is healthy."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        address = self.url.removesuffix("/v1") + "/health"
        while self._keeper is not None and self._keeper.poll() is None:
            with suppress(urllib.error.URLError, OSError), direct.open(address, timeout=5.0) as answer:
                if answer.status == 200:
                    return
            if time.monotonic() > until:
                said = self._said()
                self.close()
                raise explained(
                    self._spec.name, Failed("open", f"no health within {START_SECONDS:g} s"), said, self._about()
                )
            time.sleep(_LOOK)
        said = self._said()
        if "address already in use" in said.lower():
            raise _PortTaken
        failed = Failed("open", _cause(said))
        error = explained(self._spec.name, failed, said, self._about())
        raise UserError(f"{error} All that it said is in {self.log}.")

    def _about(self) -> Mapping[str, Any]:
        return arguments(self._spec, self._options, build() or "gpu", self._models, self._adapter)

    def _said(self) -> str:
        if self.log is None or not self.log.is_file():
            return ""
        return self.log.read_bytes()[-_LAST:].decode("utf-8", "replace")

    def _new_log(self) -> Path:
        """A new file for what is printed; the oldest go where there are many."""
        folder = self._home.path / "served" / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: -_LOGS + 1]:  # names begin with the time
            old.unlink(missing_ok=True)
        return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}.log"


class _PortTaken(LoopbenchError):
    """Another program took the port first."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings by their names in Python, as flags of vLLM's command line."""
    found: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return found


def _lora(adapter: Adapter | None, name: str) -> Sequence[str]:
    """An adapter is served under the model's name, over its base, which goes by another."""
    return () if adapter is None else ("--lora-modules", f"{name}={adapter.folder.resolve()}")


def _cause(said: str) -> str:
    """The last line that names an exception: what went wrong, below what went wrong because of it."""
    lines = [line.split("]")[-1].strip() if line.startswith("(") else line.strip() for line in said.splitlines()]
    causes = [line for line in lines if _ERROR.match(line) and "Engine core initialization failed" not in line]
    return causes[-1] if causes else "the server ended while it was starting"


def _code(returned: int) -> int:
    """The server's exit code, from the keeper's."""
    return 128 - returned if returned > 128 and returned - 128 < signal.NSIG else returned
