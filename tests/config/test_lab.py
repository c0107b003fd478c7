"""LAB's recipes as shipped: the numbers of the paper and of the released code, and plans of all of them offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import api, config
from harness.blocks import registry
from harness.config.model import Experiment
from harness.errors import ConfigError, UserError
from harness.loop.forecast import forecast
from harness.store.home import Home
from harness.synthesize.lab_knowledge import LabKnowledge
from harness.synthesize.lab_skills import LabSkills
from harness.synthesize.raft import Raft

POCKET = ("lab", "lab-stacked", "lab-no-filter", "lab-no-replay", "lab-chosen")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Settings that put pocket models and small suites in the places of the paper's."""
    import harness.pocket

    taxonomy = Path(harness.pocket.__file__).parent / "taxonomy"
    (tmp_path / "taxonomy").symlink_to(taxonomy)
    (tmp_path / "taxonomy_documents").mkdir()
    (tmp_path / "foundational.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    monkeypatch.setenv("LOOPBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("LAB_MODELS", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    models = ["models.student=pocket/base", "models.teacher=pocket/chat", "models.judge=pocket/oracle"]
    suites = ["pocket", "pocket-mt"]
    return [*models, f"suites={json.dumps(suites)}", *(f"{step}=pocket" for step in _choices())]


def _choices() -> tuple[str, ...]:
    paper = ("knowledge-1", "knowledge-2", "skills-tuned")
    return (*(f"lab-paper.{step}.choose" for step in paper), "lab-released.phase-2.choose")


def blocks(experiment: Experiment, recipe: str, verb: str) -> list[Any]:
    return [step.block(1) for step in experiment.recipe(recipe).steps if step.verb == verb]


def test_the_phases_have_the_numbers_of_the_paper(paper: list[str]) -> None:
    experiment = config.load("paper-lab", registry, paper)
    phases = blocks(experiment, "lab-paper", "finetune")
    assert [(p.epochs, p.max_length, p.checkpoints) for p in phases] == [(5, 2048, 5), (7, 4096, 7), (7, 4096, 7)]
    for phase in phases:
        assert phase.batch_size * phase.gradient_accumulation_steps == 3840
        assert (phase.learning_rate, phase.warmup_steps) == (2e-5, 385)
        assert phase.lr_scheduler_type == "constant_with_warmup"
    knowledge = next(b for b in blocks(experiment, "lab-paper", "synthesize") if isinstance(b, LabKnowledge))
    assert (knowledge.checks, knowledge.rewrites, knowledge.chunk_tokens) == (("faithfulness",), (), 500)


def test_each_phase_replays_all_before_it(paper: list[str]) -> None:
    recipe = config.load("paper-lab", registry, paper).recipe("lab-paper")
    sources = [{s.name for s in step.from_ or ()} for step in recipe.steps if step.verb == "finetune"]
    assert sources == [{"short"}, {"long", "foundational", "short"}, {"skills", "short", "long", "foundational"}]


def test_the_released_recipe_has_the_numbers_of_the_code(paper: list[str]) -> None:
    experiment = config.load("paper-lab", registry, paper)
    first, second = blocks(experiment, "lab-released", "finetune")
    steps = [(p.learning_rate, p.batch_size * p.gradient_accumulation_steps, p.epochs) for p in (first, second)]
    assert steps == [(2e-5, 128, 7), (6e-6, 3840, 10)]
    assert {(p.lr_scheduler_type, p.warmup_steps) for p in (first, second)} == {("cosine", 25)}
    assert {(p.trl["adam_beta2"], p.weight_decay, p.max_grad_norm) for p in (first, second)} == {(0.95, 0.0, 1.0)}
    assert (first.choose, second.checkpoints) == (None, 10)
    knowledge, p07, p10, skills, sampled = blocks(experiment, "lab-released", "synthesize")
    assert isinstance(skills, LabSkills)
    assert (skills.questions, skills.contexts, skills.grounded_questions, skills.min_rating) == (30, 10, 3, 2)
    assert (skills.temperature, skills.context_temperature, skills.answer_temperature) == (0, 0.7, 0)
    assert knowledge.checks == ("faithfulness", "relevancy", "question")
    assert isinstance(p07, Raft)
    assert (p07.source_share, p07.documents, p07.loss_on) == (1, 1, "all")
    assert (p10.source_share, p10.documents, p10.loss_on) == (0.4, 4, "assistant")
    assert (sampled.rows, sampled.per, sampled.replacement) == (30, "leaf", True)


def test_auxiliary_rows_come_once_in_the_released_second_phase(paper: list[str]) -> None:
    """As released: with p10, answers only; what p07 has of them is for the first phase."""
    recipe = config.load("paper-lab", registry, paper).recipe("lab-released")
    (once,) = (step for step in recipe.steps if step.verb == "select")
    assert [source.name for source in once.from_ or ()] == ["p10", "p07"], "of equal rows the first stays"
    block: Any = once.block(1)
    assert (block.on, block.near) == ("prompt", None)  # conversations differ by what is trained
    assert [s.name for s in recipe.steps[-1].from_ or ()] == [once.as_, "skills"]


def test_every_released_prompt_is_known_by_its_checksum(paper: list[str]) -> None:
    experiment = config.load("paper-lab", registry, paper)
    files = [f for b in blocks(experiment, "lab-released", "synthesize") for f in getattr(b, "released", {}).values()]
    assert len(files) == 14
    assert all(f.sha256 and "/faa84eff7f64d0bcfa752f021cbcc19a6458eb17/" in str(f.url) for f in files)


def test_the_paper_is_planned_offline(paper: list[str]) -> None:
    plan = api.plan("paper-lab", paper)
    actions = [stage.action for stage in plan.stages.values()]
    assert actions.count("choose") == 4
    assert actions.count("finetune") == 5
    with pytest.raises(UserError, match=r"choose reads the dev split of|has no metric|choose names the suite"):
        api.plan("paper-lab", [*paper, "lab-paper.knowledge-1.choose=mmlu"])


def test_the_forecast_of_the_paper_holds_its_work_and_says_what_it_does_not_know(
    paper: list[str], tmp_path: Path
) -> None:
    def sized(*more: str) -> dict[str, tuple[int | None, int | None]]:
        said = forecast(api.plan("paper-lab", [*paper, *more]), Home(tmp_path / "home"))
        asked = [line for line in said.stages if line.action in ("synthesize", "finetune")]
        return {line.label.replace(" i1 ", "/"): (line.rows, line.tokens) for line in asked}

    whole = sized("data.foundational.rows=1000")
    assert all(rows for rows, _ in whole.values()), "the taxonomy is read, and its file of public data is stated"
    skills, _ = whole["lab-paper/lab_skills"]
    assert skills == 17 * 5 * 30, "17 leaves of five seeds, thirty questions for each"
    assert whole["lab-released/skills"] == (17 * 30, None), "30 rows per leaf"
    rows, tokens = whole["lab-paper/skills-tuned"]
    assert rows == skills + 1000 + 2 * (whole["lab-paper/lab_knowledge"][0] or 0)
    assert tokens == rows * 7 * 60, "seven epochs"
    unknown = [name for name, (rows, tokens) in sized().items() if rows is None and tokens is None]
    assert unknown == ["lab-paper/knowledge-2", "lab-paper/skills-tuned"], "how long the public file is"


def test_the_pocket_recipes_share_their_synthesis() -> None:
    experiment = _pocket(POCKET)
    stages = api.plan(experiment, []).stages.values()
    made = [s for s in stages if s.action == "synthesize" and s.name.startswith("lab_")]
    assert len(made) == 2, "arms differ in what follows, not in what the teacher wrote"
    assert sum(s.action == "choose" for s in stages) == 2


def test_a_recipe_without_its_taxonomy_is_refused_with_its_line(tmp_path: Path) -> None:
    path = Path(_pocket(("lab",)))
    path.write_text(path.read_text().replace("data: {taxonomy: pocket/taxonomy}", "data: {pool: pocket/clean}"))
    with pytest.raises(ConfigError, match=r"lab\.yaml:\d+: from: there are no rows named 'taxonomy'"):
        api.plan(str(path), [])


def test_a_taxonomy_that_is_no_taxonomy_is_refused(tmp_path: Path) -> None:
    path = Path(_pocket(("lab",)))
    folder = tmp_path / "empty"
    folder.mkdir()
    text = path.read_text().replace("taxonomy: pocket/taxonomy", f"taxonomy: {{kind: taxonomy, path: {folder}}}")
    path.write_text(text)
    plan = api.plan(str(path), [])
    assert plan.stages
    path.write_text(text.replace("kind: taxonomy, ", ""))
    with pytest.raises(ConfigError, match="is a folder; write `kind: folder` to read its files, `kind: taxonomy`"):
        api.plan(str(path), [])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _pocket(recipes: tuple[str, ...]) -> str:
    text = (
        "experiment: e\nmodels: {student: pocket/base, teacher: pocket/chat, judge: pocket/oracle}\n"
        "data: {taxonomy: pocket/taxonomy}\nsuites: [{use: pocket, count: 8, dev_count: 8}]\n"
        f"recipes: [{', '.join(recipes)}]\nbaseline: {recipes[0]}\n"
    )
    Path("e.yaml").write_text(text)
    return "e.yaml"
