"""What lm-eval's task objects say: documents with their requests, and what answers are worth. Heavy: for workers only.

Contexts, few-shot examples, filters and metrics are all lm-eval's (see `_lm_build` for the objects).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.errors import UserError
from harness.evaluate._lm_quiet import quiet

GENERATE, SCORE, ROLLING = "generate_until", "loglikelihood", "loglikelihood_rolling"
_CHAT = "\x00chat\x00"


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
