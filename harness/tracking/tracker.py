"""The few MLflow calls that tracking makes, each safe to repeat.

A run is found by its tags (plan and cell) and created only where none has them. What was logged to it is listed in its
tag `loopbench.logged`, sent in the same call as the last of the points: a kill before it sends the same points again,
which MLflow's databases keep once because their times are fixed. `file:` stores would keep both, and are refused.
Artifacts are written under fixed names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Transient, UserError
from harness.tracking.units import Batch, DatasetInput, Table
from harness.tracking.where import masked

PLAN, CELL, LOGGED = "loopbench.plan", "loopbench.cell", "loopbench.logged"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment in MLflow's pages for training, not in those for chat applications."""
_POINTS, _PARAMS, _TAG = 900, 100, 5000
"""Points in one call (of MLflow's 1,000 things, 100 are left for tags), params likewise, characters in one tag."""
_TABLES = 80
"""How many tables are listed for MLflow's table view; all are stored."""


class Unreachable(Transient):
    """The tracking server or database did not answer. Nothing is lost: the journal and the store are the truth."""


@dataclass
class Run:
    """One MLflow run: `logged` is its high-water mark, `tables` the artifacts that its table view lists."""

    id: str
    status: str
    logged: set[str] = field(default_factory=set)
    tables: list[str] = field(default_factory=list)
    params: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a run is. `cell` is unique in its plan; `parent` the MLflow id of the run above it."""

    plan: str
    cell: str
    name: str
    started: int
    """Unix milliseconds."""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None


class Tracker:
    """One MLflow experiment, open for writing by one process at a time."""

    def __init__(self, client: Any, experiment_id: str, plan: str) -> None:
        self._client = client
        self._experiment = experiment_id
        self._runs = {run.data.tags[CELL]: _run(run) for run in self._find(plan)}

    @classmethod
    def open(cls, uri: str, name: str, plan: str, artifacts: str | None) -> Tracker:
        """Finds or creates the MLflow experiment.

        Args:
            uri: the tracking URI.
            name: of the experiment.
            plan: plan key whose runs are looked up.
            artifacts: root folder (URI) for artifacts of a new experiment; None leaves it to the server.

        Raises:
            Unreachable: no answer.
            UserError: the experiment was deleted in MLflow, or the URI names a `file:` store.
        """
        if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
            raise UserError(
                f"MLFLOW_TRACKING_URI names a folder ({masked(uri)}): MLflow's file stores keep a point that is sent "
                "twice twice. Name a database (sqlite:///mlflow.db) or a server, or unset the variable"
            )
        with reached(uri):
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise UserError(
                    f"experiment {name} was deleted in MLflow and is in its trash, so nothing can be logged to it: "
                    f"restore it (mlflow experiments restore -x {found.experiment_id}) or remove it for good "
                    "(mlflow gc)"
                )
            if found is not None:
                return cls(client, found.experiment_id, plan)
            return cls(client, client.create_experiment(name, artifact_location=artifacts, tags=KIND), plan)

    def run(self, who: Identity) -> Run:
        """The run of an identity, created where there is none."""
        if who.cell not in self._runs:
            tags = {PLAN: who.plan, CELL: who.cell, **who.tags}
            if who.parent is not None:
                tags["mlflow.parentRunId"] = who.parent
            made = self._client.create_run(self._experiment, start_time=who.started, tags=tags, run_name=who.name)
            self._runs[who.cell] = _run(made)
        run = self._runs[who.cell]
        missing = {name: value for name, value in who.params.items() if name not in run.params}
        if missing:
            self._params(run, missing)
        return run

    def log(self, run: Run, batches: Mapping[str, Batch]) -> None:
        """Adds units (id to content) to a run and marks them as logged."""
        from mlflow.entities import Metric, RunTag

        for table in (table for batch in batches.values() for table in batch.tables):
            self._table(run, table)
        self._inputs(run, [given for batch in batches.values() for given in batch.inputs])
        metrics = [Metric(p.key, p.value, p.time, p.step) for b in batches.values() for p in b.points]
        logged = run.logged | set(batches)
        given = {name: value for batch in batches.values() for name, value in batch.tags.items()}
        tags = [RunTag(name, value[:_TAG]) for name, value in (given | _mark(logged)).items()]
        if run.tables:
            listed = [{"path": path, "type": "table"} for path in run.tables[-_TABLES:]]
            tags.append(RunTag("mlflow.loggedArtifacts", json.dumps(listed)))
        last = max(0, (len(metrics) - 1) // _POINTS * _POINTS)
        for begin in range(0, last, _POINTS):
            self._client.log_batch(run.id, metrics=metrics[begin : begin + _POINTS])
        self._client.log_batch(run.id, metrics=metrics[last:], tags=tags)
        run.logged = logged

    def text(self, run: Run, path: str, text: str) -> None:
        """Writes (or replaces) a text artifact."""
        self._client.log_text(run.id, text, path)

    def file(self, run: Run, folder: str, path: Path) -> None:
        """Writes (or replaces) an artifact from a file, under its name in `folder`."""
        self._client.log_artifact(run.id, str(path), folder)

    def finish(self, run: Run, status: str, time: int | None) -> None:
        """Sets the status: RUNNING, FINISHED, FAILED or KILLED; `time` is the end in unix milliseconds."""
        if run.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run.id, status=status)
        else:
            self._client.set_terminated(run.id, status=status, end_time=time)
        run.status = status

    def _find(self, plan: str) -> Iterator[Any]:
        wanted, order, token = f"tags.`{PLAN}` = '{plan}'", ["attributes.start_time DESC"], None
        while True:
            page = self._client.search_runs([self._experiment], wanted, order_by=order, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _params(self, run: Run, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, value) for name, value in params.items()]
        for begin in range(0, len(entries), _PARAMS):
            self._client.log_batch(run.id, params=entries[begin : begin + _PARAMS])
        run.params |= set(params)

    def _table(self, run: Run, table: Table) -> None:
        content = {"columns": table.columns, "data": table.rows}
        self._client.log_text(run.id, json.dumps(content, ensure_ascii=False), table.path)
        if table.path not in run.tables:
            run.tables.append(table.path)

    def _inputs(self, run: Run, inputs: Sequence[DatasetInput]) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Entry

        entries = [
            Entry(
                Dataset(
                    name=given.name,
                    digest=given.digest[:32],
                    source_type="loopbench",
                    source=json.dumps({"artifact": given.source}),
                    profile=json.dumps({"num_rows": given.rows}),
                ),
                [InputTag("mlflow.data.context", given.context)],
            )
            for given in dict.fromkeys(inputs)
        ]
        if entries:
            self._client.log_inputs(run.id, entries)


@contextlib.contextmanager
def reached(uri: str) -> Iterator[None]:
    """The border of all MLflow calls.

    Raises:
        Unreachable: the server or database did not answer as it should; says where and why, without passwords.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":  # we sent nonsense: a bug, which a retry would not mend
            raise
        raise Unreachable(_outage(uri, error)) from error
    except (OSError, SQLAlchemyError) as error:
        raise Unreachable(_outage(uri, error)) from error


def _outage(uri: str, error: Exception) -> str:
    why = masked(" ".join(str(error).split()))[:300]
    return (
        f"MLflow at {masked(uri)} could not be written ({type(error).__name__}: {why}). The run itself is not touched: "
        "its results are in the store. Once MLflow answers again, run the same command to fill in what is missing."
    )


def _run(run: Any) -> Run:
    tags = run.data.tags
    logged = ",".join(value for name, value in tags.items() if name == LOGGED or name.startswith(f"{LOGGED}."))
    return Run(
        id=run.info.run_id,
        status=run.info.status,
        logged={part for part in logged.split(",") if part},
        tables=[entry["path"] for entry in json.loads(tags.get("mlflow.loggedArtifacts", "[]"))],
        params=set(run.data.params),
    )


def _mark(logged: set[str]) -> dict[str, str]:
    """The ids of logged units as tags, none longer than MLflow takes."""
    tags: dict[str, str] = {}
    parts: list[str] = []
    for part in sorted(logged):
        parts.append(part)
        if len(parts) * 11 >= _TAG:
            tags[_tag(len(tags))], parts = ",".join(parts), []
    return tags | ({_tag(len(tags)): ",".join(parts)} if parts else {})


def _tag(number: int) -> str:
    return f"{LOGGED}.{number}" if number else LOGGED
