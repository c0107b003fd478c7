"""MLflow's own pages, from one light server process on this machine only."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import UserError
from harness.store.home import Home
from harness.store.locks import lease
from harness.tracking.where import CREATION, SETTINGS, database, masked, tracking_uri

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ui:
    """Where the pages are, and the command that serves them (empty where a server runs already)."""

    url: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def ui(home: Home, env: Mapping[str, str], port: int = 5000) -> Ui:
    """How to see the results in MLflow.

    Run `command` with `env` (it ends on SIGTERM or Ctrl-C); `url` + `/health` answers once it serves, after some 6 s.

    Args:
        home: whose database is shown.
        env: the environment, usually `os.environ`; a server that `MLFLOW_TRACKING_URI` names is shown instead.
        port: on 127.0.0.1.

    Raises:
        UserError: nothing was logged yet, or the port is taken.
    """
    uri = tracking_uri(home, env)
    if uri.startswith(("http://", "https://")):
        return Ui(url=masked(uri))
    if uri == tracking_uri(home, {}):
        _exists(home)
    _free(port)
    # what others log to this server belongs in the home as well, not in the folder where it was started
    stores = ["--backend-store-uri", uri, "--artifacts-destination", str(home.path / "mlartifacts")]
    command = ["-m", "mlflow", "server", *stores, "--host", HOST, "--port", str(port)]
    return Ui(
        url=f"http://{HOST}:{port}",
        command=(sys.executable, *command, "--workers", "1"),
        env={**SETTINGS, **env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


def _exists(home: Home) -> None:
    """Refuses to serve a database that is not there, and waits for one that is just being created."""
    if database(home).exists():
        with lease(home.locks, CREATION, "the creation of the MLflow database", timeout=60):
            return
    raise UserError(
        f"{database(home)}: nothing was logged yet, so there is nothing to show. Run an experiment first "
        "(loopbench run quickstart), or set LOOPBENCH_HOME to the folder of one that ran"
    )


def _free(port: int) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} on {HOST} is taken ({error.strerror}): choose another, for instance --port {port + 1}"
            ) from error
