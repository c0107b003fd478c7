# ruff: noqa: E501 — a table of cases reads best with one case per line
"""Every mistake is found before anything runs, with file, line and what was probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

TRIAL, PICK, CHAIN = "experiments/trial.yaml", "experiments/recipes/pick.yaml", "experiments/recipes/chain.yaml"
WORLD = "evalsuites/world.yaml"

CASES = {
    "unknown key of the experiment": (TRIAL, "seeds: 3", "sedes: 3", f"{TRIAL}:6: unknown key 'sedes'; did you mean 'seeds'?"),
    "unknown option of a block": (PICK, "keep: 10%", "keep: 10%\n    kep: 1", f"{PICK}:8: unknown key 'kep'; did you mean 'keep'?"),
    "unknown key of the loop": (PICK, "iterations: 2", "iteration: 2", f"{PICK}:2: unknown key 'iteration'; did you mean"),
    "unknown key of a recipe": (PICK, "recipe: pick", "recipe: pick\nstep: 1", f"{PICK}:2: unknown key 'step'; did you mean 'steps'?"),
    "unknown key of a suite": (WORLD, "count", "cuont", f"{WORLD}:2: unknown key 'cuont'; did you mean 'count'?"),
    "wrong type of a seed": (TRIAL, "seeds: 3", 'seeds: "3"', f'{TRIAL}:6: seeds: should be a whole number or a list, not "3"'),
    "wrong type of an option": (CHAIN, "epochs: 5", "epochs: many", f'{CHAIN}:6: epochs: should be a whole number or a number, not "many"'),
    "wrong type of a share": (PICK, "keep: 10%", "keep: most", f"{PICK}:7: keep: should be a share such as 10%"),
    "a share above all": (PICK, "keep: 10%", "keep: 110%", f"{PICK}:7: keep: should be a share above 0% and up to 100%"),
    "wrong type deep inside": (PICK, "below: 1.0", "below: low", f'{PICK}:8: where.ifd.below: should be a number, not "low"'),
    "a number out of range": (TRIAL, "learning_rate: 1e-3", "learning_rate: 0", f"{TRIAL}:8: learning_rate: should be greater than 0"),
    "a number that is not finite": (TRIAL, "1e-3", ".nan", f"{TRIAL}:8: .nan is not a finite number"),
    "no seeds": (TRIAL, "seeds: 3", "seeds: 0", f"{TRIAL}:6: seeds: should be greater than or equal to 1"),
    "an empty list of seeds": (TRIAL, "seeds: 3", "seeds: []", f"{TRIAL}:6: seeds: "),
    "a seed twice": (TRIAL, "seeds: 3", "seeds: [1, 1]", f"{TRIAL}:6: seeds: names a seed twice"),
    "no iterations": (PICK, "iterations: 2", "iterations: 0", f"{PICK}:2: iterations: should be greater than or equal to 1"),
    "no recipes": (TRIAL, "[pick, chain]", "[]", f"{TRIAL}:4: recipes: should be a list with at least one recipe"),
    "no suites": (TRIAL, "[world]", "[]", f"{TRIAL}:5: suites: should be a list with at least one suite"),
    "a key that is missing": (TRIAL, "suites: [world]", "", f"{TRIAL}:1: suites: is required"),
    "unknown recipe": (TRIAL, "[pick, chain]", "[pikc, chain]", f"{TRIAL}:4: there is no recipe named 'pikc'; did you mean 'pick'?"),
    "unknown suite": (TRIAL, "[world]", "[wolrd]", f"{TRIAL}:5: there is no suite named 'wolrd'; did you mean 'world'?"),
    "unknown dataset": (TRIAL, "rows.jsonl", "alpcaa", f"{TRIAL}:3: there is no dataset named 'alpcaa'; did you mean 'alpaca'?"),
    "missing data file": (TRIAL, "rows.jsonl", "gone.jsonl", f"{TRIAL}:3: there is no file or folder "),
    "missing model folder": (TRIAL, "student: model", "student: ./gone", f"{TRIAL}:2: there is no model folder "),
    "a model of a hub": (TRIAL, "student: model", "student: some/model-7b", f"{TRIAL}:2: there is no model folder "),
    "a folder that is no model": (TRIAL, "student: model", "student: recipes", f"{TRIAL}:2: "),
    "unknown pocket model": (TRIAL, "pocket/oracle", "pocket/oralce", f"{TRIAL}:2: there is no model named 'pocket/oralce'; did you mean"),
    "unknown block": (PICK, "select: top", "select: tpo", f"{PICK}:5: there is no select block named 'tpo'"),
    "unknown verb": (PICK, "select: top", "selet: top", f"{PICK}:5: a step needs a verb; 'selet' is none; did you mean 'select'?"),
    "two verbs": (PICK, "select: top", "select: top\n    score: ifd", f"{PICK}:5: a step has one verb; this one has select and score"),
    "unbound model role": (PICK, "model: student", "model: studnet", f"{PICK}:4: model: no model is bound to the role 'studnet'; did you mean 'student'?"),
    "a judge that writes": (PICK, "model: student", "model: judge", f"{PICK}:4: model: 'judge' is bound to a programmatic judge"),
    "unknown name in from": (CHAIN, "[kept, pool]", "[kpet, pool]", f"{CHAIN}:7: from: there are no rows named 'kpet'; did you mean 'kept'?"),
    "forward reference of rows": (CHAIN, "{pool: 25%, made: 100%}", "{pool: 25%, answers: 100%}", f"{CHAIN}:5: from: 'answers' is named by this step or a later one"),
    "forward reference of a model": (CHAIN, "synthesize: magpie,", "synthesize: magpie, model: tuned,", f"{CHAIN}:4: model: no model is bound to the role 'tuned', which is named by this step or a later"),
    "unknown time": (CHAIN, "answers@previous", "answers@last", f"{CHAIN}:8: from: answers@last: after @ stands previous or all"),
    "a data source has no past": (CHAIN, "[kept, pool]", "[kept, pool@previous]", f"{CHAIN}:7: from: pool is a data source"),
    "a name twice": (CHAIN, "as: kept", "as: made", f"{CHAIN}:5: as: 'made' is already the name of an earlier step"),
    "a name that is taken": (CHAIN, "as: tuned", "as: teacher", f"{CHAIN}:6: as: 'teacher' already names a data source or a model role"),
    "a mix with nothing of one": (CHAIN, "pool: 25%", "pool: 0%", f"{CHAIN}:5: from: pool: should be a share above 0%"),
    "a mix with a negative share": (CHAIN, "pool: 25%", "pool: -1", f"{CHAIN}:5: from: pool: should be a share above 0%"),
    "an empty from": (CHAIN, "[kept, pool]", "[]", f"{CHAIN}:7: from: should be a name, a list of names or a mix"),
    "too few values by iteration": (CHAIN, "[0.1, 0.2, 5]", "[0.1, 5]", f"{CHAIN}:8: beta: by_iteration has 2 values, but the loop has 3 iterations"),
    "a wrong value by iteration": (CHAIN, "[0.1, 0.2, 5]", "[0.1, 0.2, x]", f'{CHAIN}:8: beta: should be a number, not "x"'),
    "a baseline that does not compete": (TRIAL, "baseline: pick", "baseline: pik", f"{TRIAL}:7: baseline: 'pik' is not among the recipes; did you mean 'pick'?"),
    "an unknown training option": (TRIAL, "epochs: 2", "epoch: 2", f"{TRIAL}:8: train: unknown option 'epoch'; did you mean 'epochs'?"),
    "a window of nothing": (CHAIN, "window: 2", "window: 0", f"{CHAIN}:2: data.window: should be greater than or equal to 1"),
    "a key in the file": (TRIAL, "student: model", "student: {url: 'http://h', api_key: abc123}", f"{TRIAL}:2: api_key: keys do not belong in a file"),
    "a key instead of its variable's name": (TRIAL, "student: model", "student: {url: 'http://h', api_key_env: sk-abc123}", f"{TRIAL}:2: api_key_env: should be the name of an environment variable"),
    "a student that is not bound": (TRIAL, "seeds: 3", "students: [studnet]", f"{TRIAL}:6: students: no model is bound to 'studnet' under models; did you mean 'student'?"),
    "a gate without margin": (TRIAL, "seeds: 3", "gate: {baseline: x.json}", f"{TRIAL}:6: gate.margin: is required"),
    "a gate on what no suite measures": (TRIAL, "seeds: 3", "gate: {margin: {acuracy: 0.1}}", f"{TRIAL}:6: gate: no suite measures 'acuracy'; did you mean 'accuracy'?"),
    "a negative margin": (TRIAL, "seeds: 3", "gate: {margin: {accuracy: -0.1}}", f"{TRIAL}:6: gate.margin.accuracy: should be greater than or equal to 0"),
    "a margin of inf": (TRIAL, "seeds: 3", "gate: {margin: {accuracy: .inf}}", f"{TRIAL}:6: .inf is not a finite number"),
    "a margin of nan": (TRIAL, "seeds: 3", "gate: {margin: {accuracy: .nan}}", f"{TRIAL}:6: .nan is not a finite number"),
    "a budget of nothing": (TRIAL, "seeds: 3", "budget: {train_tokens: 0}", f"{TRIAL}:6: budget.train_tokens: should be a positive whole number"),
    "a budget that no trainer keeps": (TRIAL, "seeds: 3", "budget: {train_tokens: 2M}", f"{TRIAL}:6: budget: the step sft of pick cannot keep it: sft has no option train_tokens"),
    "a limit of nothing": (TRIAL, "seeds: 3", "limits: {usd: 0}", f"{TRIAL}:6: limits.usd: should be greater than 0"),
    "a limit in words": (TRIAL, "seeds: 3", "limits: {hours: a night}", f"{TRIAL}:6: limits.hours: should be a number"),
    "an unknown limit": (TRIAL, "seeds: 3", "limits: {hour: 8}", f"{TRIAL}:6: unknown key 'hour'; did you mean 'hours'?"),
    "vary of no recipe": (TRIAL, "seeds: 3", "vary: {pcik.top.keep: [5%]}", f"{TRIAL}:6: vary: 'pcik.top.keep' should begin with a recipe or train"),
    "vary of no step": (TRIAL, "seeds: 3", "vary: {pick.tpo.keep: [5%]}", f"{TRIAL}:6: the recipe has no step 'tpo'; did you mean 'top'?"),
    "vary to a wrong value": (TRIAL, "seeds: 3", "vary: {pick.top.keep: [none]}", f"{TRIAL}:6: keep: should be a share such as 10%"),
    "a key twice": (PICK, "by: ifd", "by: ifd\n    by: ifd", f"{PICK}:7: 'by' is given twice; the first is in line 6"),
    "no YAML": (PICK, "keep: 10%", "keep: [10%", f"{PICK}:"),
    "a tag": (PICK, "keep: 10%", "keep: !!python/name:os.system 1", f"{PICK}:7: the tag tag:yaml.org,2002:python/name:os.system is not read"),
    "feedback without a dev split": (CHAIN, "magpie, as", "magpie, focus: feedback, as", f"{TRIAL}:5: the step made of chain reads feedback, but no suite has a dev split"),
    "no pool": (TRIAL, "pool: rows.jsonl", "other: rows.jsonl", f"{PICK}:4: the first step reads `pool`, which the experiment does not bind under data"),
    "no judge": (TRIAL, ", judge: pocket/oracle", "", f"{WORLD}:1: the suite world needs a judge"),
    "a pocket option": (TRIAL, "pool: rows.jsonl", "pool: {kind: pocket, options: {rows: 5, sede: 1}}", f"{TRIAL}:3: options: unknown key 'sede'; did you mean 'seed'?"),
    "a dataset without a place": (TRIAL, "pool: rows.jsonl", "pool: {format: alpaca}", f"{TRIAL}:3: a dataset needs a path or a url"),
    "a url without checksum": (TRIAL, "pool: rows.jsonl", "pool: {url: 'http://h/x.json'}", f"{TRIAL}:3: a url needs the sha256"),
    "a folder in the experiment's name": (TRIAL, "experiment: trial", "experiment: nightly/trial", f"{TRIAL}:1: experiment: 'nightly/trial' is no name; use letters, digits, - and _"),
    "a judge model that is a program": (WORLD, "count: 20", "count: 20\njudge: rubric", f"{WORLD}:3: the judge rubric of the suite world asks the model of the role `judge`, which is bound to a programmatic judge"),
    "a dev share of a suite that has none": (WORLD, "count: 20", "count: 20\ndev: 20%", f"{WORLD}:3: dev: the suite block world of world has no such option: it cannot set a share of its items apart; it has a dev split of its own"),
    "a dev share that is none": (WORLD, "suite: world\ncount: 20", "suite: halves\ndev: much", f"{WORLD}:2: dev: should be a share such as"),
    "an unknown prompt pack": (TRIAL, "student: model", "student: {path: model, prompts: genral}", f"{TRIAL}:2: prompts: there is no prompt pack 'genral'; did you mean 'general'?"),
    "a prompt pack that is not there": (TRIAL, "student: model", "student: {path: model, prompts: gone.yaml}", f"{TRIAL}:2: there is no file or folder "),
    "a file that is no prompt pack": (TRIAL, "student: model", "student: {path: model, prompts: recipes/pick.yaml}", f"{PICK}: a prompt pack should hold `version:` and `prompts:`"),
    "a tokenizer that is none": (TRIAL, "student: model", "student: {url: 'http://h/v1', model: m, tokenizer: .}", f"{TRIAL}:2: "),
    "a tokenizer of a folder": (TRIAL, "student: model", "student: {path: model, engine: openai, tokenizer: model}", f"{TRIAL}:2: models.student.tokenizer: only a served model (`url:`) has this"),
    "a deadline of a local model": (TRIAL, "student: model", "student: {path: model, deadline: 3}", f"{TRIAL}:2: models.student.deadline: only a served model (`url:`) has this"),
    "a url that is none": (TRIAL, "student: model", "student: {url: 'http://[h/v1', model: m}", f"{TRIAL}:2: models.student.url: should begin with http:// or https:// and name a server"),
    "a url with a port that is none": (TRIAL, "student: model", "student: {url: 'http://h:port/v1', model: m}", f"{TRIAL}:2: models.student.url: should begin with http:// or https:// and name a server"),
    "a password in a url of data": (TRIAL, "pool: rows.jsonl", "pool: {url: 'https://me:hunter2@h/x.json', sha256: '" + "0" * 64 + "'}", f"{TRIAL}:3: url: should hold no user or password"),
    "a password in a url": (TRIAL, "student: model", "student: {url: 'https://me:hunter2@h/v1', model: m}", f"{TRIAL}:2: models.student.url: should hold no user, password or query"),
    "a key in a url": (TRIAL, "student: model", "student: {url: 'https://h/v1?key=abc123', model: m}", f"{TRIAL}:2: models.student.url: should hold no user, password or query"),
    "a url without its scheme": (TRIAL, "student: model", "student: {url: 'localhost:8000/v1', model: m}", f"{TRIAL}:2: models.student.url: should begin with http:// or https://"),
    "a url without a model": (TRIAL, "student: model", "student: {url: 'http://h/v1'}", f"{TRIAL}:2: models.student.model: is required"),
    "a price below zero": (TRIAL, "student: model", "student: {url: 'http://h/v1', model: m, prices: {prompt: -1, completion: 1}}", f"{TRIAL}:2: prices.prompt: "),
    "concurrency of a folder": (TRIAL, "student: model", "student: {path: model, concurrency: 4}", f"{TRIAL}:2: models.student.concurrency: only a served model"),
    "options of a served model": (TRIAL, "student: model", "student: {url: 'http://h/v1', model: m, options: {concurrency: 4}}", f"{TRIAL}:2: models.student.options: a served model has none; beside `url:` write api_key_env, body, concurrency"),
    "an engine for a server": (TRIAL, "student: model", "student: {url: 'http://h/v1', model: m, engine: vllm}", f"{TRIAL}:2: models.student.engine: a served model (`url:`) is run by its server"),
    "a header in the file": (TRIAL, "student: model", "student: {url: 'http://h', options: {headers: {X-Me: abc123}}}", f"{TRIAL}:2: headers: keys do not belong in a file"),
    "a header in a list": (TRIAL, "student: model", "student: {url: 'http://h', options: {send: [{Authorization: abc123}]}}", f"{TRIAL}:2: Authorization: keys do not belong in a file"),
    "an unknown format": (TRIAL, "pool: rows.jsonl", "pool: {path: rows.jsonl, format: alpacca}", f"{TRIAL}:3: format: there is no \"alpacca\"; did you mean 'alpaca'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_mistake(project: Project, name: str) -> None:
    file, old, new, expected = CASES[name]
    if name.startswith("feedback"):
        project.replace(WORLD, "count: 20", "count: 20\nhas_dev: false")
    project.replace(file, old, new)
    found = project.mistakes()
    assert any(text.startswith(expected) for text in found), found


def test_all_mistakes_of_all_files_come_together(project: Project) -> None:
    project.replace(TRIAL, "seeds: 3", "sedes: 3")
    project.replace(TRIAL, "baseline: pick", "baseline: nobody")
    project.replace(PICK, "by: ifd", "bye: ifd")
    project.replace(CHAIN, "as: kept", "as: made")
    project.replace(WORLD, "20", "twenty")
    found = "\n".join(project.mistakes())
    for part in (f"{TRIAL}:6", f"{PICK}:6", f"{PICK}:5: by: is required", f"{CHAIN}:5", f"{WORLD}:2"):
        assert part in found


def test_one_mistake_is_said_once_however_often_its_file_is_used(project: Project) -> None:
    project.replace(TRIAL, "seeds: 3", "vary: {pick.sft.epochs: [1, 2, 3]}")
    project.replace(PICK, "by: ifd", "bye: ifd")
    assert sum("unknown key 'bye'" in text for text in project.mistakes()) == 1


def test_a_secret_is_never_repeated(project: Project) -> None:
    project.replace(TRIAL, "student: model", "student: {url: 'http://h', api_key: abc123, api_key_env: sk-abc123}")
    assert "abc123" not in "\n".join(project.mistakes())


@pytest.mark.parametrize(
    "setting",
    [
        "models.teacher.api_key=abc123",
        "models.teacher.options.Authorization=abc123",
        "models.teacher={path: model, password: abc123}",
        "models.teacher={options: {x-api-key: abc123}}",
        "train.api-key=abc123",
        "train={headers: {A: abc123}}",
        "seeds={token: abc123}",
        "seeds.token=abc123",
        "nothing.secret=abc123",
    ],
)
def test_a_secret_on_the_command_line_is_never_repeated(project: Project, setting: str) -> None:
    found = "\n".join(project.mistakes(setting))
    assert "abc123" not in found
    assert f"--set {setting.partition('=')[0]}=***" in found


def test_a_judge_model_without_a_judge(project: Project) -> None:
    project.replace(TRIAL, ", judge: pocket/oracle", "")
    project.replace(WORLD, "count: 20", "count: 20\njudge: rubric")
    expected = f"{WORLD}:3: the judge rubric of the suite world asks the model of the role `judge`, which is not bound"
    assert any(text.startswith(expected) for text in project.mistakes())


def test_a_judge_with_a_mistake_is_not_missing_as_well(project: Project) -> None:
    project.replace(TRIAL, "pocket/oracle", "pocket/oralce")
    assert not any("judge" in text and "needs" in text for text in project.mistakes())


def test_a_dev_share_that_nothing_sets_apart_is_no_dev_split(project: Project) -> None:
    project.replace(WORLD, "count: 20", "count: 20\nhas_dev: false\ndev: 20%")
    project.replace(CHAIN, "magpie, as", "magpie, focus: feedback, as")
    found = project.mistakes()
    assert any("cannot set a share of its items apart" in text for text in found)


def test_an_experiment_that_is_nowhere(project: Project) -> None:
    (found,) = project.mistakes(name="trail")
    assert found.startswith("there is no experiment named 'trail'; did you mean 'trial'? Known: ")
    assert {"quickstart", "trial"} <= set(found.split("Known: ")[1].rstrip(".").split(", "))
    assert project.mistakes(name="gone.yaml") == ["there is no file gone.yaml"]


def test_an_unset_variable_says_what_to_set(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIAL_FOLDER", raising=False)
    project.replace(TRIAL, "rows.jsonl", "'${TRIAL_FOLDER}/rows.jsonl'")
    assert any("the environment variable TRIAL_FOLDER is not set" in text for text in project.mistakes())
    monkeypatch.setenv("TRIAL_FOLDER", str(project.root / "experiments"))
    assert project.load().data["pool"].path == str(project.root / "experiments/rows.jsonl")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("pick.top.kep=5%", "--set pick.top.kep=5%: unknown key 'kep'; did you mean 'keep'?"),
        ("pick.top.keep=# 5%", "--set pick.top.keep=# 5%: the value begins with #, which YAML takes for a comment"),
        ("pick.tpo.keep=5%", "--set pick.tpo.keep=5%: the recipe has no step 'tpo'; did you mean 'top'?"),
        ("pikc.top.keep=5%", "--set pikc.top.keep=5%: there is no 'pikc' to set; did you mean 'pick'?"),
        ("seeds", "--set seeds: should be address=value"),
        ("seeds=x", "--set seeds=x: seeds: should be a whole number or a list"),
        ("chain.sft.epochs=1", "--set chain.sft.epochs=1: the recipe has no step"),
        ("seeds=[1", "--set seeds=[1: is not valid YAML"),
        ("seeds.x=1", "--set seeds.x=1: there is nothing at seeds.x"),
        ("pick.top.as=x", "--set pick.top.as=x: as makes another recipe"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_flag(project: Project, override: str, expected: str) -> None:
    if override.startswith("chain.sft"):
        project.replace(CHAIN, "as: tuned", "as: sft2")
        project.replace(CHAIN, "model: tuned", "model: sft2")
        project.replace(CHAIN, "start: tuned", "start: sft2")
        override, expected = (
            "chain.stf.epochs=1",
            "--set chain.stf.epochs=1: the recipe has no step 'stf'; did you mean 'sft'?",
        )
    assert any(text.startswith(expected) for text in project.mistakes(override)), project.mistakes(override)


def test_two_steps_of_one_name_ask_for_a_name(project: Project) -> None:
    project.replace(PICK, "- finetune: sft", "- {select: top, by: ifd, keep: 1}\n  - finetune: sft")
    assert project.mistakes("pick.top.keep=3") == [
        "--set pick.top.keep=3: 2 steps are called 'top'; give the one you mean a name with `as`"
    ]


def test_recipes_of_one_name(project: Project) -> None:
    project.replace(TRIAL, "[pick, chain]", "[pick, {recipe: pick, steps: [{finetune: sft}]}]")
    assert f"{TRIAL}:4: two recipes are named 'pick'; each needs a name of its own" in project.mistakes()


def test_datasets_in_a_circle(project: Project) -> None:
    project.write("datasets_cfg/one.yaml", "dataset: one\nuse: two\n")
    project.write("datasets_cfg/two.yaml", "dataset: two\nuse: one\n")
    project.replace(TRIAL, "rows.jsonl", "one")
    assert any("datasets refer to each other in a circle: one -> two -> one" in text for text in project.mistakes())


def test_two_sources_of_one_name(project: Project) -> None:
    project.write("experiments/other/rows.jsonl", "{}")
    project.replace(TRIAL, "pool: rows.jsonl", "pool: rows.jsonl, more: other/rows.jsonl")
    assert any(
        text.startswith(f"{TRIAL}:3: data: more and pool are both named 'rows.jsonl'") for text in project.mistakes()
    )
