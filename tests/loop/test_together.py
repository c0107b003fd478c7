"""Answers of one model are one stream, and grading goes on where it was killed: real processes, real SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import api
from harness.loop.clock import shared

from .conftest import Instant, Make

SHARD = 8
EXPERIMENT = """
experiment: fake
models: {student: pocket/base, judge: {path: pocket/chat, prompts: general}}
data: {pool: {use: pocket/defects, options: {rows: 8}}}
suites:
  - {use: pocket, count: 12, dev_count: 8}
  - {use: pocket, name: again, count: 20}
recipes: [{recipe: pick, steps: [{score: length}, {select: top, by: length, keep: 50%}]}]
"""


@dataclass
class Folder:
    """One home, and what was asked of the model in it."""

    path: Path

    def run(self, kill: str | None = None) -> int:
        self.path.mkdir(exist_ok=True)
        (self.path / "fake.yaml").write_text(EXPERIMENT)
        changes = {"LOOPBENCH_HOME": str(self.path), "LOOPBENCH_SHARD": str(SHARD)} | (
            {"KILL_AT": kill} if kill else {}
        )
        script, file = Path(__file__).with_name("fake_run.py"), self.path / "fake.yaml"
        command = [sys.executable, str(script), str(file), str(self.path / "log")]
        done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, timeout=300)
        self.output = done.stdout + done.stderr
        return done.returncode

    def asked(self) -> Counter[str]:
        return Counter((self.path / "log").read_text().split())

    def files(self) -> dict[str, dict[str, str]]:
        found = sorted((self.path / "store").glob("*/*/manifest.json"))
        return {path.parent.name: json.loads(path.read_text())["files"] for path in found}

    def finished(self) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in (self.path / "journal" / "fake.jsonl").read_text().splitlines()]
        return [event for event in events if event["event"] == "stage_finished"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run that nobody disturbed."""
    folder = Folder(tmp_path_factory.mktemp("whole"))
    assert folder.run() == 0, folder.output
    return folder


def test_one_model_is_opened_once_for_all_suites(whole: Folder) -> None:
    answers = [event for event in whole.finished() if event["action"] == "answer"]
    assert len(answers) == 2
    assert [event["together"] for event in answers] == [2, 2]
    assert sum(event["opened"] for event in answers) == 1
    items = sum(event["rows"] for event in answers)
    assert sum(event["cost"]["generated_tokens"] for event in answers) >= 2 * items


def test_each_turn_is_asked_once_and_judged_once(whole: Folder) -> None:
    grades = [event for event in whole.finished() if event["action"] == "grade"]
    assert len(grades) == 2
    assert whole.asked().total() == 2 * sum(event["rows"] for event in grades)
    assert all(event["cost"]["judged_tokens"] > 0 for event in grades)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "point",
    [
        "answers/.*/shards/ 2",  # of a shard that two suites share, one has kept its part
        pytest.param("answers/.*/shards/ 5", marks=SLOW),
        pytest.param("answers/.*/manifest.json 1", marks=SLOW),  # one of the two is ready to be finished
        "answers/[0-9a-f]{64}$ 1",  # one of the two is finished
        "grades/.*/shards/ 1",
        pytest.param("grades/.*/shards/ 3", marks=SLOW),
        pytest.param("grades/.*/manifest.json 1", marks=SLOW),
        pytest.param("grades/[0-9a-f]{64}$ 1", marks=SLOW),
    ],
)
def test_killed_and_run_again_gives_the_same_bytes(point: str, whole: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "home")
    assert folder.run(kill=point) == -signal.SIGKILL, folder.output
    assert folder.run() == 0, folder.output
    assert folder.files() == whole.files()
    twice = sum(folder.asked().values()) - sum(whole.asked().values())
    assert 0 <= twice <= 2 * SHARD, "more than the shard in flight (of two turns per item) was asked again"


def test_the_coordinator_sends_answers_of_one_model_together(make: Make, tmp_path: Path) -> None:
    from harness.loop.run import run
    from harness.store.home import Home

    magpie = """
recipe: magpie
loop: {iterations: 2}
steps:
  - {synthesize: magpie, model: teacher, rows: 8, focus: feedback}
  - {finetune: sft}
"""
    executor = Instant()
    run(make(magpie), Home(tmp_path / "home"), workers=1, executor=executor)
    several = [labels for labels in executor.sent if len(labels) > 1]
    assert several == [["answer magpie s0 i1 on pocket dev", "answer magpie s0 i1 on pocket test"]]


def test_one_suites_mistake_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of both suites fails; tried one by one, the sound one is done and the other says why."""
    from harness.errors import UserError
    from harness.evaluate.pocket import Pocket
    from harness.loop.run import run
    from harness.store.home import Home

    from .fake_run import Here

    answer = Pocket.answer

    def faulty(self: Pocket, item: Any, context: Any) -> Any:
        if self.count == 6:
            raise UserError("this suite cannot be asked")
        return answer(self, item, context)

    monkeypatch.setattr(Pocket, "answer", faulty)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=lambda count: None))
    (tmp_path / "fake.yaml").write_text(EXPERIMENT.replace("again", "faulty").replace("20", "6").replace("12", "8"))
    plan = api.plan(str(tmp_path / "fake.yaml"))
    outcome = run(plan, Home(tmp_path / "home"), workers=1, executor=Here(tmp_path / "log"))
    failed = {plan.stages[key].label: why for key, why in outcome.failed.items()}
    assert failed == {"answer untuned student on faulty test": "this suite cannot be asked"}
    assert "grade untuned student on pocket test" in {plan.stages[key].label for key in outcome.done}
    assert [plan.stages[key].label for key in outcome.blocked] == ["grade untuned student on faulty test"]


def test_common_time_is_divided_without_loss() -> None:
    report = {"wall": 10.0, "cpu": 5.0, "import": 2.0, "open": 1.0, "engine": 6.0, "other": 1.0}
    parts = shared(report, [1, 3])
    assert [part["engine"] for part in parts] == [1.5, 4.5]
    assert ["open" in part for part in parts] == [True, False], "who came first caused it"
    assert [part["wall"] for part in parts] == [3 + 7 / 4, 7 * 3 / 4]
    assert sum(part["cpu"] for part in parts) == 5


def test_flags_are_in_the_tags_before_the_summary(whole: Folder) -> None:
    """The made-up model's answers hold a verdict; that is flagged, and no grade changes."""
    import pandas as pd

    grades = pd.concat(pd.read_parquet(path) for path in (whole.path / "store" / "grades").glob("*/grades.parquet"))
    flags = {json.loads(tags).get("flag") for tags in grades["tags"]}
    assert all("verdict token" in str(names) for names in flags)
    assert grades["value.score"].notna().all()
