"""What a calibration tells of tokens, memory and matrix products, and that forecasts take it before rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engines import open_engine
from harness.engines.base import ModelSpec
from harness.engines.open import OpenEngine
from harness.loop import calibrate, measure, memory, tokens, worker
from harness.loop.forecast import Line, forecast
from harness.loop.measure import Target
from harness.loop.plan import Plan
from harness.loop.rates import Rates, calibration_file, model_of_stage, product_of, signature, work_of
from harness.loop.stage import Binding, Stage
from harness.pocket import model_path
from harness.records.example import Example
from harness.store.home import Home
from harness.store.journal import Journal

from .conftest import Make

PICK = """
recipe: pick
loop: {iterations: 1}
steps:
  - {score: ifd, model: student}
  - {select: top, by: ifd, keep: 50%}
  - {finetune: sft}
"""
WRITE = """
recipe: write
loop: {iterations: 1}
steps:
  - {synthesize: respond, model: teacher, from: pool, max_tokens: 40}
  - {finetune: sft}
"""


def stage_of(plan: Plan, action: str, tuned: bool = False) -> Stage:
    return next(s for s in plan.stages.values() if s.action == action and (" tuned" in work_of(s)) == tuned)


def model_of(plan: Plan, stage: Stage) -> Binding:
    found = model_of_stage(stage, plan.stages)
    assert found is not None
    return found


def rows_of(plan: Plan) -> tuple[Example, ...]:
    return calibrate._rows(plan)


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenEngine]:
    opened = open_engine(ModelSpec(name="s", path=model_path("pocket/chat"), revision="r", device="cpu"))
    yield opened
    opened.close()


def test_each_block_that_asks_a_model_is_tried_once_with_it(make: Make) -> None:
    plan = make(PICK, WRITE)
    works = {t.spec.name: sorted(work_of(s) for s in t.stages) for t in calibrate.targets_of(plan)}
    assert works == {
        "pocket/base": ["answer pocket", "answer pocket tuned", "finetune sft", "score ifd"],
        "pocket/chat": ["synthesize respond"],
    }


def test_tokens_of_a_row_are_those_that_the_plans_own_block_asks_for(make: Make, engine: OpenEngine) -> None:
    """IFD reads a conversation, and its answer alone: not the tokens of a row, nor twice as many."""
    plan = make(PICK)
    rows = rows_of(plan)[: tokens.TRIED]
    chat: Any = engine.chat
    whole = fmean(len(chat.render(row.messages)) for row in rows)
    each = tokens.tokens_per_row(stage_of(plan, "score"), engine, rows)
    assert whole < each < 2 * whole


def test_answers_are_as_long_as_they_were_written_and_a_tuned_models_as_the_rows(
    make: Make, engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make(WRITE)
    rows = rows_of(plan)[: tokens.TRIED]
    written = tokens.tokens_per_row(stage_of(plan, "synthesize"), engine, rows)
    untuned = tokens.tokens_per_row(stage_of(plan, "answer"), engine, rows)
    assert 1 < written <= 40
    assert untuned > 1
    monkeypatch.setattr(tokens, "LONGEST", 3)
    cut = [tokens.tokens_per_row(stage_of(plan, action), engine, rows) for action in ("synthesize", "answer")]
    assert all(1 <= each <= 3 for each in cut), "no answer is waited for longer than that"
    monkeypatch.setattr(engine, "generate", None)  # the tuned model is not there, and another one is not asked for it
    tuned = tokens.tokens_per_row(stage_of(plan, "answer", tuned=True), engine, rows)
    said = [row.messages[-1]["content"] for row in rows]
    assert tuned == pytest.approx(fmean(len(engine.chat.encode(text)) + 1 for text in said), rel=0.5)


def test_a_model_is_measured_with_tokens_and_memory(make: Make) -> None:
    plan = make(PICK)
    target = next(t for t in calibrate.targets_of(plan) if t.spec.name == "pocket/base")
    few = Target(target.name, target.spec, None, target.rows[:12], target.stages)
    found = {(one.quantity, one.name): one.value for one in measure.measure(few, 1)}
    kinds = {"generate", "score"}
    assert {name for what, name in found if what == "models"} == kinds
    assert {name for what, name in found if what == "memory"} == kinds
    assert {name for what, name in found if what == "tokens"} == kinds | {
        "answer pocket",
        "answer pocket tuned",
        "score ifd",
    }
    assert found["memory", "score"] > 100 * 2**20, "a process with PyTorch"


def calibrated(home: Home, plan: Plan, **quantities: dict[str, float]) -> None:
    name = signature(model_of(plan, stage_of(plan, "finetune")))
    found = {quantity: {name: values} for quantity, values in quantities.items()}
    calibration_file(home.prepare()).write_text(json.dumps(found))


def by_action(plan: Plan, home: Home) -> dict[str, Line]:
    return {line.action: line for line in forecast(plan, home).stages}


def test_forecasts_take_tokens_and_memory_of_calibration_before_rules_and_after_history(
    make: Make, tmp_path: Path
) -> None:
    """A rule for tokens that is wrong by ten makes seconds wrong by ten, however well the speed was measured."""
    plan, home = make(PICK), Home(tmp_path / "home")
    line = by_action(plan, home)["finetune"]
    assert (line.tokens, line.tokens_basis, line.memory_basis) == (16 * 60, "rule", "rule")
    rates = {"train": 100.0, "score": 100.0}
    calibrated(home, plan, models=rates, tokens={"train": 600.0, "score": 33.0, "score ifd": 50.0}, memory={"train": 7})
    lines = by_action(plan, home)
    line = lines["finetune"]
    assert (line.tokens, line.tokens_basis) == (16 * 600, "calibration")
    assert line.seconds == pytest.approx(96, rel=0.05)
    assert (line.memory, line.memory_basis) == (7, "calibration")
    assert lines["score"].tokens == 32 * 50, "what the block itself took comes before other work of its kind"
    assert lines["score"].memory_basis == "rule", "memory of another kind of work says nothing"
    model = signature(model_of(plan, stage_of(plan, "finetune")))
    with Journal(home.journal_file("other")) as journal:
        about = {"action": "finetune", "block": "sft", "rows": 10, "epochs": 1.0, "model": model}
        journal.write("stage_finished", **about, timing={"wall": 2.0}, cost={"train_tokens": 700}, memory=123)
    line = by_action(plan, home)["finetune"]
    assert (line.tokens, line.tokens_basis, line.memory, line.memory_basis) == (16 * 70, "history", 123, "history")


def test_another_models_history_comes_after_this_models_calibration(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK), Home(tmp_path / "home")
    calibrated(home, plan, tokens={"train": 20.0})
    with Journal(home.journal_file("other")) as journal:
        about = {"action": "finetune", "block": "sft", "rows": 10, "epochs": 1.0, "model": "another"}
        journal.write("stage_finished", **about, timing={"wall": 2.0}, cost={"train_tokens": 700})
    assert by_action(plan, home)["finetune"].tokens == 16 * 20
    calibration_file(home).unlink()
    assert by_action(plan, home)["finetune"].tokens == 16 * 70


def test_the_list_of_stages_says_where_each_number_comes_from(make: Make, tmp_path: Path) -> None:
    from harness.cli.plan import _listed

    plan, home = make(PICK), Home(tmp_path / "home")
    calibrated(home, plan, tokens={"train": 20.0}, memory={"train": 2**30})
    said = _listed(by_action(plan, home)["finetune"])
    assert "s by rule, 320 tokens by calibration, 1.0 GiB by calibration)" in said


def test_matrix_products_are_of_the_models_number_format_and_large_on_a_gpu(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    made: list[tuple[int, str, torch.dtype]] = []

    def randn(rows: int, columns: int, *, device: str, dtype: torch.dtype) -> torch.Tensor:
        made.append((rows, device, dtype))
        return torch.ones(2, 2, dtype=dtype)

    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for kind in ("cuda bfloat16", "cpu float32"):
        assert measure._product_rate(1, kind) > 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    measure._product_rate(1, "cuda float16")
    assert made == [
        (8192, "cuda", torch.bfloat16),
        (1024, "cpu", torch.float32),
        (1024, "cpu", torch.float16),
    ]
    spec = ModelSpec(name="m", dtype="bfloat16", device="cuda:1")
    assert product_of(spec) == "cuda bfloat16"
    home = Home(tmp_path / "home").prepare()
    usual = Rates(home).machine(spec, "train")
    calibration_file(home).write_text(json.dumps({"machine": {"flops": {"cuda float32": 1e12}}}))
    assert Rates(home).machine(spec, "train") == usual, "another format's product says nothing of this one's"
    calibration_file(home).write_text(json.dumps({"machine": {"flops": {"cuda bfloat16": 1e15}}}))
    assert Rates(home).machine(spec, "train") == pytest.approx(4e14)


def test_a_workers_stage_tells_no_memory_where_a_gpu_holds_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[int, ...], bool]] = []
    monkeypatch.setattr(memory, "peak", lambda others, gpu: asked.append((others, gpu)))
    for build, pids in (("gpu", (5,)), ("cpu", (5,)), ("gpu", ())):
        monkeypatch.setattr(worker, "build", lambda build=build: build)
        worker._peak(SimpleNamespace(processes=lambda pids=pids: pids))  # type: ignore[arg-type]
    assert asked == [((5,), True), ((5,), False), ((), False)]


def test_a_calibration_file_of_another_form_counts_as_none(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    calibration_file(home).write_text("[1, 2]")
    assert Rates(home).calibrated == {}
