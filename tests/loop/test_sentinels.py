"""Judge sentinels: frozen once, judged anew in each run past every cache, recorded with grades, and free when done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Sent, answer

from harness import api
from harness.analysis.compare import compare_experiment
from harness.analysis.gate import gate_experiment, write_baseline
from harness.analysis.grid import read_grid
from harness.analysis.sentinels import drifted, readings, unknown
from harness.blocks.kinds import Answer, EvalItem
from harness.config.sentinels import Sentinels
from harness.engines.base import Completion, GenerateRequest, ModelSpec
from harness.errors import CannotTell
from harness.evaluate.pocket import Pocket
from harness.judges.rubric import Rubric
from harness.loop import sentinels
from harness.loop.clock import Timer
from harness.loop.job import Job
from harness.loop.run import run as run_plan
from harness.loop.stage import Binding, Stage
from harness.records.sentinels import Reading
from harness.store.artifacts import Store
from harness.store.home import Home

Judge = Callable[[GenerateRequest], str]


class Engine:
    """A served judge that answers as told and remembers what it was asked."""

    context = None
    chat = None

    def __init__(self, judge: Judge) -> None:
        self.judge, self.asked = judge, list[GenerateRequest]()

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            text = self.judge(request)
            yield Completion(
                request_id=request.id,
                draw=0,
                text=text,
                token_ids=(),
                finish="stop",
                prompt_tokens=9,
                generated_tokens=3,
            )


class Engines:
    """One engine for every binding."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get(self, binding: Binding, timer: Timer) -> Engine:
        return self.engine


SUITE = Pocket(count=24)
ITEMS = SUITE.items("test")
ANSWERS = [Answer(item=item.id, outputs=("so it is .",)) for item in ITEMS]


def job(home: Path, engine: Engine, run: str | None, **changes: Any) -> Job:
    server = {"url": "http://127.0.0.1:9/v1", "model": "judge-1"}
    spec = ModelSpec(name="judge-1", engine="openai", revision="r", prompt_pack="general", options=server)
    about: dict[str, Any] = {
        "action": "grade", "label": "grade", "block": SUITE, "judge": Rubric(), "suite": "pocket", "split": "test",
        "models": {"judge": Binding(spec=spec)}, "roles": {"judge": "judge"}, "answers": "a",
        "fingerprint": {"items": "f"}, "data": Sentinels(),
    }  # fmt: skip
    store = Store(Home(home).prepare())
    return Job(Stage(**(about | changes)), store, Engines(engine), Timer(), lambda done, total: None, run=run)  # type: ignore[arg-type]


def seven(request: GenerateRequest) -> str:
    return "[[7]]"


def test_the_first_use_freezes_and_every_run_judges_anew(tmp_path: Path) -> None:
    engine = Engine(seven)
    (first,) = sentinels.readings(job(tmp_path, engine, "one"), ITEMS, ANSWERS)
    assert len(engine.asked) == 16 * 3
    assert all(request.fresh for request in engine.asked), "past every cache"
    assert len({request.seed for request in engine.asked}) == 48, "repeats do not share their noise"
    assert set(first["values"]["score"].values()) == {(7.0, 7.0, 7.0)}
    texts = {request.messages[-1]["content"] for request in engine.asked}

    other = [Answer(item=item.id, outputs=("quite another answer",)) for item in ITEMS]
    engine.asked.clear()
    changed = {"answers": "b"}
    (same,) = sentinels.readings(job(tmp_path, engine, "one", **changed), ITEMS, other)
    assert (same, engine.asked) == (first, []), "the stages of a run share one reading"
    (second,) = sentinels.readings(job(tmp_path, engine, "two", answers="c"), ITEMS, other)
    assert {request.messages[-1]["content"] for request in engine.asked} == texts, "the frozen answers, not today's"
    assert (second["panel"], second["judge"]) == (first["panel"], first["judge"])
    assert second["run"] == "two"


def test_an_interrupted_stage_keeps_the_reading_of_each_run_that_worked_on_it(tmp_path: Path) -> None:
    engine = Engine(seven)
    sentinels.readings(job(tmp_path, engine, "one"), ITEMS, ANSWERS)
    both = sentinels.readings(job(tmp_path, engine, "two"), ITEMS, ANSWERS)
    assert [one["run"] for one in both] == ["one", "two"]


@pytest.mark.parametrize(
    "changes", [{"split": "dev"}, {"models": {}}, {"judge": None}, {"data": Sentinels(answers=0)}], ids=str
)
def test_nothing_is_asked_where_no_claim_rests_on_a_model_judge(tmp_path: Path, changes: dict[str, Any]) -> None:
    engine = Engine(seven)
    assert sentinels.readings(job(tmp_path, engine, "one", **changes), ITEMS, ANSWERS) == []
    assert sentinels.readings(job(tmp_path, engine, None), ITEMS, ANSWERS) == [], "outside a run"
    assert engine.asked == []


def test_another_judge_has_readings_of_its_own_on_the_same_answers(tmp_path: Path) -> None:
    engine = Engine(seven)
    (one,) = sentinels.readings(job(tmp_path, engine, "one"), ITEMS, ANSWERS)
    other = {"judge": Rubric(temperature=1.0), "answers": "b"}
    (two,) = sentinels.readings(job(tmp_path, engine, "one", **other), ITEMS, ANSWERS)
    assert one["panel"] == two["panel"]
    assert one["judge"] != two["judge"]
    assert drifted((Reading.from_json(one),), (Reading.from_json(two),)) is None
    assert unknown((Reading.from_json(one),), (Reading.from_json(two),))


def test_empty_answers_are_not_frozen_and_references_make_every_second_one(tmp_path: Path) -> None:
    items = [EvalItem(id=str(k), turns=("q",), reference=("one two three four",)) for k in range(6)]
    answers = [Answer(item=str(k), outputs=("mine",) if k else ("",)) for k in range(6)]
    frozen = sentinels._chosen(items, answers, 16)
    assert {a.item for a in frozen} == {"1", "2", "3", "4", "5"}
    assert sorted(a.outputs[0] for a in frozen) == ["mine"] * 3 + ["one two t"] * 2


def test_an_unreadable_verdict_is_missing(tmp_path: Path) -> None:
    (one,) = sentinels.readings(job(tmp_path, Engine(lambda request: "no idea"), "one"), ITEMS, ANSWERS)
    assert set(one["values"]["score"].values()) == {(None, None, None)}
    assert None not in {v for values in one["values"]["accuracy"].values() for v in values}


# --- whole runs -------------------------------------------------------------------------------------------------------
EXPERIMENT = """
experiment: watched
models:
  MODELS
  judge: {url: URL, model: judge-1}
students: STUDENTS
data: {pool: {use: pocket/clean, options: {rows: 16}}}
suites: [{use: pocket, count: 16, max_tokens: 8}]
recipes:
  - {recipe: some, steps: [{select: sample, keep: 8}]}
"""

Watched = Callable[..., int]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))

    def run(server: ChatServer, **students: str) -> int:
        """Evaluates students as they are; gives the number of calls that the judge got."""
        models = "\n  ".join(f"{role}: {model}" for role, model in students.items())
        text = EXPERIMENT.replace("URL", server.url).replace("MODELS", models)
        (tmp_path / "watched.yaml").write_text(text.replace("STUDENTS", f"[{', '.join(students)}]"))
        before = len(server.asked)
        assert run_plan(api.plan(str(tmp_path / "watched.yaml")), workers=1).exit_code == 0
        return len(server.asked) - before

    return run


def rating(offset: int) -> Callable[[Any, int], Sent]:
    """A judge whose grade follows from the text that it reads, and from nothing else but its offset."""
    return lambda body, number: answer(f"[[{4 + len(json.dumps(body['messages'])) % 4 + offset}]]")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_drifted_judge_blocks_the_comparison_and_a_finished_run_asks_nothing(
    tmp_path: Path, watched: Watched
) -> None:
    home, file = tmp_path / "home", tmp_path / "baseline.json"
    with ChatServer(rating(0)) as server:
        assert watched(server, student="pocket/base") == 16 * 3 + 16
        assert watched(server, student="pocket/base") == 0, "a finished experiment costs nothing"
        (one,) = readings(read_grid(home, "watched"), "pocket")
        assert len(one.values["score"]) == 16
        compare_experiment(home, "watched")
        write_baseline(home, "watched", None, file)

        server.behave = rating(-2)
        assert watched(server, student="pocket/chat") >= 16 * 3, "new grades: the sentinels are judged again"
        result = gate_experiment(home, "watched", baseline=file, margins={"score": 1.0})
        assert (result.status, result.exit_code) == ("cannot tell", 3)
        assert all("has drifted" in check.reason for check in result.checks)

        assert watched(server, student="pocket/base", other="pocket/chat") == 0, "all is there already"
        assert len(readings(read_grid(home, "watched"), "pocket")) == 2
        with pytest.raises(CannotTell, match=r"the judge rubric \(model .*\) has drifted.* -2\.00 .* score"):
            compare_experiment(home, "watched")
