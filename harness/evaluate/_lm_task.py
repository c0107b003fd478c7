"""lm-eval's task objects: built from its own YAML, on local files where they are given. Heavy: for workers only.

Contexts, few-shot examples, filters and metrics are all lm-eval's. Only the data may come from elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.evaluate import _lm_spec

Row = dict[str, Any]
_CHAT = "\x00chat\x00"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a task is built from. `test` and `train` are local rows; None leaves the data to the task's own source."""

    file: Path
    overrides: Mapping[str, Any]
    test: Sequence[Row] | None
    train: Sequence[Row] | None
    fewshot: int | None


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """How contexts are rendered: as plain text, or as conversations."""

    chat: bool
    multiturn: bool
    system: str | None
    limit: int | None
    seed: int
    """Of the choice of examples: lm-eval draws them document by document from one stream."""


@dataclass(frozen=True)
class Wanted:
    """One request of a document. `messages` instead of `context` where a chat template renders it.

    `continuation` is scored; without one, the context is continued as `generation` says.
    """

    context: str
    messages: tuple[Mapping[str, str], ...] | None
    continuation: str | None
    generation: Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """One document of the task: its number, its text without examples, lm-eval's requests, and its target as text.

    `choice` is the index of the right request, where the task is a choice between them.
    """

    number: int
    text: str
    choice: int | None
    requests: tuple[Wanted, ...]
    target: str
    repeats: int


def build(source: Source) -> Any:
    """lm-eval's task object.

    Raises:
        UserError: the task needs what this adapter does not do, or examples or documents that are not given.
    """
    # Before lm-eval reads the file: resolving its `!function` references already runs the task's Python.
    _refuse({**_lm_spec.read(source.file), **source.overrides}, source.file)
    with quiet():
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks._yaml_loader import load_yaml

        config: Row = {**load_yaml(source.file), **source.overrides}
        for key in ("tag", "group", "task_list"):
            config.pop(key, None)
        shots = source.fewshot if source.fewshot is not None else config.get("num_fewshot") or 0
        config["num_fewshot"] = shots
        if source.test is not None:
            _localise(config, source.test, source.train, shots)
        return ConfigurableTask(config=config)


def documents(task: Any, prompting: Prompting) -> list[Document]:
    """All documents with their requests, in lm-eval's order (it draws few-shot examples in that order)."""
    with quiet(), _templates_compiled_once():
        task.set_fewshot_seed(seed=prompting.seed)
        task.build_all_requests(
            limit=prompting.limit,
            system_instruction=prompting.system,
            apply_chat_template=prompting.chat,
            fewshot_as_multiturn=prompting.multiturn if prompting.chat else False,
            chat_template=_as_messages if prompting.chat else None,
            tokenizer_name="messages" if prompting.chat else "",
        )
    grouped: dict[int, list[Any]] = {}
    for instance in task.instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    return [_document(task, number, group) for number, group in grouped.items()]


def process(
    task: Any, numbers: Sequence[int], responses: Sequence[Sequence[Sequence[Any]]]
) -> list[dict[str, dict[str, Any]]]:
    """lm-eval's own metrics of answered documents: filter name to metric name to value.

    `responses` holds, per document and request, the list of responses: texts, or (log-likelihood, greedy).
    """
    with quiet(), _templates_compiled_once():
        from lm_eval.api.instance import Instance

        docs, instances, per_document = task.eval_docs, [], []
        for number, given in zip(numbers, responses, strict=True):
            doc = docs[number]
            made = [
                Instance("generate_until", doc, (), i, (None, number, 1), resps=list(r)) for i, r in enumerate(given)
            ]
            instances += made
            per_document.append((doc, made))
        for ensemble in task._filters if instances else ():  # noqa: SLF001  lm-eval's evaluator reads it the same way
            ensemble.apply(instances)
        return [
            {
                name: task.process_results(doc, [instance.filtered_resps[name] for instance in made])
                for name in made[0].filtered_resps
            }
            for doc, made in per_document
        ]


def number(value: Any) -> float | None:
    """A metric's value as a number; the mean of a list of them; None where it is neither (or not finite)."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, bool | int | float) for v in value):
        value = sum(value) / len(value)
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps lm-eval's progress bars and notes away from the terminal; its errors are raised, not logged."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _templates_compiled_once() -> Iterator[None]:
    """lm-eval compiles the same few Jinja templates anew for every row: nine tenths of the time for GSM8K's prompts."""
    from lm_eval.utils import env

    original = env.from_string
    env.from_string = lru_cache(maxsize=256)(original)
    try:
        yield
    finally:
        env.from_string = original


def _refuse(config: Row, file: Path) -> None:
    why = {
        "class": "is a Python class of its own",
        "unsafe_code": "runs code that the model writes",
        "doc_to_image": "shows images",
        "doc_to_audio": "plays audio",
    }
    found = next((reason for key, reason in why.items() if config.get(key)), None)
    if config.get("output_type") == "loglikelihood_rolling":
        found = "measures perplexity of whole texts"
    if "task" not in config or isinstance(config["task"], list):
        found = "is a group of tasks"
    if found:
        raise UserError(f"lm-eval task {file.name} {found}, which the lm_eval suite does not do")


def _localise(config: Row, test: Sequence[Row], train: Sequence[Row] | None, shots: int) -> None:
    """Puts local rows where the task expects its own splits, and takes away the splits that have no rows."""
    documents = config.get("test_split") or config.get("validation_split") or "test"
    examples = config.get("fewshot_split") or config.get("training_split") or "train"
    own_examples = bool((config.get("fewshot_config") or {}).get("samples"))
    if shots and not train and not own_examples:
        raise UserError(
            f"task {config['task']} shows {shots} examples: name their file as `train_path`, or set `fewshot: 0`"
        )
    splits = {documents: list(test)}
    config.update(test_split=documents, validation_split=None, training_split=None, fewshot_split=None)
    if train and not own_examples:
        if examples == documents:
            examples = "train"
        splits[examples] = list(train)
        config.update(training_split=examples, fewshot_split=examples)
        if config.get("fewshot_config"):
            config["fewshot_config"] = {**config["fewshot_config"], "split": examples}
    config.update(dataset_path=None, dataset_name=None, dataset_kwargs=None, custom_dataset=_dataset(splits))


def _dataset(splits: Mapping[str, list[Row]]) -> Callable[..., Any]:
    def make(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()})

    return make


def _as_messages(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    """Stands where a tokenizer's chat template would: keeps the conversation, which `records.chat` renders later."""
    if not add_generation_prompt:
        raise UserError("a task that begins the model's answer itself (gen_prefix) needs `chat_template: false`")
    return _CHAT + json.dumps([{"role": m["role"], "content": m["content"]} for m in messages])


def _document(task: Any, doc_number: int, instances: Sequence[Any]) -> Document:
    doc = instances[0].doc
    target, text = task.doc_to_target(doc), task.doc_to_text(doc)
    choice = text if isinstance(text, int) else target if isinstance(target, int) else None
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else None
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int) and choices is not None:
        target = choices[target]
    wanted = tuple(_wanted(instance) for instance in instances)
    text = text if isinstance(text, str) else "\n".join(request.context for request in wanted)
    return Document(
        doc_number, text, choice if choices is not None else None, wanted, str(target), int(task.config.repeats or 1)
    )


def _wanted(instance: Any) -> Wanted:
    context, second = instance.args[0], instance.args[1]
    messages = None
    if context.startswith(_CHAT):
        messages, context = tuple(json.loads(context.removeprefix(_CHAT))), ""
    if instance.request_type == "generate_until":
        return Wanted(context, messages, None, dict(second))
    return Wanted(context, messages, str(second), {})
