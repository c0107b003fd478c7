"""lm-eval's names: found without its index, in the shipped one, near misses, groups and tags."""

from __future__ import annotations

import gzip
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.evaluate import _lm_metrics, _lm_names, _lm_spec
from harness.evaluate.lm_eval import LMEval


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k_cot", "arc_challenge", "hellaswag", "winogrande", "truthfulqa_mc2"])
def test_common_tasks_need_no_index(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lm_names, "_index", lambda: pytest.fail("the index was read"))
    _lm_names.find.cache_clear()
    (leaf,) = _lm_spec.tree((name,)).leaves()
    assert leaf.name == name
    assert leaf.version() != "none"


def test_the_shipped_index_is_of_the_pinned_version() -> None:
    found = json.loads(gzip.decompress(_lm_names.SHIPPED.read_bytes()))
    assert found["version"] == version("lm-eval")
    assert len(found["names"]) > 14_000
    assert all(not path or not Path(path).is_absolute() for _, path, _ in found["names"].values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_index_is_lm_evals_own() -> None:
    found = json.loads(gzip.decompress(_lm_names.SHIPPED.read_bytes()))["names"]
    assert found == json.loads(json.dumps(_lm_names.build()))


def test_a_group_is_its_tasks_with_their_weights() -> None:
    mmlu = _lm_spec.tree(("mmlu",))
    assert len(mmlu.leaves()) == 57
    assert {"mmlu", "mmlu_stem", "mmlu_humanities"} <= {group.name for group in mmlu.groups()}
    assert mmlu.weights == {"acc": True}
    assert [m.name for m in LMEval(task="mmlu").metrics()] == ["acc"]


def test_a_tag_and_a_list_are_suites_of_several_tasks() -> None:
    for task in ("ai2_arc", ["arc_challenge", "arc_easy"]):
        suite = LMEval(task=task)
        assert [leaf.name for leaf in suite._tree().leaves()] == ["arc_challenge", "arc_easy"]
        assert [m.name for m in suite.metrics()] == ["acc", "acc_norm"]


def test_tasks_without_a_common_metric_make_no_suite() -> None:
    with pytest.raises(UserError, match="no metric in common"):
        LMEval(task="truthfulqa").metrics()


@pytest.mark.parametrize(
    ("name", "near"), [("gsm8q", "gsm8k"), ("hellaswagg", "hellaswag"), ("mmlu_anatomie", "mmlu_anatomy")]
)
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"no task, group or tag named '{name}': did you mean [^?]*{near}"):
        LMEval(task=name).metrics()


def test_groups_of_ones_own_find_the_tasks_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("task: alpha\noutput_type: multiple_choice\nmetadata: {version: 7}\n")
    (tmp_path / "g.yaml").write_text("group: mine\ntask:\n  - alpha\n  - {task: arc_easy, num_fewshot: 4}\n")
    alpha, easy = _lm_spec.tree((str(tmp_path / "g.yaml"),)).leaves()
    assert (alpha.file, alpha.version()) == (tmp_path / "a.yaml", "7")
    assert easy.spec()["num_fewshot"] == 4
    (tmp_path / "bad.yaml").write_text("group: bad\ntask:\n  - {task: arc_easy, process_docs: !function x.y}\n")
    with pytest.raises(UserError, match="sets Python functions"):
        _lm_spec.tree((str(tmp_path / "bad.yaml"),))


def test_defaults_are_those_of_lm_evals_registry() -> None:
    from lm_eval.api import metrics, registry

    assert {kind: list(names) for kind, names in _lm_metrics.DEFAULT_METRICS.items()} == {
        kind: list(names) for kind, names in registry.DEFAULT_METRIC_REGISTRY.items()
    }
    for name in registry.metric_agg_registry:
        ours = _lm_metrics.DEFAULT_AGGREGATIONS.get(name, "mean")
        assert registry.get_metric_aggregation(name) is registry.get_aggregation(ours), name
    lower = {name for name in registry.higher_is_better_registry if not registry.is_higher_better(name)}
    assert lower == set(_lm_metrics.LOWER_IS_BETTER)
    assert metrics.mean([1, 2]) == 1.5


def test_another_version_of_package_or_task_is_another_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, rows = tmp_path / "t.yaml", tmp_path / "rows.jsonl"
    rows.write_text('{"q": "a", "a": "b"}\n')
    text = "task: t\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\nmetadata: {version: 1}\n"
    task.write_text(text)
    suite = LMEval(task=str(task), test_path=str(rows))
    first = suite.fingerprint("test")
    assert any("t version 1" in note and version("lm-eval") in note for note in suite.notes())
    monkeypatch.setattr(_lm_spec, "version", lambda _: "0.4.14")
    assert suite.fingerprint("test") != first
    monkeypatch.undo()
    assert suite.fingerprint("test") == first
    task.write_text(text.replace("version: 1", "version: 2"))
    _lm_spec.tree.cache_clear()
    assert suite.fingerprint("test") != first
