"""Forecasts: the order of their sources, sizes from config.json, and how far off they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engines.base import ModelSpec
from harness.loop import foretold, rates
from harness.loop.forecast import Forecast, Line, forecast
from harness.loop.learned import cost
from harness.loop.rates import calibration_file, model_of_stage, signature
from harness.loop.run import run
from harness.loop.sizes import from_config, sizes_of
from harness.store.home import Home
from harness.store.journal import Journal

from .conftest import Instant, Make

PICK = """
recipe: pick
loop: {iterations: 2}
steps:
  - {score: ifd, model: student}
  - {select: top, by: ifd, keep: 50%}
  - {finetune: sft}
"""
LLAMA_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "hidden_act": "silu", "tie_word_embeddings": False, "dtype": "float16",
}  # fmt: skip
LLAMA3_8B = LLAMA_7B | {
    "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8, "dtype": "bfloat16"
}  # fmt: skip
GPT2 = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "dtype": "float32"}


@pytest.mark.parametrize(("config", "count"), [(LLAMA_7B, 6.74e9), (LLAMA3_8B, 8.03e9), (GPT2, 124e6)])
def test_parameters_follow_from_the_configuration(config: dict[str, object], count: float) -> None:
    """Published: Llama 2 7B 6,738,415,616; Llama 3 8B 8,030,261,248; GPT-2 124,439,808."""
    assert from_config(config).parameters == pytest.approx(count, rel=0.01)


def test_memory_of_a_full_training_is_weights_gradients_and_moments_and_more() -> None:
    size = from_config(LLAMA3_8B)
    assert size.training(0) == pytest.approx(8.03e9 * (2 + 2 + 8), rel=0.01)
    assert size.training(2048) > size.training(0)
    assert size.training(2048, recompute=True) < size.training(2048)
    assert size.training(0, adapters=True) == pytest.approx(2 * 8.03e9, rel=0.01)
    cache = size.generating(1024, rows=64) - size.generating(0, rows=64)
    assert cache == 64 * 1024 * 2 * 32 * 8 * 128 * 2, "keys and values of 32 layers, 8 heads of 128, two bytes"


def test_a_folder_without_a_known_configuration_has_no_sizes(tmp_path: Path) -> None:
    spec = ModelSpec(name="m", engine="transformers", path=tmp_path, revision="r", dtype="auto", device="auto")
    assert sizes_of(spec) is None
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    assert sizes_of(spec) is None


def by_action(said: Forecast, action: str) -> Line:
    return next(line for line in said.stages if line.action == action)


def test_an_empty_home_forecasts_by_rules_and_says_so(make: Make, tmp_path: Path) -> None:
    said = forecast(make(PICK), Home(tmp_path / "home"), workers=1)
    assert "from rules, not from measurements" in said.basis
    tuned = by_action(said, "finetune")
    assert tuned.basis == "rule"
    assert tuned.rows == 8, "half of one of two slices of 32 rows"
    assert tuned.tokens == 8 * 60
    assert tuned.seconds > 0
    assert tuned.memory is not None
    assert said.wall == pytest.approx(sum(line.seconds for line in said.stages))
    json.dumps(said.to_json())


def test_a_budget_says_what_is_trained_whatever_the_rows(make: Make, tmp_path: Path) -> None:
    """Also where their number cannot be known, as with the rows that a taxonomy's documents give."""
    home = Home(tmp_path / "home")
    said = forecast(make(PICK, overrides=("budget={train_tokens: 50000}",)), home, workers=1)
    trained = [line.tokens for line in said.stages if line.action == "finetune"]
    assert set(trained) == {25_000}, "two trainings of a cell share it"


def test_a_calibration_comes_before_rules_and_history_before_both(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK), Home(tmp_path / "home").prepare()
    stage = next(s for s in plan.stages.values() if s.action == "finetune")
    model = model_of_stage(stage, plan.stages)
    assert model is not None
    later = [s for s in plan.stages.values() if s.action == "finetune"][-1]
    found = model_of_stage(later, plan.stages)
    assert found is not None
    assert signature(found) == signature(model), "a tuned model has the speed of what it was tuned from"
    calibration_file(home).write_text(json.dumps({"models": {signature(model): {"train": 100.0}}}))
    measured = by_action(forecast(plan, home), "finetune")
    assert measured.basis == "calibration"
    assert measured.seconds == pytest.approx(480 / 100, rel=0.2)
    with Journal(home.journal_file("other")) as journal:
        timing = {"wall": 21.0, "import": 1.0, "trainer": 18.0}
        about = {"action": "finetune", "block": "sft", "rows": 10, "epochs": 1.0, "model": signature(model)}
        journal.write("stage_finished", **about, timing=timing, cost={"train_tokens": 700}, memory=123)
    known = by_action(forecast(plan, home), "finetune")
    assert (known.basis, known.tokens, known.memory) == ("history", 8 * 70, 123)
    assert known.seconds == pytest.approx(8 * 2.0)
    rate = rates.Rates(home).rate(model, "train", None)
    assert rate is not None
    assert rate.tokens_per_second == pytest.approx(700 / 18)
    assert rate.source == "history"


def finished(home: Home, model: str, tokens: int, seconds: float, rows: int = 8, **more: object) -> None:
    with Journal(home.journal_file("other")) as journal:
        about = {"action": "finetune", "block": "sft", "rows": rows, "epochs": 1.0, "model": model} | more
        timing = {"wall": seconds, "trainer": seconds}
        journal.write("stage_finished", **about, timing=timing, cost={"train_tokens": tokens})


def test_a_training_of_eight_rows_does_not_make_a_long_one_look_hundreds_of_times_longer(
    make: Make, tmp_path: Path
) -> None:
    """Its seconds are start-up; per row or token, 50,000 tokens would take a quarter of an hour here."""
    plan, home = make(PICK, overrides=("budget={train_tokens: 100000}",)), Home(tmp_path / "home").prepare()
    rule = by_action(forecast(plan, home), "finetune")
    model = model_of_stage(next(s for s in plan.stages.values() if s.action == "finetune"), plan.stages)
    assert model is not None
    finished(home, signature(model), tokens=480, seconds=8.0)
    said = by_action(forecast(plan, home), "finetune")
    assert (said.basis, said.tokens) == ("history", 50_000)
    assert rule.seconds < said.seconds < 8.0 + 2.1 * rule.seconds, "start-up once, and the work within what is known"
    rate = rates.Rates(home).rate(model, "train", sizes_of(model.spec))
    assert rate is not None
    assert rate.tokens_per_second > 480 / 8.0 * 10, "nor does it make other work on this model look as slow"


def test_stages_of_several_sizes_tell_start_up_from_work(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK, overrides=("budget={train_tokens: 100000}",)), Home(tmp_path / "home").prepare()
    model = model_of_stage(next(s for s in plan.stages.values() if s.action == "finetune"), plan.stages)
    assert model is not None
    for tokens in (480, 20_000, 40_000):
        finished(home, signature(model), tokens, 8.0 + tokens / 1000)
    finished(home, signature(model), 40_000, 400.0)  # once the machine was busy
    assert by_action(forecast(plan, home), "finetune").seconds == pytest.approx(58.0, rel=0.2)


def test_rows_that_a_budget_repeats_say_nothing_of_a_rows_tokens(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK, overrides=("budget={train_tokens: 50000}",)), Home(tmp_path / "home").prepare()
    stage = next(s for s in plan.stages.values() if s.action == "finetune")
    noted = foretold.noted(stage, plan.stages, None, {})
    assert noted["epochs"] is None
    finished(home, noted["model"], tokens=25_000, seconds=20.0, epochs=noted["epochs"])
    assert by_action(forecast(make(PICK), home), "finetune").tokens == 8 * 60


@pytest.mark.parametrize(
    ("points", "known", "size", "seconds"),
    [
        ([(100, 2.0)], None, 100, 2.0),
        ([(100, 2.0)], None, 10_000, 1.9 + 10.0),
        ([(100, 20.0)], None, 1000, 200.0),
        ([(480, 8.0)], 1e-4, 48_000, 8.0 + 2 * (4.8 - 0.048)),
        ([(48_000, 8.0)], 1e-4, 480_000, 80.0),
        ([(10, 5.0), (1000, 14.9)], 1e-2, 2000, 24.9),
        ([(1000, 9.0), (4000, 6.0)], 1e-3, 4000, 3.75 + 6.0),
    ],
)
def test_the_cost_that_finished_stages_show(
    points: list[tuple[float, float]], known: float | None, size: float, seconds: float
) -> None:
    """As measured; short by a millisecond per row; long per row; tiny by rules; large per token; a fit; noise."""
    assert cost(points, known).of(size) == pytest.approx(seconds)


def test_what_a_run_did_not_measure_has_no_forecast_error(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK), Home(tmp_path / "home")
    run(plan, home, workers=1, executor=Instant())
    events = [json.loads(line) for line in home.journal_file("small").read_text().splitlines()]
    done = [event for event in events if event["event"] == "stage_finished"]
    assert all(event["epochs"] == 1.0 for event in done)
    assert {bool(event["model"]) for event in done if event["action"] == "finetune"} == {True}
    assert not any("forecast" in event for event in done), "these stages have no times: nothing was measured"


def test_how_far_off_a_forecast_was_is_noted_whole_so_that_sums_are_right(make: Make, tmp_path: Path) -> None:
    plan, home = make(PICK), Home(tmp_path / "home")
    stage = next(s for s in plan.stages.values() if s.action == "finetune")
    said = replace(next(line for line in forecast(plan, home).stages if line.key == stage.key), seconds=0.07)
    manifest = {"timing": {"wall": 3010.0, "import": 4.0, "open": 6.0}, "cost": {"train_tokens": 960}, "memory": None}
    noted = foretold.noted(stage, plan.stages, said, manifest)
    assert noted["forecast"]["tokens"] == 480
    assert noted["forecast_error"] == {"seconds": pytest.approx(-1, abs=1e-4), "tokens": -0.5}
    found = foretold.summed([{"event": "stage_finished", "key": stage.key, **json.loads(json.dumps(noted))}])
    assert found["seconds"].was == pytest.approx(3000.0), "a forecast that is off by far counts with what was measured"
    assert found["tokens"].was == pytest.approx(960)
    assert "forecast_error" not in foretold.noted(stage, plan.stages, None, manifest), "nothing was said"


def test_times_of_a_part_of_the_work_are_reckoned_for_all_of_it(make: Make, tmp_path: Path) -> None:
    """A stage that was killed and went on, or that other workers helped with, counts all tokens and only some time."""
    plan, home = make(PICK), Home(tmp_path / "home").prepare()
    stage = next(s for s in plan.stages.values() if s.action == "finetune")
    model = model_of_stage(stage, plan.stages)
    assert model is not None
    about = {"action": "finetune", "block": "sft", "rows": 10, "model": signature(model), "cost": {"train_tokens": 700}}
    with Journal(home.journal_file("other")) as journal:
        journal.write("stage_finished", **about, timing={"wall": 6.0, "open": 1.0, "trainer": 4.0}, share=0.25)
        journal.write("stage_finished", **about, timing={"wall": 0.1, "trainer": 0.1}, share=0.01)
        journal.write("stage_finished", **about, timing={"wall": 20.0, "trainer": 16.0}, share=None)
    known = rates.Rates(home)
    seen = known.seen("finetune", "sft", signature(model))
    assert seen is not None
    assert seen.by_rows == [(10.0, 20.0), (10.0, 20.0)], "a hundredth of the work tells nothing of the time"
    assert seen.tokens == [70.0] * 3
    said = known.rate(model, "train", None)
    assert said is not None
    assert said.tokens_per_second == pytest.approx(875 / 20)
    assert said.source == "history"


def noted(key: str, said: float, was: float) -> dict[str, object]:
    error = {"seconds": (said - was) / was}
    return {"event": "stage_finished", "key": key, "forecast": {"seconds": said}, "forecast_error": error}


def test_errors_are_summed_over_stages_as_last_done() -> None:
    events = [noted("a", 9.0, 1.0), noted("a", 12.0, 10.0), noted("b", 5.0, 10.0), noted("c", 0.1, 0.2)]
    found = foretold.summed([*events, {"event": "grid_finished"}])["seconds"]
    assert found.stages == 3
    assert found.said == pytest.approx(17.1)
    assert found.was == pytest.approx(20.2)
    assert found.median == pytest.approx((0.2 + 0.5) / 2), "a stage of a fifth of a second has no error of its own"
    said = foretold.sentence({"seconds": found})
    assert said == "forecast 17 s of work, measured 20 s; half of the stages are off by at most: seconds 35%"
    assert foretold.sentence({}) is None
