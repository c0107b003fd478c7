"""Which engine runs what in a plan: carried over by trainings, told where it was chosen, refused where it cannot."""

from __future__ import annotations

import json
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness import api
from harness.cli.main import main
from harness.engines import auto
from harness.engines.auto import Choice
from harness.errors import UserError
from harness.loop.desk import Engines
from harness.loop.engines import engines_of, reasons
from harness.store.artifacts import Store
from harness.store.home import Home

TEXT = """
experiment: engines
models:
  student: {student}
  judge: pocket/oracle
data: {{pool: {{use: pocket/defects, options: {{rows: 40}}}}}}
recipes:
  - recipe: one
    loop: {{iterations: 1}}
    steps: {steps}
suites: [{{suite: pocket, count: 20}}]
seeds: 1
"""
SFT = "[{finetune: sft}]"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def written(tmp_path: Path, student: str, steps: str = SFT) -> str:
    file = tmp_path / "engines.yaml"
    file.write_text(TEXT.format(student=student, steps=steps))
    return str(file)


def test_a_trained_model_runs_with_the_engine_of_its_start(tmp_path: Path) -> None:
    plan = api.plan(written(tmp_path, "{path: pocket/base, engine: vllm, dtype: bfloat16}"))
    answers = [s.models["model"].spec for s in plan.stages.values() if s.action == "answer"]
    assert {(spec.engine, spec.dtype) for spec in answers} == {("vllm", "bfloat16")}
    assert any(spec.path is None for spec in answers)  # the trained one


def test_the_engine_is_part_of_the_keys(tmp_path: Path) -> None:
    keys = []
    for student in ("pocket/base", "{path: pocket/base}", "{path: pocket/base, engine: vllm}"):
        plan = api.plan(written(tmp_path, student))
        keys.append({stage.key for stage in plan.stages.values() if stage.action == "answer"})
    assert keys[0] == keys[1]
    assert not keys[0] & keys[2]


def test_a_folder_without_an_engine_is_not_chosen_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.loop.models.choose", lambda path, device: pytest.fail("chose"))
    plan = api.plan(written(tmp_path, "{path: pocket/base}"))
    assert reasons(plan) == []


def test_auto_is_told_with_its_reason(tmp_path: Path) -> None:
    file = written(tmp_path, "{path: pocket/base, engine: auto}")
    found = engines_of(api.plan(file))["pocket/base"]
    assert found["engine"] == "transformers"
    assert found["why"].startswith("auto: ")
    said = CliRunner().invoke(main, ["plan", file])
    assert f"engine of pocket/base: transformers ({found['why']})" in said.output.replace("\n", " ")
    document = json.loads(CliRunner().invoke(main, ["plan", file, "--json"]).output)
    assert document["engines"]["pocket/base"] == found


def test_auto_may_choose_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.loop.models.choose", lambda path, device: Choice("vllm", "auto: because"))
    plan = api.plan(written(tmp_path, "{path: pocket/base, engine: auto}"))
    found = {
        (b.spec.engine, b.spec.why) for s in plan.stages.values() for b in s.models.values() if s.action == "answer"
    }
    assert found == {("vllm", "auto: because")}


def test_a_model_that_several_engines_run_is_told_with_each(tmp_path: Path) -> None:
    text = TEXT.format(student="pocket/base", steps="[{score: ifd, model: other}, {finetune: sft}]")
    file = tmp_path / "engines.yaml"
    file.write_text(text.replace("  judge:", "  other: {path: pocket/base, engine: vllm}\n  judge:"))
    found = engines_of(api.plan(str(file)))
    assert found["pocket/base (transformers, float32)"]["engine"] == "transformers"
    assert found["pocket/base (vllm, float32)"]["engine"] == "vllm"


def test_a_scratch_student_is_too_small_for_vllm() -> None:
    assert auto.choose(None, "auto").engine == "transformers"


def test_embeddings_from_vllm_are_refused_when_planning(tmp_path: Path) -> None:
    steps = "[{score: embed, model: student}, {finetune: sft}]"
    with pytest.raises(
        UserError, match=r"run by vLLM, which writes and scores texts only \(write `engine: transformers`"
    ):
        api.plan(written(tmp_path, "{path: pocket/base, engine: vllm}", steps))


@pytest.mark.parametrize(
    ("options", "message"),
    [("{max_model_length: 9}", "did you mean 'max_model_len'"), ("{max_model_len: 4096}", "a context of 512 tokens")],
)
def test_wrong_options_are_refused_when_planning(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        api.plan(written(tmp_path, f"{{path: pocket/base, engine: vllm, options: {options}}}"))


class Fake:
    """Stands for an open engine."""

    def __init__(self, spec: Any, **_: Any) -> None:
        self.spec, self.closed, self.chat = spec, False, None

    def close(self) -> None:
        self.closed = True


def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: list[str]) -> tuple[Engines, list[int]]:
    told: list[int] = []

    def opened(spec: Any, **settings: Any) -> Fake:
        told.append(settings["models"])
        return Fake(spec)

    monkeypatch.setattr("harness.engines.open_engine", opened)
    monkeypatch.setattr("harness.loop.desk.visible_devices", lambda: devices)
    return Engines(Store(Home(tmp_path / "home").prepare()), threads=1), told


def binding(name: str, engine: Any) -> Any:
    from harness.engines.base import ModelSpec
    from harness.loop.stage import Binding

    return Binding(spec=ModelSpec(name=name, engine=engine, path=Path(name), revision=name))


def test_vllm_has_a_gpu_alone_but_for_what_its_stage_asks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.loop.clock import Timer

    desk, told = engines(tmp_path, monkeypatch, ["0"])
    one = desk.get(binding("a", "vllm"), Timer())
    two = desk.get(binding("b", "transformers"), Timer())
    assert one.closed  # type: ignore[attr-defined]
    desk.need = 2
    three = desk.get(binding("a", "vllm"), Timer())
    assert not two.closed  # type: ignore[attr-defined]
    assert told == [1, 1, 2]  # the last one takes half of the device
    desk.free()
    assert three.closed  # type: ignore[attr-defined]
    assert not two.closed  # type: ignore[attr-defined]
    desk.free(everything=True)
    assert two.closed  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_a_model_that_took_a_whole_gpu_makes_room_for_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """The stage before asked one model; this one asks two, and half of the device each is all that there is."""
    from harness.loop.clock import Timer

    desk, told = engines(tmp_path, monkeypatch, ["0"])
    whole = desk.get(binding("a", engine), Timer())
    desk.need = 2
    half = desk.get(binding("b", engine), Timer())
    assert whole.closed  # type: ignore[attr-defined]
    again = desk.get(binding("a", engine), Timer())
    assert again is not whole
    assert not half.closed  # type: ignore[attr-defined]
    assert told == [1, 2, 2]


def test_on_a_cpu_two_models_stay_open_and_a_training_ends_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.loop.clock import Timer

    desk, _ = engines(tmp_path, monkeypatch, [])
    one = desk.get(binding("a", "vllm"), Timer())
    two = desk.get(binding("b", "transformers"), Timer())
    assert desk.get(binding("a", "vllm"), Timer()) is one
    desk.free()
    assert one.closed  # type: ignore[attr-defined]
    assert not two.closed  # type: ignore[attr-defined]


def test_devices_are_shared_evenly_among_workers() -> None:
    from harness.loop.executor import _share

    devices = ["0", "1", "2", "3"]
    assert [_share(devices, n, 2) for n in range(2)] == ["0,2", "1,3"]
    assert _share(devices, 0, 1) == "0,1,2,3"
    assert [_share(["0"], n, 2) for n in range(2)] == ["0", "0"]
    assert _share([], 0, 2) is None


def test_workers_know_how_many_have_their_device() -> None:
    from harness.loop.executor import _share, _sharers

    for devices, workers in ((["0"], 2), (["0", "1"], 3), (["0", "1", "2"], 7), (["0", "1"], 2), (["0", "1", "2"], 2)):
        shares = [_share(devices, n, workers) for n in range(workers)]
        assert [_sharers(devices, n, workers) for n in range(workers)] == [shares.count(share) for share in shares]
    assert [_sharers(["0", "1"], n, 3) for n in range(3)] == [2, 1, 2]
    assert _sharers([], 0, 2) == 1


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_workers_on_one_gpu_divide_it_and_a_stage_of_two_models_divides_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    from harness.loop import executor, worker
    from harness.loop.clock import Timer

    _, told = engines(tmp_path, monkeypatch, ["0"])
    monkeypatch.setattr(executor, "visible_devices", lambda: ["0"])
    made: list[Any] = []

    class Process:
        def __init__(self, target: Any, args: Any, name: str) -> None:
            made.append(args[1])

        def start(self) -> None: ...

    monkeypatch.setattr("harness.loop.forked.context", lambda threads: SimpleNamespace(Pipe=Pipe, Process=Process))
    executor.LocalExecutor(Home(tmp_path), workers=3)
    opened: list[Engines] = []

    def kept(*given: Any, **more: Any) -> Engines:
        opened.append(Engines(*given, **more))
        return opened[-1]

    monkeypatch.setattr(worker, "settle", lambda setup: None)
    monkeypatch.setattr(worker, "_next", lambda connection, life: None)
    monkeypatch.setattr(worker, "Engines", kept)
    for setup in made:
        worker.main(None, setup)  # type: ignore[arg-type]
    for desk in opened:
        desk.get(binding("a", engine), Timer())
    opened[0].need = 2
    opened[0].get(binding("b", engine), Timer())
    assert told == [3, 3, 3, 6]
