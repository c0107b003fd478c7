"""`plan --calibrate`: what cannot be measured takes nothing from the rest, and nothing outlives the command."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from harness.engines.base import ModelSpec
from harness.errors import UserError
from harness.finetune.dpo import Dpo
from harness.loop import calibrate, forked, measure, memory, worker
from harness.loop.calibrate import Told
from harness.loop.measure import Measured, Target
from harness.loop.rates import calibration_file
from harness.pocket import model_path
from harness.records.example import Example, Message
from harness.store.home import Home

ROWS = tuple(
    Example(
        id=str(n),
        messages=(Message(role="user", content=f"say {n}"), Message(role="assistant", content=f"it is {n}")),
    )
    for n in range(4)
)


def target(trainer: Any = None) -> Target:
    spec = ModelSpec(name="student", path=model_path("pocket/base"), revision="base", device="cpu")
    return Target("base", spec, trainer, ROWS)


KEPT: tuple[tuple[Any, float], ...] = (("models", 1.0), ("memory", 5))


class Answers:
    """The measuring process's end of the pipe."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_a_training_that_cannot_be_measured_leaves_the_rates_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Preference training wants pairs, and the rows at hand are conversations."""
    monkeypatch.setattr(worker, "settle", lambda setup: None)
    monkeypatch.setattr(measure, "_product_rate", lambda threads, kind: 1e9)
    told = {96: (90.04, 24.0), 33: (200.0, 8.25)}
    monkeypatch.setattr(measure, "_passes", lambda engine, rows: {"generate": lambda n: 96, "score": lambda n: 33})
    monkeypatch.setattr(measure, "_rate", lambda work, rows: told[work(rows)])
    connection = Answers()
    measure.main(cast(Connection, connection), worker.Setup(Home(tmp_path), 1), [target(Dpo())])
    (found,) = connection.sent
    assert found["models"] == {"base": {"generate": 90.0, "score": 200.0}}
    assert found["tokens"] == {"base": {"score": 8.2}}, "answers that were cut off say nothing of how long answers are"
    assert found["machine"] == {"flops": {"cpu float32": 1e9}}
    assert "rejected" in found["why"]["base"]
    assert calibrate_told(
        found
    ) == "student could not be measured any further (generate 90 tokens/s, score 200 tokens/s): " + str(
        found["why"]["base"]
    )


def calibrate_told(found: Any) -> str:
    from harness.cli.plan import _told

    return _told(Told("student", found["models"]["base"], found["why"]["base"]))


def test_measuring_has_all_devices_and_asks_no_kept_replies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that is spread over several devices needs them; a reply that is kept would come back in no time."""
    seen: list[Any] = []

    def measured(targets: Sequence[Target], setup: worker.Setup) -> dict[str, Any]:
        seen.append(setup.devices)
        return {"machine": {}, "models": {}, "tokens": {}, "memory": {}, "why": {}}

    monkeypatch.setattr(calibrate, "_measured", measured)
    monkeypatch.setattr(calibrate, "targets_of", lambda plan: [])
    for devices in (["0", "1"], []):
        monkeypatch.setattr(calibrate, "visible_devices", lambda devices=devices: devices)
        calibrate.calibrate(cast(Any, None), Home(tmp_path))
    assert seen == ["0,1", None]

    homes: list[Path] = []
    returned: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: returned.append(len(homes)))

    def opened(spec: ModelSpec, threads: int, home: Home) -> Any:
        assert returned[-1:] == [len(homes)], "what is left of a GPU is handed back before each model is opened"
        homes.append(home.path)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr("harness.engines.open_engine", opened)
    monkeypatch.setattr(measure, "_passes", lambda engine, rows: {"generate": len, "score": len})
    monkeypatch.setattr(measure, "_rate", lambda work, rows: (1.0, 0.0))
    monkeypatch.setattr(memory, "peak", lambda others, gpu: 5)
    both = [Measured(what, name, value) for name in ("generate", "score") for what, value in KEPT]
    assert [list(measure.measure(target(), 1)) for _ in range(2)] == [both] * 2
    assert len({*homes, Home.find().path}) == 3


def test_what_was_measured_before_stays_where_it_is_not_measured_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    calibration_file(home).write_text(json.dumps({"machine": {"flops": 1e9}, "models": {}}))  # of an earlier version
    for kind, values in (
        ("cpu float32", {"a": {"train": 1.0, "score": 2.0}}),
        ("cuda x", {"a": {"score": 3.0}, "b": {}}),
    ):
        found = {"machine": {"flops": {kind: 1e9}}, "models": values, "tokens": values, "memory": values}
        calibrate._keep(home, found)
    kept = json.loads(calibration_file(home).read_text())
    assert kept["models"] == kept["tokens"] == kept["memory"] == {"a": {"train": 1.0, "score": 3.0}}
    assert kept["machine"] == {"flops": {"cpu float32": 1e9, "cuda x": 1e9}}


def measures_for_ever(connection: Connection, setup: worker.Setup, targets: Sequence[Target]) -> None:
    time.sleep(600)


def dies(connection: Connection, setup: worker.Setup, targets: Sequence[Target]) -> None:
    raise SystemExit(9)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "context", lambda threads: multiprocessing.get_context("fork"))


def test_an_interrupt_ends_the_measuring_process(forks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python waits at its end for processes that it started: Ctrl-C would seem to do nothing for minutes."""
    started: list[psutil.Process] = []

    class Interrupted:
        def __init__(self, real: Any) -> None:
            self.Process = real.Process

        def Pipe(self) -> Any:
            ours = SimpleNamespace(recv=self.recv, close=lambda: None)
            return ours, SimpleNamespace(close=lambda: None)

        def recv(self) -> Any:
            started.extend(psutil.Process().children())
            raise KeyboardInterrupt

    monkeypatch.setattr(measure, "main", measures_for_ever)
    real = multiprocessing.get_context("fork")
    monkeypatch.setattr(forked, "context", lambda threads: Interrupted(real))
    with pytest.raises(KeyboardInterrupt):
        calibrate._measured([], worker.Setup(Home(tmp_path), 1))
    assert started
    assert not any(one.is_running() for one in started)


def test_a_process_that_dies_is_told_with_what_to_look_at(
    forks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "main", dies)
    with pytest.raises(UserError, match=r"died \(exit code 9\): nothing was measured. Was there enough memory"):
        calibrate._measured([], worker.Setup(Home(tmp_path), 1))
