"""Memory that runs out in an engine: the run goes on with less, and says so wherever a stage is told of."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.cli.progress import View
from harness.cli.status import _notes
from harness.loop import worker
from harness.loop.desk import Engines
from harness.loop.run import run
from harness.store.artifacts import Store
from harness.store.home import Home

from . import fake_run
from .conftest import Make

FEW = """
recipe: few
steps:
  - {score: ifd, model: student}
  - {select: top, by: ifd, keep: 4}
  - {finetune: sft}
"""
FITS = 6
"""Rows that the device has room for."""


class Here(fake_run.Here):
    """The executor that is this process, with real engines."""

    def __call__(self, home: Home, workers: int) -> Here:
        self.store = Store(home)
        self.engines: Any = Engines(self.store, 1)
        self.setup = worker.Setup(home, 1)
        return self

    def last_model(self, place: int) -> str | None:
        return None


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that was read outside of a training; more than `FITS` of them do not fit."""
    import torch
    from transformers import LlamaModel

    forward, seen = LlamaModel.forward, list[int]()

    @functools.wraps(forward)
    def small(self: Any, *given: Any, **named: Any) -> Any:
        ids = named.get("input_ids", given[0] if given else None)
        if not self.training and ids is not None:
            seen.append(len(ids))
            if len(ids) > FITS:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, *given, **named)

    monkeypatch.setattr(LlamaModel, "forward", small)
    return seen


def finished(lines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the journal says of finished stages, by key."""
    told = (json.loads(line) for line in lines)
    return {event["key"]: event for event in told if event["event"] == "stage_finished"}


def test_memory_that_ran_out_is_in_manifest_journal_view_and_status(
    make: Make, batches: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, home = make(FEW), Home(tmp_path / "home")
    with View("small") as view:
        outcome = run(plan, home, workers=1, executor=Here(tmp_path / "log"), listener=view.listen)
    assert not outcome.failed
    assert max(batches) > FITS, "memory did run out"
    events = finished(home.journal_file("small").read_text().splitlines())
    shown = capsys.readouterr().err
    (score,) = (stage for stage in plan.stages.values() if stage.action == "score")
    manifest = Store(home).manifest("rows", score.key)
    assert manifest["rows"] == 32, "no row is lost"
    assert manifest["engine_notes"], "the manifest says it"
    for note in manifest["engine_notes"]:
        assert note.startswith("pocket/base: ")
        assert "memory" in note
        assert f"{score.label}: {note}" in shown, "the view says it"
    assert events[score.key]["engine_notes"] == manifest["engine_notes"], "the journal says it"
    noted = {key for key, event in events.items() if "engine_notes" in event}
    actions = {plan.stages[key].action for key in noted}
    assert actions <= {"score", "answer"}, "no stage that reads no model"
    assert all(event.get("engine_notes") == Store(home).manifest(event["kind"], key).get("engine_notes")
               for key, event in events.items())  # fmt: skip

    monkeypatch.setenv("LOOPBENCH_HOME", str(home.path))
    document = json.loads(CliRunner().invoke(main, ["status", "small", "--json"]).output)
    assert document["engine_notes"][score.label] == manifest["engine_notes"], "status says it, also much later"
    assert document["engine_notes"].keys() == {plan.stages[key].label for key in noted}
    assert f"note    {score.label}: pocket/base: " in CliRunner().invoke(main, ["status", "small"]).output


def test_stages_of_one_label_hide_none_of_their_notes() -> None:
    """The stages of all seeds are called alike; of a stage that was done again, what it said last counts."""
    told = [
        ("a", ["m: 4 rows"]),
        ("b", ["m: 8 rows", "m: 4 rows"]),
        ("c", ["m: 2 rows"]),
        ("d", ["m: 9 rows"]),
        ("d", []),
    ]
    events = [{"event": "stage_finished", "key": key, "label": "x i1 ifd", "engine_notes": n} for key, n in told]
    assert _notes(events, {"a", "b", "d"}) == {"x i1 ifd": ["m: 4 rows", "m: 8 rows"]}
    assert _notes(events, {"d"}) == {}
