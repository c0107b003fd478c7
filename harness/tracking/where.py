"""Where MLflow is: the database in the home, or whatever `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.records.hashing import sha256
from harness.store.atomic import write_json
from harness.store.home import Home

VARIABLE = "MLFLOW_TRACKING_URI"
CREATION = "mlflow-database"
"""Name of the lease under which the local database is created."""

SETTINGS = {
    # an outage must show within seconds, not after MLflow's default of about four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SQLALCHEMYSTORE_MAX_RETRIES": "2",
    # nothing leaves the machine unless the user names a server
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
}
"""Environment of every process of ours that imports MLflow; what the user set already wins."""


def tracking_uri(home: Home, env: Mapping[str, str]) -> str:
    """The tracking URI: the user's, else the SQLite database of the home."""
    return env.get(VARIABLE) or f"sqlite:///{database(home)}"


def database(home: Home) -> Path:
    """The local database, whether it exists or not."""
    return home.path / "mlflow.db"


def artifacts(home: Home, uri: str) -> str | None:
    """Where the artifacts of a new MLflow experiment go; None leaves it to the server."""
    return None if uri.startswith(("http://", "https://", "databricks")) else (home.path / "mlartifacts").as_uri()


def masked(text: str) -> str:
    """A text in which the user names and passwords of URLs are hidden."""
    return re.sub(r"(\w+://)[^/@\s'\"]+@", r"\1***@", text)


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """How far the tracking of one plan got: `runs/<experiment>/grids/<plan key>.mlflow`, beside the plan.

    `complete` only where everything that the plan will ever give was logged to this URI. Then the next run of the
    finished experiment need not start MLflow at all.
    """

    place: str
    """Hash of the tracking URI, which may hold a password."""
    complete: bool
    message: str | None = None


def log_file(home: Home, experiment: str) -> Path:
    """What the last MLflow process of an experiment said."""
    return home.grid_file(experiment).with_name("mlflow.log")


def stamp_file(home: Home, experiment: str, plan_key: str) -> Path:
    """Where the stamp of a plan is."""
    return home.grid_file(experiment).parent / "grids" / f"{plan_key}.mlflow"


def write_stamp(home: Home, experiment: str, plan_key: str, stamp: Stamp) -> None:
    """Replaces the stamp of a plan."""
    path = stamp_file(home, experiment, plan_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(stamp))


def read_stamp(home: Home, experiment: str, plan_key: str) -> Stamp | None:
    """The stamp of a plan; None where there is none or it cannot be read."""
    try:
        return Stamp(**json.loads(stamp_file(home, experiment, plan_key).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def place(uri: str) -> str:
    """A hash that tells tracking URIs apart without showing them."""
    return sha256(uri)


def complete(home: Home, experiment: str, plan_key: str, uri: str) -> bool:
    """Whether everything of a plan is in MLflow already (and a local database has not been removed since)."""
    stamp = read_stamp(home, experiment, plan_key)
    if stamp is None or not stamp.complete or stamp.place != place(uri):
        return False
    return not uri.startswith("sqlite:///") or Path(unquote(uri.removeprefix("sqlite:///"))).exists()


def owed(home: Home, experiment: str) -> list[str]:
    """Keys of the plans whose tracking met an outage, was killed or was switched off; the oldest first."""
    files = sorted((home.grid_file(experiment).parent / "grids").glob("*.json"), key=lambda f: (f.stat().st_mtime, f))
    stamps = {file.stem: read_stamp(home, experiment, file.stem) for file in files}
    return [key for key, stamp in stamps.items() if stamp is None or stamp.message is not None]
