"""ReAlign's experiments are planned as they are shipped, with small models in the place of the paper's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
SMALL = [
    f"models.{role}=pocket/{'base' if role == 'student' else 'chat'}"
    for role in ("student", "rewriter", "classifier", "judge")
]


@pytest.mark.skipif(not (DATA / "alpaca").is_dir(), reason="the real files are not there (LOOPBENCH_SHARED_DATA)")
@pytest.mark.parametrize(
    ("name", "roles", "arms"),
    [
        ("paper-realign", 4, ["realign-paper", "originals", "without-format"]),
        ("paper-realign-math", 2, ["realign-math-paper", "originals", "explained"]),
    ],
)
def test_the_papers_experiments_can_be_planned(loopbench: Any, name: str, roles: int, arms: list[str]) -> None:
    settings = [part for setting in SMALL[:roles] for part in ("--set", setting)]
    done = loopbench("plan", name, *settings, "--json", LOOPBENCH_DATA=str(DATA), SERPER_API_KEY="x")
    assert done.returncode == 0, done.stderr
    cast = json.loads(done.stdout)
    work = [line for line in cast["stages"] if line["action"] in ("score", "synthesize", "finetune")]
    assert all(line["rows"] for line in work), "every stage before the suites is sized"
    if name == "paper-realign":
        measured = {line["label"].split()[-2] for line in cast["stages"] if line["action"] == "grade"}
        assert measured == {"alpaca-eval-1", "mt-bench"}, "the paper's win rates are against text_davinci_003"
    stages = json.dumps(cast)
    assert all(f"{arm} " in stages or f'"{arm}"' in stages for arm in arms)


POCKET = """\
experiment: tiny
models: {student: pocket/base, teacher: pocket/chat, judge: pocket/oracle}
data:
  pool: {use: pocket/clean, options: {rows: 24, defects: {off_format: 0.5}}}
  labelled: {use: pocket/labelled, options: {rows: 64}}
  documents: pocket/taxonomy
recipes: [realign]
suites: [{use: pocket, count: 4, max_tokens: 8}]
baseline: realign
train: {learning_rate: 1e-3, epochs: 1}
leaks: allow
"""


@pytest.mark.slow
def test_realign_runs_from_its_recipe_and_accounts_for_every_row(loopbench: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(POCKET)
    done = loopbench("run", "tiny.yaml", LOOPBENCH_WORKERS="1")
    assert done.returncode == 0, done.stderr
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "home").glob("store/rows/*/manifest.json")]
    counts = next(m["report"]["counts"] for m in manifests if "rewrite" in m["label"])
    assert sum(n for why, n in counts.items() if why == "rewritten" or why.startswith("kept: ")) == 24
    per_task = {name: n for name, n in counts.items() if name.endswith((": rewritten", ": kept"))}
    assert sum(per_task.values()) == 24
    assert not {"roleplay: rewritten", "writing: rewritten"} & per_task.keys()
    assert next(m["rows"] for m in manifests if "rewrite" in m["label"]) == 24


def test_a_source_that_is_not_bound_is_a_mistake_with_its_place(loopbench: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(POCKET.replace("  documents: pocket/taxonomy\n", ""))
    done = loopbench("plan", "tiny.yaml")
    assert done.returncode == 2
    assert "documents" in done.stderr
    assert "realign.yaml:" in done.stderr


def test_a_search_without_its_key_is_refused_before_anything_runs(loopbench: Any, tmp_path: Path) -> None:
    web = (
        "recipes:\n  - recipe: realign\n    steps: [{score: retrieve, by: web, key_env: NO_SUCH_KEY}, {finetune: sft}]"
    )
    (tmp_path / "tiny.yaml").write_text(POCKET.replace("recipes: [realign]", web))
    done = loopbench("run", "tiny.yaml")
    assert done.returncode == 2
    assert "set the environment variable NO_SUCH_KEY" in done.stderr
    assert not list((tmp_path / "home").glob("store/*/*/manifest.json"))
