"""Corpus metrics, tasks and groups of an lm-eval suite: values by lm-eval's functions, intervals by ours."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.blocks.kinds import Grade
from harness.evaluate._lm_metrics import shared
from harness.evaluate._lm_spec import Group, Leaf, tree
from harness.evaluate._lm_summary import RAW, jackknife, summary
from harness.stats import score


def graded(task: str, number: int, value: float | None, raw: object = None) -> Grade:
    name = f"{task}/test/{number}"
    tags = {} if raw is None else {RAW: json.dumps({"item_ppl": raw})}
    return Grade(id=name, item=name, cluster=name, category=task, values={"acc": value}, tags=tags)


def leaf(folder: Path, name: str, metrics: str) -> Leaf:
    file = folder / f"{name}.yaml"
    file.write_text(f"task: {name}\noutput_type: multiple_choice\nmetric_list: [{metrics}]\n")
    return Leaf(name, file)


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 80).tolist()
    found, known = jackknife(values, lambda rows: sum(rows) / len(rows)), score(values)
    assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high))
    assert (found.n, found.missing) == (80, 0)


def test_the_jackknife_covers_a_ratio_and_stays_positive() -> None:
    rng, truth, hits = np.random.default_rng(1), math.exp(2.0), 0
    for _ in range(200):
        words = rng.integers(20, 200, 60)
        rows = [(-float(w * (2.0 + rng.normal(0, 0.3))), int(w)) for w in words]
        found = jackknife(rows, lambda r: math.exp(-sum(a for a, _ in r) / sum(b for _, b in r)), log=True)
        assert found.low is not None
        assert found.high is not None
        assert found.low > 0
        hits += found.low <= truth <= found.high
    assert hits >= 0.9 * 200


def test_one_value_has_no_interval() -> None:
    found = jackknife([2.0], lambda rows: rows[0])
    assert (found.value, found.low, found.high, found.n) == (2.0, None, None, 1)


def test_corpus_metrics_are_lm_evals_own_and_say_what_is_missing(tmp_path: Path) -> None:
    one = leaf(tmp_path, "one", "{metric: acc, aggregation: mean}, {metric: ppl, aggregation: weighted_perplexity}")
    raw = [(-30.0 - i, 10 + i) for i in range(12)]
    grades = [graded("one", i, 1.0, pair) for i, pair in enumerate(raw)]
    metrics, group = shared([one], {}), Group("one", (one,))
    whole = summary(group, metrics, {}, grades)
    assert whole["ppl"] == pytest.approx(math.exp(-sum(a for a, _ in raw) / sum(b for _, b in raw)))
    assert (whole["ppl.n"], whole["ppl.missing"]) == (12, 0)
    assert (whole["ppl.low"] or 0) < (whole["ppl"] or 0) < (whole["ppl.high"] or 0)
    lost = summary(group, metrics, {}, [*grades[:-1], graded("one", 11, None)])
    assert (lost["ppl.n"], lost["ppl.missing"], lost["ppl.low"], lost["ppl.high"]) == (11, 1, None, None)
    none = summary(group, metrics, {}, [graded("one", 0, None)])
    assert (none["ppl"], none["ppl.missing"]) == (None, 1)


def test_groups_weigh_tasks_as_they_say(tmp_path: Path) -> None:
    parts = tuple(leaf(tmp_path, name, "{metric: acc, aggregation: mean}") for name in ("big", "small"))
    grades = [graded("big", i, float(i % 4 == 0)) for i in range(40)] + [graded("small", i, 1.0) for i in range(10)]
    by_size = summary(Group("g", parts, {"acc": True}), shared(parts, {}), {}, grades)
    alike = summary(Group("g", parts, {"acc": False}), shared(parts, {}), {}, grades)
    assert (by_size["acc:big"], by_size["acc:small"], by_size["acc:g"]) == (0.25, 1.0, 0.4)
    assert alike["acc:g"] == pytest.approx(0.625)
    assert (alike["acc:g.n"], alike["acc:g.missing"]) == (50, 0)
    low, high = alike["acc:g.low"], alike["acc:g.high"]
    assert low is not None
    assert high is not None
    assert low < 0.625 < high
    assert low >= ((by_size["acc:big.low"] or 0) + (by_size["acc:small.low"] or 0)) / 2, "joined, so narrower"
    gone = [*grades[:40], *(graded("small", i, None) for i in range(10))]
    lost = summary(Group("g", parts, {"acc": False}), shared(parts, {}), {}, gone)
    assert (lost["acc:g"], lost["acc:g.missing"], lost["acc:big"]) == (None, 10, 0.25), "no mean of who remained"


def test_a_single_task_has_no_lines_of_its_own() -> None:
    group = tree(("gsm8k",))
    grades = [
        Grade(id=str(i), item=str(i), cluster=str(i), category="gsm8k", values={"strict-match": 1.0}) for i in range(3)
    ]
    assert summary(group, shared(group.leaves(), {}), {}, grades) == {}
