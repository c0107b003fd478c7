"""One suite twice: through our engine and suite, and through lm-eval's own evaluation with its `hf` model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.blocks.kinds import Answer, Context, EvalItem, Grade
from harness.engines.base import ModelSpec
from harness.engines.transformers import TransformersEngine
from harness.evaluate.lm_eval import LMEval
from harness.loop.drive import Desk, drive

Rows = Sequence[Mapping[str, Any]]


def engine_of(folder: Path, **options: int) -> TransformersEngine:
    return TransformersEngine(ModelSpec(name="tiny", path=folder, device="cpu", options=options))


def write(folder: Path, task: str, **splits: Rows) -> None:
    """`<folder>/<task>/<split>.jsonl`, as the option `folder` reads it."""
    for split, rows in splits.items():
        file = folder / task / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ours(engine: TransformersEngine, suite: LMEval) -> tuple[list[EvalItem], list[Answer], list[Grade]]:
    """Items, answers and grades of the suite with this model."""
    items, context = suite.items("test"), Context(chats={"model": engine.chat})
    desk = Desk(engine=lambda _: engine, context=context)
    found = drive({item.id: suite.answer(item, context) for item in items}, desk)
    answers = [found[item.id] for item in items]
    assert all(isinstance(answer, Answer) for answer in answers), answers
    grades = drive({"all": suite.grade(items, answers, None, context)}, desk, tolerate=False)["all"]
    return items, answers, grades


def theirs(folder: Path, suite: LMEval, cache: Path, **options: Any) -> dict[str, Any]:
    """lm-eval's own run: its YAML on the same files through the datasets library, its `hf` model, one row at a time."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = HFLM(
        pretrained=AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        batch_size=1,
        device="cpu",
    )
    return evaluated(model, suite, cache, simple_evaluate, TaskManager(include_defaults=False), **options)


def evaluated(model: Any, suite: LMEval, cache: Path, evaluate: Any, manager: Any, **options: Any) -> dict[str, Any]:
    """The results of lm-eval's evaluation of the suite's tasks with any model of its interface."""
    if suite.max_tokens is not None:
        options["gen_kwargs"] = f"max_gen_toks={suite.max_tokens}"
    options |= {"apply_chat_template": suite.chat_template, "system_instruction": suite.system}
    options |= {"fewshot_as_multiturn": suite.multiturn and suite.chat_template}
    done: dict[str, Any] = evaluate(
        model,
        tasks=[task_of(suite, leaf, cache) for leaf in suite._tree().leaves()],
        num_fewshot=suite.fewshot,
        task_manager=manager,
        bootstrap_iters=0,
        **options,
    )
    return done


def task_of(suite: LMEval, leaf: Any, cache: Path) -> dict[str, Any]:
    """The task's own YAML as a mapping, with nothing changed but where its rows come from."""
    from lm_eval.tasks._yaml_loader import load_yaml

    files = {split: [str(p) for p in paths] for split, paths in suite._files(leaf).items()}
    config: dict[str, Any] = load_yaml(leaf.file)
    config.pop("tag", None)
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in files:
            config.pop(key, None)
    kwargs = {"data_files": files, "cache_dir": str(cache)}
    return config | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": kwargs}


def assert_equal_item_by_item(
    run: tuple[list[EvalItem], list[Answer], list[Grade]], reference: Mapping[str, Any], metrics: Sequence[str]
) -> int:
    """Every response and every metric of every item; returns how many samples were compared."""
    import pytest

    samples = {(task, s["doc_id"], s["filter"]): s for task, rows in reference["samples"].items() for s in rows}
    count = 0
    for item, answer, grade in zip(*run, strict=True):
        for (task, number, filter_name), sample in samples.items():
            if (task, number) != (item.category, item.data["doc"]):
                continue
            count += 1
            said = [response for responses in sample["resps"] for response in responses]
            if "loglikelihoods" in answer.data:
                want = [s if isinstance(s, tuple | list) else (s, None) for s in said]
                for (value, greedy), (other, flag) in zip(answer.data["loglikelihoods"], want, strict=True):
                    assert value == pytest.approx(other, abs=2e-3, rel=1e-5), item.id
                    assert flag is None or flag == greedy, item.id
            else:
                assert list(answer.outputs) == said, item.id
            for metric in metrics:
                name = metric if filter_name == "none" else filter_name
                assert grade.values[name] == pytest.approx(float(sample[metric]), abs=1e-5), (item.id, metric)
    assert count == len(samples) >= len(run[0])
    return count
