"""What a stage took of memory: its worker's, and that of the processes that its models run in."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from vllm_support import NEEDED, WHY, spec

from harness.blocks.training import TrainReport
from harness.engines import open_engine
from harness.engines.base import ModelSpec
from harness.loop import memory, modelwork, worker
from harness.loop.clock import Timer
from harness.loop.desk import Engines
from harness.loop.slices import Life
from harness.loop.stage import Binding
from harness.store.artifacts import Store
from harness.store.home import Home

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks")
MIB = 2**20
CHILD = "held = bytearray(b'x') * ({} << 20); held = None; print('done', flush=True); input()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD.format(64)!r}], stdin=subprocess.PIPE)
input()
child.communicate(b"end")
"""


def started(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"end\n", timeout=20)


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    process = started(CHILD.format(96))
    yield process
    if process.poll() is None:
        ended(process)


def test_processes_that_models_run_in_count_with_their_peaks(engine: subprocess.Popen[bytes]) -> None:
    """The model's memory is theirs, given back or not; the worker alone has next to nothing."""
    own, both = memory.peak(), memory.peak([engine.pid])
    assert own is not None
    assert both is not None
    assert both - own > 96 * MIB
    memory.forget_peak([engine.pid])
    after = memory.peak([engine.pid])
    assert after is not None
    assert both - after > 80 * MIB, "what it had before this stage does not count in it"


def test_what_such_a_process_started_counts_too() -> None:
    """A server's keeper holds nothing: its server and that one's engine do."""
    keeper = started(PARENT)
    try:
        own, family = memory.peak(), memory.peak([keeper.pid])
        assert own is not None
        assert family is not None
        assert family - own > 64 * MIB
    finally:
        ended(keeper)


def test_what_is_not_known_is_none(engine: subprocess.Popen[bytes]) -> None:
    assert memory.peak([engine.pid], gpu=True) is None, "a process's resident size says nothing of a GPU"
    ended(engine)
    assert memory.peak([engine.pid]) is None, "it has died, and its peak with it"


def test_a_stage_counts_the_processes_of_what_it_asks(tmp_path: Path) -> None:
    engines = Engines(Store(Home(tmp_path)), threads=1)
    bindings = [Binding(spec=ModelSpec(name=name, engine="vllm", revision=name)) for name in "abc"]
    shared = (11, 12)  # two adapters over one base
    for binding, pids in zip(bindings, (shared, shared, (13,)), strict=True):
        engines._open[name_of(binding)] = cast(Any, SimpleNamespace(pids=pids))
    assert engines.begin() == (11, 12, 13), "all of them forget their peaks"
    assert engines.processes() == ()
    for binding in bindings[:2]:
        engines.get(binding, Timer())
    assert engines.processes() == shared
    assert set(engines.begin()) == {11, 12, 13}
    assert engines.processes() == (), "a stage that asks nothing, as a grade by an oracle"


def name_of(binding: Binding) -> str:
    """How the worker knows an open engine."""
    model = binding.spec
    return f"vllm:{model.revision}:{model.dtype}:{model.path}:[]"


@pytest.mark.parametrize(("devices", "told"), [(1, {}), (2, {"memory": None})])
def test_a_training_in_processes_of_its_own_tells_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, told: dict[str, Any]
) -> None:
    """The worker only waits for them: its own size would say that a training of 70B parameters takes half a GiB."""
    report = TrainReport(rows=3, steps=1, train_tokens=9, loss_tokens=4, first_loss=None, last_loss=None)
    model = ModelSpec(name="m", path=tmp_path, device="cpu")
    stage = SimpleNamespace(
        block=SimpleNamespace(devices=devices, train=lambda rows, context: report),
        models={"student": Binding(spec=model)},
        roles={"start": "student"},
        seed=0,
        label="sft",
    )
    job: Any = SimpleNamespace(
        stage=stage,
        store=None,
        engines=SimpleNamespace(free=lambda everything: None),
        timer=lambda name: nullcontext(),
        folder=tmp_path,
        threads=1,
        rows=list,
        cost={},
        share=1.0,
    )
    result = modelwork.finetune(job)
    assert {name: value for name, value in result.items() if name == "memory"} == told


def test_a_stage_that_fails_gives_back_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model hangs in a circle, and its frames in the error: a vLLM process that is opened next needs the room."""
    held: list[weakref.ref[Any]] = []
    gone: list[bool] = []
    sent: list[Any] = []

    def fails(*given: Any) -> None:
        model: Any = type("Model", (), {})()
        model.itself = model
        held.append(weakref.ref(model))
        raise ValueError("out of memory")

    def gives_back() -> None:
        gc.collect()
        gone.append(held[0]() is None)

    monkeypatch.setattr(worker, "_work", fails)
    monkeypatch.setattr(memory, "give_back", gives_back)
    about: dict[str, Any] = {"action": "finetune", "name": "sft", "label": "sft"}
    bound = {"start": Binding(spec=ModelSpec(name="m", path=tmp_path))}
    stages: Any = [SimpleNamespace(key=key, models=bound, **about) for key in "ab"]
    connection: Any = SimpleNamespace(send=sent.append)
    unused: Any = None
    with Life(None, "worker")() as life:
        for some, again, told in ((stages[:1], [], ["a"]), (stages, [(one,) for one in stages], [])):
            held.clear()
            sent.clear()
            assert worker._attempt(connection, some, unused, unused, unused, life) == again
            assert [message[:3] for message in sent] == [("failed", key, "bug") for key in told]
    assert gone == [True, True]


@pytest.mark.slow
@pytest.mark.skipif(not NEEDED, reason=WHY)
def test_vllms_own_process_holds_the_model() -> None:
    engine: Any = open_engine(spec("chat", kv_cache_memory_bytes=2**26))
    try:
        own, both = memory.peak(), memory.peak(engine.pids)
        assert own is not None
        assert both is not None
        assert both - own > 256 * MIB, "PyTorch and vLLM are imported there"
    finally:
        engine.close()
