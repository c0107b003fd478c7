"""Scores of given answers: values, intervals, missing ones, comparisons, judges, and what an experiment stored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from harness import api
from harness.blocks import registry
from harness.blocks.kinds import Answer, Grade, Metric
from harness.config.model import SuiteRef
from harness.config.single import load_judge, load_suite
from harness.errors import CannotTell, ConfigError, UserError
from harness.loop.grid import grid_document
from harness.records import evaltables
from harness.scoring import Scoring, score, scoring_text
from harness.scoring.figures import differences, figure, suite_figures, values_of
from harness.scoring.judging import Graded
from harness.store.artifacts import Store
from harness.store.home import Home

from .conftest import Write

STAND_IN = load_judge("stand_in", registry)


def scored(ref: SuiteRef, *files: str, **options: Any) -> Scoring:
    return score(ref, files, home=Home(Path("/nowhere")), **options).scoring


def words_file(write: Write, name: str, right: int, count: int = 8) -> str:
    """Answers of which the first `right` are."""
    texts = [f"so #### {i if i < right else 99}" for i in range(count)]
    return write(name, [{"id": i, "output": text} for i, text in enumerate(texts)])


def test_a_score_has_its_interval_n_and_missing(words: SuiteRef, write: Write) -> None:
    found = scored(words, words_file(write, "o.jsonl", right=5, count=7))
    figure = found.sources[0].figure("numeric")
    assert figure.value == pytest.approx(5 / 7)
    assert (figure.n, figure.missing) == (8, 1)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 5 / 8 < 6 / 8 < figure.high
    assert found.sources[0].missing == {"no answer: not in the file of outputs": 1}
    assert found.sources[0].counts["numeric"] == 5
    assert "lm-eval" in found.versions


def test_only_lm_evals_own_metrics_compare_texts(words: SuiteRef, write: Write) -> None:
    rows = [{"id": i, "output": f"#### {i}.00"} for i in range(8)]
    found = scored(words, write("o.jsonl", rows)).sources[0]
    assert found.figure("numeric").value == 1
    assert found.figure("strict-match").value == 0


def test_sources_are_compared_with_the_first_item_by_item(words: SuiteRef, write: Write) -> None:
    files = [words_file(write, f"{name}.jsonl", right=n) for name, n in (("a", 1), ("b", 7), ("c", 1))]
    found = scored(words, *files)
    better, same = (d for d in found.differences if d.metric == "numeric")
    assert (better.name, better.baseline, better.value) == ("b", "a", 6 / 8)
    assert better.exact_test == "mcnemar"
    assert better.exact == pytest.approx(2 * 0.5**6)
    assert better.low < better.value < better.high
    assert (same.name, same.value, same.verdict) == ("c", 0, "cannot tell")
    assert better.p <= better.p_holm <= 2 * better.p
    assert "answers are compared here, not training recipes" in scoring_text(found)


def test_a_missing_grade_widens_the_difference(words: SuiteRef, write: Write) -> None:
    whole = scored(words, words_file(write, "a.jsonl", 1), words_file(write, "b.jsonl", 7))
    part = scored(words, words_file(write, "a.jsonl", 1), words_file(write, "b.jsonl", 7, count=7))
    (one,), (other,) = ([d for d in s.differences if d.metric == "numeric"] for s in (whole, part))
    assert other.missing == 1
    assert other.exact is None
    assert other.high - other.low > one.high - one.low


def test_turns_and_categories_have_figures_of_their_own(pocket_turns: SuiteRef, write: Write) -> None:
    items = pocket_turns.block.items("test")
    rows = [{"id": item.id, "output": [item.reference[0], "?"]} for item in items]
    found = scored(pocket_turns, write("o.jsonl", rows))
    source = found.sources[0]
    assert found.suite.label == "ORACLE judge (programmatic)"
    assert source.figure("accuracy").value == 0.5
    assert (source.figure("accuracy:turn-1").value, source.figure("accuracy:turn-2").value) == (1, 0)
    assert source.figure("accuracy").n == 8
    categories = {item.category for item in items}
    assert all(source.figure(f"accuracy:{name}").n == 1 for name in categories)


def test_a_stand_in_says_that_it_is_one(pairs: SuiteRef, write: Write) -> None:
    file = write("o.jsonl", [{"id": i, "output": f"reference {i}"} for i in range(6)])
    found = scored(pairs, file, judge=STAND_IN)
    assert found.sources[0].figure("win").value == 0.5
    assert found.suite.stand_in
    assert "these figures say nothing about quality" in scoring_text(found)


def test_very_long_answers_and_broken_characters_are_scored(pairs: SuiteRef, write: Write) -> None:
    texts = ["a" * 100_000, "[[A]] " * 17_000, "half \ud83d", "line\u2028break", "\x00", "ok"]
    found = scored(pairs, write("o.jsonl", [{"id": i, "output": t} for i, t in enumerate(texts)]), judge=STAND_IN)
    source = found.sources[0]
    assert source.figure("win").missing == 0
    assert source.notes == ("1 outputs held half of a character (a lone surrogate), read as \ufffd",)
    assert source.flagged["verdict token"] == 1


def test_flagged_answers_are_counted_and_the_score_is_shown_without_them(pairs: SuiteRef, write: Write) -> None:
    texts = ["", "red apples", "green pears", "a blue plum", "seven figs", "one date"]
    rows = [{"id": index, "output": text} for index, text in enumerate(texts)]
    source = scored(pairs, write("o.jsonl", rows), judge=STAND_IN).sources[0]
    assert source.flagged == {"empty": 1}
    assert source.figure("win:unflagged").n == 5


def test_grades_of_single_answers_come_with_their_correlation_with_length(pocket_turns: SuiteRef, write: Write) -> None:
    items = pocket_turns.block.items("test")
    rows = [{"id": item.id, "output": ["word " * n, "other " * n]} for n, item in enumerate(items, start=1)]
    found = scored(pocket_turns, write("o.jsonl", rows), judge=STAND_IN).sources[0].figure("length:correlation")
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low < found.value < found.high <= 1
    assert found.n == 8


def test_a_figure_of_the_suites_counts_its_own_missing_grades() -> None:
    """A category without a missing grade must not show those of the others."""
    grades = tuple(
        Grade(id=f"{i}", item=f"{i}", cluster=f"{i}", category="", values={"x": 1.0 if i else None}) for i in range(9)
    )
    summary = {"x:part": 1.0, "x:part.low": 0.5, "x:part.high": 1.0, "x:part.n": 4.0, "x:part.missing": 0.0}
    runs = {0: Graded(grades=grades, summary=summary | {"plain": 2.0}, cost={})}
    known = [figure("x", values_of(runs, "x"), Metric(name="x"))]  # type: ignore[arg-type]
    (part, plain), _ = suite_figures(runs, known)  # type: ignore[arg-type]
    assert (known[0].n, known[0].missing) == (9, 1)
    assert (part.n, part.missing) == (4, 0)
    assert (plain.n, plain.missing) == (9, 1), "one that counts none stands on all grades"


def test_repeats_of_a_judge_are_an_axis_of_their_own() -> None:
    def grade(name: str, *repeats: float | None) -> Grade:
        there = [value for value in repeats if value is not None]
        value = fmean(there) if there else None
        return Grade(id=name, item=name, cluster=name, category="", values={"s": value}, repeats={"s": repeats})

    metric = Metric(name="s", unit="points", bounds=(1, 10))
    graded = Graded(grades=(grade("a", 1, 3), grade("b", 5, None), grade("c", None, None)), summary={}, cost={})
    values = values_of({(0, 0): graded}, "s")
    assert values.values.shape == (1, 3, 2)
    made = figure("s", values, metric)
    assert (made.value, made.n, made.missing) == (3.5, 3, 1)


def recorded(write: Write, name: str, preference: float, model: str = "mine") -> str:
    rows = [
        {
            "instruction": f"task {i}",
            "output_1": f"reference {i}",
            "output_2": f"{model} {i}",
            "preference": preference,
        }
        for i in range(6)
    ]
    return write(name, rows)


def given(write: Write, model: str = "mine") -> str:
    return write(f"{model}.json", [{"instruction": f"task {i}", "output": f"{model} {i}"} for i in range(6)])


def test_recorded_verdicts_are_replayed_for_these_very_answers(pairs: SuiteRef, write: Write) -> None:
    verdicts = recorded(write, "v.json", 1.75)
    found = scored(pairs, given(write), verdicts=[verdicts]).sources[0]
    assert found.figure("win").value == 0.75
    assert found.judge is not None
    assert (found.judge["block"], found.judge["model"]) == ("replay", None)
    with pytest.raises(CannotTell, match="none of 6 grades could be had .6 no recorded verdict about this answer"):
        scored(pairs, given(write, "other"), verdicts=[verdicts])


def test_each_source_has_its_own_verdicts_or_all_share_one_file(pairs: SuiteRef, write: Write) -> None:
    files = [given(write), given(write, "other")]
    apart = [recorded(write, "v.json", 1.75), recorded(write, "w.json", 1.25, "other")]
    shared = write("both.json", [row for name in apart for row in json.loads(Path(name).read_text())])
    for verdicts in (apart, [shared]):
        found = scored(pairs, *files, verdicts=verdicts)
        assert [s.figure("win").value for s in found.sources] == [0.75, 0.25]
        assert found.differences[0].value == -0.5
    with pytest.raises(UserError, match="3 files of verdicts for 2 of outputs"):
        scored(pairs, *files, verdicts=[*apart, shared])


@pytest.mark.parametrize(("field", "first", "second", "said"), [
    ("annotator", "gpt-4", "claude", "judge is claude, there gpt-4"),
    ("judge", ["gpt-4", "pair-v2"], ["gpt-5", "pair-v2"], "judge is gpt-5, there gpt-4"),
    ("judge", ["gpt-4", "pair-v2"], ["gpt-4", "pair-math-v1"], None),
])  # fmt: skip
def test_verdicts_of_unlike_judges_are_not_compared(
    pairs: SuiteRef, write: Write, field: str, first: Any, second: Any, said: str | None
) -> None:
    files = [recorded(write, "v.json", 1.75), recorded(write, "w.json", 1.25, "other")]
    for file, judge in zip(files, (first, second), strict=True):
        Path(file).write_text(json.dumps([row | {field: judge} for row in json.loads(Path(file).read_text())]))
    found = scored(pairs, given(write), given(write, "other"), verdicts=files)
    assert bool(found.differences) == (said is None)
    assert said is None or said in scoring_text(found)


def test_a_difference_that_cannot_be_told_is_named() -> None:
    def graded(*values: float | None) -> dict[tuple[int, int], Graded]:
        grades = tuple(
            Grade(id=str(i), item=str(i), cluster=str(i), category="", values={"length": v})
            for i, v in enumerate(values)
        )
        return {(0, 0): Graded(grades=grades, summary={}, cost={})}

    metric = Metric(name="length", unit="characters")
    found, untold = differences({"a": graded(1, 2, 3), "b": graded(2, 1, None)}, [metric])
    assert found == ()
    assert "no difference of b to a in length: 1 grades are missing and the metric has no bounds" in untold[0]


def test_a_suites_own_figure_counts_what_is_missing_in_all_runs() -> None:
    grade = Grade(id="i", item="i", cluster="i", category="", values={"s": 1.0})
    summary = {"rate": 50.0, "rate.low": 40.0, "rate.high": 60.0, "rate.n": 10.0, "rate.missing": 2.0}
    runs = {(0, seed): Graded(grades=(grade,), summary=summary, cost={}) for seed in range(3)}
    known = figure("s", values_of(runs, "s"), Metric(name="s", binary=True))
    (made,), _ = suite_figures(runs, [known])
    assert (made.n, made.missing) == (10, 6)


def test_verdicts_against_another_reference_are_missing_and_the_way_out_is_named(pairs: SuiteRef, write: Write) -> None:
    rows = json.loads(Path(recorded(write, "v.json", 1.75)).read_text())
    rows[0]["output_1"] = "another"
    path = write("w.json", rows)
    found = scored(pairs, given(write), verdicts=[path]).sources[0]
    assert found.missing == {"the recorded verdict is against another reference": 1}
    (note,) = found.notes
    how = note.split("--judge '")[1].split("'")[0]
    assert scored(pairs, given(write), judge=load_judge(how, registry)).sources[0].figure("win").missing == 0


@pytest.mark.parametrize(("writer", "missing"), [("davinci", 0), ("another", 6), (None, 6)])
def test_another_text_counts_only_where_the_same_model_wrote_it(write: Write, writer: str | None, missing: int) -> None:
    source = write(
        "reference.json", [{"instruction": f"task {i}", "output": "a", "generator": "davinci"} for i in range(7)]
    )
    pairs = load_suite(write("pairs.yaml", f"suite: pairwise\npath: {source}\norders: one\n"), registry)
    rows = json.loads(Path(recorded(write, "v.json", 1.75)).read_text())
    rows = [row | ({"generator_1": writer} if writer else {}) for row in rows]
    rows.append({"instruction": "task 6", "output_1": "a", "output_2": "b", "preference": 1, "generator_1": writer})
    outputs = [*json.loads(Path(given(write)).read_text()), {"instruction": "task 6", "output": "b"}]
    found = scored(pairs, write("o.json", outputs), verdicts=[write("v.json", rows)]).sources[0]
    assert found.figure("win").missing == missing
    (note,) = found.notes
    assert ("6 recorded verdicts are against another text" in note) == (missing == 0)


@pytest.mark.parametrize(("options", "message"), [
    ({}, "is graded by a judge, and none is named"),
    ({"split": "dev"}, "has no 'dev' split"),
    ({"verdicts": ["v"], "judge": STAND_IN}, "drop --judge or --verdicts"),
    ({"verdicts": ["v"]}, "which is not there"),
])  # fmt: skip
def test_mistakes_about_the_judge_are_told(pairs: SuiteRef, write: Write, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scored(pairs, given(write), **options)


def test_a_suite_that_grades_by_itself_takes_no_judge(words: SuiteRef, write: Write) -> None:
    with pytest.raises(UserError, match="grades by itself"):
        scored(words, words_file(write, "o.jsonl", 1), judge=STAND_IN)


def test_texts_cannot_be_scored_as_log_likelihoods(write: Write) -> None:
    source = write("rows.json", [{"q": f"{i}", "c": ["a", "b"], "a": i % 2} for i in range(6)])
    write(
        "t.yaml",
        "task: t\noutput_type: multiple_choice\ntest_split: test\ndoc_to_text: q\ndoc_to_choice: c\ndoc_to_target: a\n",
    )
    task = str(Path(source).parent / "t.yaml")
    ref = load_suite(write("s.yaml", f"suite: lm_eval\ntask: {task}\ntest_path: {source}\n"), registry)
    with pytest.raises(UserError, match="log-likelihood"):
        scored(ref, write("o.jsonl", [{"id": 0, "output": "a"}]))


def test_a_judge_may_be_yaml_and_its_mistakes_are_told(write: Write) -> None:
    assert load_judge(write("j.yaml", "judge: stand_in\noptions: {good_length: 5}\n"), registry).options == {
        "good_length": 5
    }
    assert load_judge("{judge: stand_in}", registry).judge == "stand_in"
    for text in ("{judge: stand_inn}", "{judge: stand_in, options: {god_length: 5}}", "no/such/folder"):
        with pytest.raises(ConfigError):
            load_judge(text, registry)
    with pytest.raises(UserError, match="not valid YAML"):
        load_judge("{judge: [}", registry)


def test_a_programmatic_scoring_needs_no_torch(pairs: SuiteRef, write: Write) -> None:
    path = Path(given(write)).parent
    code = (
        "import sys; from harness import api; "
        f"api.score({str(path / 'pairs.yaml')!r}, [{str(path / 'mine.json')!r}], judge='stand_in'); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_answers_are_not_left_in_the_working_folder(
    pairs: SuiteRef, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = given(write)
    before = sorted(path.name for path in tmp_path.iterdir())
    score(pairs, [file], judge=STAND_IN)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- what an experiment stored ----------------------------------------------------------------------------------------
EXPERIMENT = """
experiment: night
models: {student: pocket/base, judge: pocket/oracle}
data: {pool: {use: pocket/defects, options: {rows: 32}}}
suites: [{use: pocket, count: 16, dev_count: 8}]
seeds: 3
baseline: good
train: {learning_rate: 1e-3, epochs: 1}
recipes:
  - {recipe: good, steps: [{select: sample, keep: 8}, {finetune: sft}]}
  - {recipe: poor, steps: [{select: sample, keep: 4}, {finetune: sft}]}
"""


@pytest.fixture
def night(make_night: Callable[[str], tuple[SuiteRef, Home]]) -> tuple[SuiteRef, Home]:
    return make_night(EXPERIMENT)


@pytest.fixture
def make_night(tmp_path: Path) -> Callable[[str], tuple[SuiteRef, Home]]:
    return lambda text: _stored(tmp_path, text)


def _stored(tmp_path: Path, text: str) -> tuple[SuiteRef, Home]:
    """An experiment whose recipe `good` answered 12 of 16 questions rightly, and `poor` none."""
    (tmp_path / "night.yaml").write_text(text)
    plan = api.plan(str(tmp_path / "night.yaml"))
    home = Home(tmp_path / "home").prepare()
    store = Store(home)
    suite = plan.experiment.suites[0]
    items = suite.block.items("test")
    for key, stage in plan.stages.items():
        if stage.action == "answer":
            right = 12 if "good" in stage.label else 0
            texts = [item.reference if index < right else ("no",) for index, item in enumerate(items)]
            answers = [Answer(item=item.id, outputs=text) for item, text in zip(items, texts, strict=True)]
            evaltables.write_answers(store.work("answers", key) / "answers.parquet", answers)
            store.commit("answers", key, ("answers.parquet",), {"rows": len(answers)})
    path = home.grid_file("night")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(grid_document(plan)))
    return suite, home


def test_stored_answers_are_scored_again_with_their_runs(night: tuple[SuiteRef, Home]) -> None:
    suite, home = night
    found = score(suite, ["night/poor", "night/good", "night/untuned"], home=home).scoring
    good = found.source("night/good")
    assert (good.figure("accuracy").value, good.runs, good.figure("accuracy").random_runs) == (0.75, 3, True)
    assert found.source("night/untuned").runs == 1
    better, untuned = (d for d in found.differences if d.metric == "accuracy")
    assert (better.name, better.value, better.runs) == ("night/good", 0.75, 3)
    assert untuned.value == 0
    assert "graded as v1 then" in good.form


def test_each_student_is_scored_or_the_one_that_is_named(make_night: Callable[[str], tuple[SuiteRef, Home]]) -> None:
    two = EXPERIMENT.replace(
        "models: {student: pocket/base,", "students: [small, other]\nmodels: {small: pocket/base, other: pocket/chat,"
    )
    suite, home = make_night(two)
    found = score(suite, ["night/good", "night/untuned/other"], home=home).scoring
    assert [source.name for source in found.sources] == ["night/good/small", "night/good/other", "night/untuned/other"]
    assert [source.runs for source in found.sources] == [3, 3, 1]
    assert found.source("night/good/other").figure("accuracy").value == 0.75
    with pytest.raises(
        UserError, match="has no recipe 'good/third'; its recipes: good, poor, untuned, its students: small"
    ):
        score(suite, ["night/good/third"], home=home)


def test_a_file_can_stand_beside_stored_answers(night: tuple[SuiteRef, Home], write: Write) -> None:
    suite, home = night
    file = write("o.jsonl", [{"id": i.id, "output": i.reference[0]} for i in suite.block.items("test")])
    found = score(suite, [file, "night/good"], home=home).scoring
    assert found.differences[0].value == pytest.approx(-0.25)
    assert fmean(s.figure("accuracy").value or 0 for s in found.sources) == pytest.approx(0.875)


def test_what_was_not_stored_is_named(night: tuple[SuiteRef, Home]) -> None:
    suite, home = night
    with pytest.raises(UserError, match="has no recipe 'best'; its recipes: good, poor, untuned"):
        score(suite, ["night/best"], home=home)
    other = load_suite("pocket-mt", registry)
    with pytest.raises(UserError, match="night has no suite 'pocket-mt'; its suites: pocket"):
        score(other, ["night/good"], home=home)


def test_answers_to_other_items_are_refused(night: tuple[SuiteRef, Home], write: Write) -> None:
    home = night[1]
    source = write("rows.json", [{"instruction": "a", "output": "b"}])
    ref = load_suite(write("p.yaml", f"suite: pairwise\npath: {source}\n"), registry)
    with pytest.raises(UserError, match="answered other items"):
        score(replace(ref, name="pocket"), ["night/good"], home=home, judge=STAND_IN)
