"""lm-eval's task objects: built from its own YAML, on local files where they are given. Heavy: for workers only.

Contexts, few-shot examples, filters and metrics are all lm-eval's. Only the data may come from elsewhere.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.errors import UserError
from harness.evaluate import _lm_data
from harness.evaluate._lm_quiet import quiet
from harness.evaluate._lm_spec import Leaf, Spec

Row = dict[str, Any]
GENERATE, SCORE, ROLLING = "generate_until", "loglikelihood", "loglikelihood_rolling"
_CHAT = "\x00chat\x00"
_REFUSED = {
    "class": "is a Python class of its own",
    "unsafe_code": "runs code that the model writes",
    "doc_to_image": "shows images",
    "doc_to_audio": "plays audio",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a task is built from. `splits` or `test` (with `train`) are local rows; without, the task fetches its own.

    `revision` is the commit of the dataset on the hub.
    """

    leaf: Leaf
    config: Mapping[str, Any]
    fewshot: int | None
    splits: Mapping[str, Sequence[Row]] | None = None
    test: Sequence[Row] | None = None
    train: Sequence[Row] | None = None
    revision: str | None = None


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
    """One request of a document, of lm-eval's kind `kind`.

    `messages` stand in the place of `context` where a chat template renders it; `unfinished`: the last of them is the
    beginning of the answer. `continuation` is scored (of kind ROLLING: by itself); `generation` says how to continue.
    """

    kind: str
    context: str = ""
    messages: tuple[Mapping[str, str], ...] | None = None
    unfinished: bool = False
    continuation: str | None = None
    generation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Document:
    """One document of the task: its number, its text without examples, lm-eval's requests, and its target as text.

    `choice` is the index of the right request, where the task is a choice between them; `telling` is False where the
    target is no answer (a checker decides, say).
    """

    number: int
    text: str
    choice: int | None
    requests: tuple[Wanted, ...]
    target: str
    repeats: int
    telling: bool


def build(source: Source) -> Any:
    """lm-eval's task object.

    Raises:
        UserError: the task needs what this adapter does not do, a package that is not there, or data that are not.
    """
    spec = {**source.leaf.spec(), **source.config}
    # Before lm-eval reads the file: resolving its `!function` references already runs the task's Python.
    if refused := next((why for key, why in _REFUSED.items() if spec.get(key)), None):
        raise UserError(f"lm-eval task {source.leaf.name} {refused}, which the lm_eval suite does not do")
    with quiet():
        config = _config(source)
        shots = source.fewshot if source.fewshot is not None else config.get("num_fewshot") or 0
        config["num_fewshot"] = shots
        if source.splits is not None:
            _lm_data.use_folder(config, source.splits, shots)
        elif source.test is not None:
            _lm_data.use_rows(config, source.test, source.train, shots)
        elif source.revision is not None:
            config["dataset_kwargs"] = {**(config.get("dataset_kwargs") or {}), "revision": source.revision}
        return _constructed(config, source)


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

    `responses` holds, per document and request, the list of responses: texts, (log-likelihood, greedy), or one
    log-likelihood of a whole text.

    Raises:
        UserError: a metric needs a data file that is not there.
    """
    with quiet(), _templates_compiled_once(), _resources_named(task.task_name):
        from lm_eval.api.instance import Instance

        docs, instances, per_document = task.eval_docs, [], []
        for number, given in zip(numbers, responses, strict=True):
            doc = docs[number]
            made = [
                Instance(task.OUTPUT_TYPE, doc, (), i, (task.task_name, number, len(r)), resps=list(r))
                for i, r in enumerate(given)
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


def _config(source: Source) -> Spec:
    """The task's mapping with its Python functions, as lm-eval's own loader gives it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: Spec = load_yaml(source.leaf.file)
    except ImportError as error:
        raise UserError(
            f"lm-eval task {source.leaf.name} needs a Python package that is not installed ({error}): "
            f"`pip install {error.name}`, or lm-eval with this task's extra (`lm-eval[ifeval]`, say)"
        ) from error
    config |= {**source.leaf.overrides, **source.config, "task": source.leaf.name}
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    return config


def _constructed(config: Spec, source: Source) -> Any:
    from lm_eval.api.task import ConfigurableTask

    local = source.splits is not None or source.test is not None
    path, part = config.get("dataset_path"), config.get("dataset_name")
    try:
        return ConfigurableTask(config=config)
    except (OSError, ValueError) as error:  # what the datasets library raises when it cannot reach the hub
        if local:
            raise
        raise UserError(
            f"the data of lm-eval task {source.leaf.name} ({path}{f', {part}' if part else ''}) are neither in this "
            f"machine's Hugging Face cache nor can they be fetched: {str(error).splitlines()[0]}. Where there is a "
            f"network, run `hf download {path} --repo-type dataset --local-dir FOLDER`, bring FOLDER here, and write "
            "`folder: FOLDER` into the suite; rows of your own will do as well (`test_path`, `train_path`)"
        ) from error


@contextlib.contextmanager
def _resources_named(task: str) -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        if type(error) is not LookupError or "nltk" not in str(error).lower():
            raise
        raise UserError(
            f"lm-eval task {task} needs NLTK's sentence data, which are not on this machine: run "
            "`python -m nltk.downloader punkt_tab` where there is a network, and bring the folder `nltk_data` here"
        ) from error


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


def _as_messages(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    """Stands where a tokenizer's chat template would: keeps the conversation, which `records.chat` renders later."""
    turns = [{"role": m["role"], "content": m["content"]} for m in messages]
    return _CHAT + json.dumps([not add_generation_prompt, turns])


def _document(task: Any, doc_number: int, instances: Sequence[Any]) -> Document:
    doc = instances[0].doc
    target, text = task.doc_to_target(doc), task.doc_to_text(doc)
    choice = text if isinstance(text, int) else target
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else None
    if isinstance(choice, list):
        choice = choice[0] if choice else None
    if isinstance(choice, str) and choices is not None:
        choice = choices.index(choice) if choice in choices else None
    telling = not callable(task.config.process_results) or choices is not None
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int) and choices is not None:
        target = choices[target]
    wanted = tuple(_wanted(instance) for instance in instances)
    if not isinstance(text, str):  # the choices are what stands before the target
        text = "\n".join(f"{one} {target}" for one in choices or ())
    if not text:
        text = "\n".join(request.continuation or request.context for request in wanted)
    right = choice if choices is not None and isinstance(choice, int) else None
    return Document(doc_number, text, right, wanted, str(target), int(task.config.repeats or 1), telling)


def _wanted(instance: Any) -> Wanted:
    if instance.request_type == ROLLING:
        return Wanted(ROLLING, continuation=str(instance.args[0]))
    context, second = instance.args[0], instance.args[1]
    messages, unfinished = None, False
    if context.startswith(_CHAT):
        (unfinished, turns), context = json.loads(context.removeprefix(_CHAT)), ""
        messages = tuple(turns)
    if instance.request_type == GENERATE:
        return Wanted(GENERATE, context, messages, unfinished, None, dict(second))
    return Wanted(SCORE, context, messages, unfinished, str(second))
