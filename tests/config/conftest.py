"""A small project on disk and a registry of small blocks: the configuration must not care which blocks there are."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar, Literal

import pytest

from harness import config
from harness.blocks.base import Block, ModelRole, identity, runtime
from harness.blocks.kinds import Judge
from harness.errors import ConfigError, UserError
from harness.records.values import FilePath, Keep, Share


class Score(Block):
    kind: ClassVar[Any] = "score"
    name: ClassVar[str] = "ifd"
    model: ModelRole = identity("student", description="scorer")

    def columns(self) -> tuple[str, ...]:
        return ("ifd", "tag:ifd.problem")


class Top(Block):
    kind: ClassVar[Any] = "select"
    name: ClassVar[str] = "top"
    by: str = identity(description="score")
    keep: Keep = identity(description="how many")
    where: dict[str, dict[str, float]] = identity({}, description="limits")


class Magpie(Block):
    kind: ClassVar[Any] = "synthesize"
    name: ClassVar[str] = "magpie"
    reads_rows: ClassVar[bool] = False
    model: ModelRole = identity("teacher", description="who writes")
    rows: int = identity(100, ge=1, description="attempts")
    focus: Literal["none", "feedback"] = identity("none", description="steer")
    workers: int = runtime(1, description="threads")

    def uses_feedback(self) -> bool:
        return self.focus == "feedback"


class Respond(Block):
    kind: ClassVar[Any] = "synthesize"
    name: ClassVar[str] = "respond"
    model: ModelRole = identity("current", description="who answers")
    temperature: float = identity(0.0, ge=0, description="temperature")


class Sft(Block):
    kind: ClassVar[Any] = "finetune"
    name: ClassVar[str] = "sft"
    start: ModelRole = identity("start", description="start")
    learning_rate: float = identity(1e-4, gt=0, description="rate")
    epochs: int | float = identity(1, gt=0, description="epochs")
    trl: dict[str, Any] = identity({}, description="others")


class Dpo(Sft):
    name: ClassVar[str] = "dpo"
    reference: ModelRole = identity("start", description="reference")
    beta: float = identity(0.1, gt=0, description="beta")


class _Metric:
    def __init__(self, name: str) -> None:
        self.name = name


class World(Block):
    kind: ClassVar[Any] = "suite"
    name: ClassVar[str] = "world"
    count: int = identity(10, ge=1, description="items")
    file: FilePath | None = runtime(None, description="a file")
    has_dev: bool = identity(True, description="a dev split")

    def metrics(self) -> tuple[Any, ...]:
        return (_Metric("accuracy"),)

    def splits(self) -> tuple[str, ...]:
        return ("dev", "test") if self.has_dev else ("test",)

    def needs_judge(self) -> bool:
        return True

    def fingerprint(self, split: str) -> str:
        return f"{split}{self.count}"


class Halves(World):
    """A suite that can set a share of its items apart."""

    name: ClassVar[str] = "halves"
    dev: Share | None = identity(None, description="share set apart")

    def splits(self) -> tuple[str, ...]:
        return ("dev", "test") if self.dev else ("test",)


class Silent(Judge):
    def judge(self, item: Any, answer: Any, turn: int, context: Any) -> Any:
        yield from ()


class Oracle(Silent):
    name: ClassVar[str] = "oracle"
    strict: bool = identity(True, description="strict")


class Rubric(Silent):
    name: ClassVar[str] = "rubric"
    asks_model: ClassVar[bool] = True
    model: ModelRole = identity("judge", description="who judges")


class Blocks:
    """Stands for the module `harness.blocks.registry`."""

    known: ClassVar[dict[tuple[str, str], type[Block]]] = {
        (block.kind, block.name): block
        for block in (Score, Top, Magpie, Respond, Sft, Dpo, World, Halves, Oracle, Rubric)
    }

    def get(self, kind: str, name: str) -> type[Block]:
        if (kind, name) not in self.known:
            raise UserError(f"there is no {kind} block named {name!r}")
        return self.known[kind, name]


FILES = {
    "experiments/trial.yaml": """\
        experiment: trial
        models: {student: model, teacher: model, judge: pocket/oracle}
        data: {pool: rows.jsonl}
        recipes: [pick, chain]
        suites: [world]
        seeds: 3
        baseline: pick
        train: {learning_rate: 1e-3, epochs: 2}
        """,
    "experiments/recipes/pick.yaml": """\
        recipe: pick
        loop: {iterations: 2}
        steps:
          - {score: ifd, model: student}
          - select: top
            by: ifd
            keep: 10%
            where: {ifd: {below: 1.0}}
          - finetune: sft
        """,
    "experiments/recipes/chain.yaml": """\
        recipe: chain
        loop: {iterations: 3, start_from: previous, data: {window: 2}}
        steps:
          - {synthesize: magpie, as: made}
          - {select: top, from: {pool: 25%, made: 100%}, by: ifd, keep: 5, as: kept}
          - {finetune: sft, as: tuned, epochs: 5}
          - {synthesize: respond, from: [kept, pool], model: tuned, as: answers}
          - {finetune: dpo, from: [answers, answers@previous], start: tuned, beta: {by_iteration: [0.1, 0.2, 5]}}
        """,
    "evalsuites/world.yaml": "suite: world\ncount: 20\n",
    "experiments/rows.jsonl": '{"prompt": "a", "completion": "b"}\n',
    "experiments/model/config.json": "{}",
}


class Project:
    """Files below one folder, which is the working folder; `load` gives the experiment, `mistakes` what is wrong."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        (self.root / name).write_text(text.replace(old, new), encoding="utf-8")

    def load(self, *overrides: str, name: str = "trial") -> config.Experiment:
        return config.load(name, Blocks(), overrides)

    def mistakes(self, *overrides: str, name: str = "trial") -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(*overrides, name=name)
        assert caught.value.exit_code == 2
        return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
