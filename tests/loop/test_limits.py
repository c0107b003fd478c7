"""`limits:` stop before more is spent: held stages wait with their descendants, and a raised limit goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.engines.base import ModelSpec
from harness.loop.limits import Guard, seconds_of
from harness.loop.run import run
from harness.loop.stage import Binding, Stage
from harness.store.home import Home
from harness.store.spent import Ledger

from .conftest import Instant, Make

PICK = """
recipe: pick
steps:
  - {score: ifd, model: student}
  - {select: top, by: ifd, keep: 50%}
  - {finetune: sft}
"""


def event(name: str, at: float, **data: object) -> dict[str, object]:
    return {"event": name, "time": at, **data}


def events_of(home: Home, name: str) -> list[dict[str, object]]:
    lines = home.journal_file("small").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["event"] == name]


def test_hours_count_all_runs_of_the_plan_and_killed_ones_to_their_last_event() -> None:
    journal = [
        event("grid_started", 0, plan_key="a"),
        event("stage_finished", 50),  # killed here
        event("grid_started", 1000, plan_key="a"),
        event("grid_interrupted", 1030),
        event("grid_started", 2000, plan_key="other"),
        event("grid_finished", 2500),
        event("grid_started", 3000, plan_key="a"),
        event("stage_started", 3007),
    ]
    assert seconds_of(journal, "a") == 50 + 30 + 7
    assert seconds_of(journal, "other") == 500
    assert seconds_of([], "a") == 0


def test_time_used_up_starts_nothing_and_a_raised_limit_goes_on(make: Make, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    plan = make(PICK, overrides=("limits={hours: 0.000000001}",))
    executor = Instant()
    outcome = run(plan, home, workers=1, executor=executor)
    assert executor.sent == []
    assert (outcome.exit_code, outcome.done, outcome.failed) == (4, [], {})
    assert len(outcome.held) + len(outcome.blocked) == len(plan.stages)
    assert outcome.waiting_for_limits is not None
    assert outcome.waiting_for_limits.startswith(f"{len(plan.stages)} stages wait: limits.hours is 1e-09 and the runs")
    assert "raise limits.hours (`--set limits.hours=...`) and run the same command again" in outcome.waiting_for_limits
    assert {e["key"] for e in events_of(home, "stage_held")} == set(outcome.held)

    raised = run(make(PICK, overrides=("limits={hours: 8}",)), home, workers=1, executor=Instant())
    assert (raised.exit_code, raised.held, len(raised.done)) == (0, {}, len(plan.stages))


def test_an_earlier_run_counts_against_the_hours(make: Make, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    plan = make(PICK, overrides=("limits={hours: 2}",))
    earlier = [event("grid_started", 0, plan_key=plan.key), event("grid_finished", 2 * 3600)]
    home.journal_file("small").write_text("".join(json.dumps(e) + "\n" for e in earlier))
    assert run(plan, home, workers=1, executor=Instant()).exit_code == 4


def test_a_stage_that_meets_the_limit_is_held_and_others_go_on(make: Make, tmp_path: Path) -> None:
    label = "pick i1 ifd"
    executor = Instant({label: ("limit", "limits.usd is 5 and 5.00 of it is spent")})
    plan = make(PICK)
    outcome = run(plan, Home(tmp_path / "home"), workers=1, executor=executor)
    assert (list(outcome.held.values()), outcome.failed) == (["limits.usd is 5 and 5.00 of it is spent"], {})
    tuned = {"pick i1 top", "pick i1 sft", "answer pick s0 i1 on pocket test", "grade pick s0 i1 on pocket test"}
    assert tuned <= {plan.stages[key].label for key in outcome.blocked}
    assert ["answer untuned student on pocket test"] in executor.sent
    assert outcome.exit_code == 4


@pytest.mark.parametrize(
    ("model", "held"),
    [
        (ModelSpec(name="m", engine="openai", options={"url": "http://x/v1"}), True),
        (ModelSpec(name="m", engine="openai", path=Path("served-here")), False),
        (ModelSpec(name="m"), False),
    ],
)
def test_money_holds_only_stages_that_ask_another_server(model: ModelSpec, held: bool, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "spent.jsonl", 5.0)
    with ledger.spending(5.0, model="m") as bill:
        bill.settle(5.0)
    stage = Stage(action="grade", label="grade", models={"judge": Binding(spec=model)})
    why = Guard(ledger=ledger).refusal(stage)
    assert (why is not None) is held
    if why is not None:
        assert "limits.usd is 5" in why
        assert "5.00 of it is spent" in why
        assert "raise limits.usd" in why
