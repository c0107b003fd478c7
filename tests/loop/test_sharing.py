"""One score stage over several workers: the same bytes, whoever made a shard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.config.model import Dataset
from harness.engines.base import ModelSpec
from harness.loop import scorework
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.job import SHARD, Job
from harness.loop.shards import Claims, resumable_parts, share_parts
from harness.loop.sharing import WORTH, Sharing, shareable
from harness.loop.stage import Binding, Input, Stage
from harness.loop.work import run
from harness.pocket import model_path
from harness.select.ifd import Ifd
from harness.select.length import Length
from harness.store.artifacts import Store
from harness.store.home import Home
from harness.store.locks import held, lease

ROWS = 20
SPEC = ModelSpec(name="student", path=model_path("pocket/base"), revision="base", device="cpu")


def score(rows: int = ROWS, spec: ModelSpec = SPEC) -> Stage:
    block = Ifd()
    source = Input(key=f"{rows} rows", kind="data")
    return Stage(
        action="score", label="ifd", block=block, inputs=(source,), models={"student": Binding(spec=spec)},
        roles=block.roles(),
    )  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    """A job that scores a pool in shards of 4 rows, in a home of its own."""
    monkeypatch.setattr(scorework, "SHARD", 4)
    rows = [
        {"instruction": f"Say {n}", "input": "", "output": "The number is " + "one " * n} for n in range(1, ROWS + 1)
    ]
    (tmp_path / "pool.json").write_text(json.dumps(rows))

    def make(name: str) -> Job:
        store = Store(Home(tmp_path / name).prepare())
        pool = Dataset(name="pool", path=str(tmp_path / "pool.json"), format="alpaca")
        source = Stage(action="source", label="data", data=pool, fingerprint={"data": "pool"})
        engines = Engines(store, 1)
        done(Job(source, store, engines, Timer(), lambda done, total: None))
        stage = score()
        stage = Stage(**vars_of(stage) | {"inputs": (Input(key=source.key, kind="data"),)})
        return Job(stage, store, engines, Timer(), lambda done, total: None)

    return make


def vars_of(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in ("action", "label", "block", "models", "roles")}


def at_work(job: Job) -> AbstractContextManager[None]:
    """The lease that the stage's own worker holds."""
    return lease(job.store.home.locks, job.stage.key, job.stage.label)


def done(job: Job) -> dict[str, Any]:
    keep, result = run(job)
    return job.store.commit(job.stage.kind, job.stage.key, keep, result)


def test_shards_that_others_made_give_the_same_artifact(job: Callable[[str], Job]) -> None:
    alone, helped = job("alone"), job("helped")
    whole = done(alone)
    helper = Job(helped.stage, helped.store, helped.engines, Timer(), lambda done, total: None)
    with at_work(helped):
        assert scorework.help_score(helper) == ROWS // 4
    opened = helped.engines.opened
    helped.engines.close()
    made = done(helped)
    assert made["files"] == whole["files"]
    assert made["cost"] == whole["cost"], "what helpers spent is the stage's"
    assert "share" not in whole
    assert made["share"] == 0, "its times are those of no shard"
    assert helped.engines.opened == opened, "the stage's own worker did not even open the model"


def test_who_helps_stops_within_its_shard_when_the_stages_worker_fails(
    job: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That worker lets its lease go; what the helper had begun leaves nothing, and another try has the same result."""
    monkeypatch.setattr(scorework, "LOOK", 0.0)
    alone, left = job("alone"), job("left")
    whole, helper = done(alone), Job(left.stage, left.store, left.engines, Timer(), lambda done, total: None)
    given = 0

    class Failing:
        """The model; while it gives its third result of the second shard, the stage's worker fails."""

        def __init__(self, engine: Any) -> None:
            self.chat, self.context, self._engine = engine.chat, engine.context, engine

        def logprobs(self, requests: Sequence[Any]) -> Iterator[Any]:
            nonlocal given
            for result in self._engine.logprobs(requests):
                given += 1
                if given == len(requests) + 3:
                    worker.close()
                yield result

    get = left.engines.get
    monkeypatch.setattr(left.engines, "get", lambda binding, timer: Failing(get(binding, timer)))
    with ExitStack() as worker:
        worker.enter_context(at_work(left))
        assert scorework.help_score(helper) == 1
    assert given == 8 + 3, "two scores for each row of the first shard, and no more than three of the second"
    assert [path.name for path in left.shards.iterdir()] == ["columns-512-00000.json"]
    assert scorework.help_score(helper) == 0, "nobody is at the stage"
    monkeypatch.undo()
    monkeypatch.setattr(scorework, "SHARD", 4)
    again = done(left)
    assert (again["files"], again["cost"]) == (whole["files"], whole["cost"])


def test_a_lease_is_held_until_its_process_lets_it_go_or_dies(tmp_path: Path) -> None:
    assert not held(tmp_path, "stage")
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        with lease(tmp_path, "stage", "a stage"):
            os.write(ready[1], b"y")
            time.sleep(600)
        os._exit(1)
    os.read(ready[0], 1)
    assert held(tmp_path, "stage")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not held(tmp_path, "stage")
    with lease(tmp_path, "stage", "a stage"):
        assert held(tmp_path, "stage")
    assert not held(tmp_path, "stage")


def test_who_helps_a_finished_stage_does_nothing_and_leaves_nothing(job: Callable[[str], Job]) -> None:
    late = job("late")
    done(late)
    assert scorework.help_score(late) == 0
    assert not list(late.store.home.store.glob("*/*.work"))


def test_progress_counts_every_row_once(job: Callable[[str], Job]) -> None:
    told: list[tuple[int, int]] = []
    one = job("one")
    one.progress = lambda done, total: told.append((done, total))
    done(one)
    assert told == [(rows, ROWS) for rows in range(0, ROWS + 1, 4)]


PARTS = [["a", "b"], ["c", "d"], ["e"]]


def upper(part: Sequence[str]) -> dict[str, Any]:
    return {"made": [one.upper() for one in part], "by": os.getpid()}


def test_a_shard_in_other_hands_is_passed_by_and_waited_for_later(tmp_path: Path) -> None:
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # holds shard 1 until it is told to do it
        claims = Claims(tmp_path / "claims")
        with claims.free(1) as mine:
            os.write(ready[1], b"y" if mine else b"n")
            os.read(go[0], 1)
            time.sleep(0.2)
            (tmp_path / "p-00001.json").write_text(json.dumps(upper(PARTS[1])))
        os._exit(0)
    assert os.read(ready[0], 1) == b"y"
    claims, told = Claims(tmp_path / "claims"), list[int]()
    assert share_parts(PARTS, tmp_path, "p", upper, claims, lambda: False, told.append) == 2
    assert told == [2, 1]
    os.write(go[1], b"g")
    found = [result for _, result in resumable_parts(PARTS, 5, tmp_path, "p", upper, claims=claims)]
    os.waitpid(child, 0)
    assert [one for result in found for one in result["made"]] == list("ABCDE")
    assert [result["by"] == child for result in found] == [False, True, False]


def test_a_shard_whose_worker_died_is_free_at_once(tmp_path: Path) -> None:
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        with Claims(tmp_path / "claims").free(0):
            os.write(ready[1], b"y")
            os._exit(1)
    os.read(ready[0], 1)
    os.waitpid(child, 0)
    claims = Claims(tmp_path / "claims")
    assert share_parts(PARTS, tmp_path, "p", upper, claims, lambda: False) == 3


def test_only_scores_of_models_on_this_machine_are_shared() -> None:
    served = ModelSpec(name="far", engine="openai", options={"url": "http://x/v1"})
    assert shareable(score())
    assert not shareable(score(spec=served))
    assert not shareable(Stage(action="score", label="length", block=Length()))
    assert not shareable(Stage(action="select", label="ifd", block=Ifd(), models={"student": Binding(spec=SPEC)}))


def test_help_goes_where_most_is_left_and_only_where_it_is_worth_while() -> None:
    small, large, sharing = score(1), score(2), Sharing()
    assert sharing.next([small, large]) is None, "nobody told how much there is"
    sharing.progress(small, 0, 4 * WORTH * SHARD)
    sharing.progress(large, 0, 9 * WORTH * SHARD)
    sent = [sharing.next([small, large]) for _ in range(12)]
    assert sent[0] is large
    assert [sum(stage is one for stage in sent) for one in (large, small, None)] == [8, 3, 1]
    assert sent[-1] is None
    sharing.progress(large, 9 * WORTH * SHARD - 1, 9 * WORTH * SHARD)
    assert sharing.next([large]) is None, "hardly anything is left"
    assert sharing.next([]) is None


EXPERIMENT = """
experiment: shared
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/defects, options: {rows: 400}}}
suites: [{use: pocket, count: 8, dev_count: 8}]
baseline: few
train: {learning_rate: 1e-3, epochs: 1}
recipes:
  - recipe: few
    steps:
      - {score: ifd, model: student}
      - {select: top, by: ifd, keep: 8}
      - {finetune: sft}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_score_one_stage_and_leave_the_bytes_of_one(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text(EXPERIMENT)
    found, helped = {}, {}
    for workers in ("1", "2"):
        home = tmp_path / workers
        environment = os.environ | {"LOOPBENCH_HOME": str(home), "HF_HUB_OFFLINE": "1", "LOOPBENCH_SHARD": "4"}
        command = [sys.executable, "-m", "harness", "run", str(tmp_path / "shared.yaml"), "--no-tracking", "--workers"]
        done = subprocess.run([*command, workers], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        events = [json.loads(line) for line in (home / "journal" / "shared.jsonl").read_text().splitlines()]
        (score,) = (e["key"] for e in events if e["event"] == "stage_finished" and e["action"] == "score")
        found[workers] = json.loads((home / "store" / "rows" / score / "manifest.json").read_text())
        helped[workers] = [e for e in events if e["event"] == "stage_helped"]
    assert found["1"]["files"] == found["2"]["files"]
    assert found["1"]["cost"] == found["2"]["cost"]
    assert not helped["1"]
    assert sum(e["shards"] for e in helped["2"]) > 0
    assert not any(e["why"] for e in helped["2"])
