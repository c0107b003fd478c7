"""The Python API for notebooks and tests: what the command line calls.

`plan = harness.plan("quickstart", ["seeds=1"])` plans, `harness.run(plan)` runs it, `harness.items("quickstart")` gives
one row per recipe, seed, iteration and item, and `harness.compare("quickstart")` the verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.store.home import Home

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.claim_result import Claims
    from harness.analysis.result import Comparison
    from harness.config.model import Experiment
    from harness.loop.outcome import Outcome
    from harness.loop.plan import Plan
    from harness.scoring.scorer import Done


def load(experiment: str, overrides: Sequence[str] = ()) -> Experiment:
    """Reads and checks an experiment.

    Raises:
        ConfigError: all mistakes of its files, with file and line.
    """
    from harness import config
    from harness.blocks import registry

    return config.load(experiment, registry, overrides)


def plan(experiment: str, overrides: Sequence[str] = ()) -> Plan:
    """The stages of an experiment, each with its key; runs nothing."""
    from harness.loop.plan import plan as make

    return make(load(experiment, overrides))


def run(experiment: str | Plan, overrides: Sequence[str] = (), **options: Any) -> Outcome:
    """Runs an experiment or a plan; see `harness.loop.run.run` for options and errors."""
    from harness.loop.run import run as execute

    made = plan(experiment, overrides) if isinstance(experiment, str) else experiment
    home = options.setdefault("home", Home.find())
    _check_data(made, home)
    return execute(made, **options)


def _check_data(made: Plan, home: Home) -> None:
    """Reads every source that is not in the store yet, so that a bad row is found before a worker starts."""
    from harness.records.sources import check
    from harness.store.artifacts import Store

    store = Store(home)
    new = [s for s in made.stages.values() if s.action == "source" and not store.done(s.kind, s.key)]
    if problems := [problem for stage in new for problem in check(stage.data)]:
        raise ConfigError(problems)


def items(experiment: str, split: str = "test", home: Home | None = None) -> pd.DataFrame:
    """Every graded item of an experiment as pandas."""
    from harness.analysis.items import items as read

    frame: pd.DataFrame = read((home or Home.find()).path, experiment, split)
    return frame


def compare(experiment: str, split: str = "test", home: Home | None = None) -> Comparison:
    """The comparison of an experiment's recipes with its baseline."""
    from harness.analysis.compare import compare_experiment

    return compare_experiment((home or Home.find()).path, experiment, split)


def claims(experiment: str, home: Home | None = None) -> Claims | None:
    """Which claims of an experiment hold, on the test split; None where it makes none."""
    from harness.analysis.claims import claims_of_experiment

    return claims_of_experiment((home or Home.find()).path, experiment)


def score(
    suite: str,
    outputs: Sequence[str],
    *,
    verdicts: Sequence[str] = (),
    judge: str | None = None,
    split: str = "test",
    **options: Any,
) -> Done:
    """Scores answers that exist already; see `harness.scoring.score` for options and errors.

    `judge` is a model's folder, the name of a judge block, or YAML (a file, or `{...}` as under `models:`).
    """
    from harness.blocks import registry
    from harness.config.single import load_judge, load_suite
    from harness.scoring.scorer import score as run_score

    model = load_judge(judge, registry) if judge is not None else None
    return run_score(load_suite(suite, registry), outputs, verdicts=verdicts, judge=model, split=split, **options)
