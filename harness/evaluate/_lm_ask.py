"""lm-eval documents as items: what is asked of the model, and its answers in the form that lm-eval's metrics take."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Reply, Request, Sampling, Score
from harness.errors import LoopbenchError, UserError
from harness.evaluate._lm_encode import score_request
from harness.evaluate._lm_task import Document, Wanted
from harness.evaluate._talk import ERROR, missing
from harness.records.example import Message
from harness.records.hashing import seed_of

Asking = Generator[Sequence[Request], Sequence[Reply], Answer]
_DOC, _SPLIT, _REQUESTS, _REPEATS, _CHOICE = "doc", "split", "requests", "repeats", "choice"
_LOGPROBS = "loglikelihoods"
DEFAULT_TOKENS = 256
"""lm-eval's length limit of an answer where the task names none."""
_IMPOSSIBLE = -1e4
"""A log-likelihood that loses to any real one."""


def item_of(name: str, split: str, document: Document) -> EvalItem:
    """The item of a document. `turns` hold its own text only: examples shown before it belong to other documents."""
    data = {
        _DOC: document.number,
        _SPLIT: split,
        _REQUESTS: [asdict(request) for request in document.requests],
        _REPEATS: document.repeats,
        _CHOICE: document.choice,
    }
    identity = f"{name}/{split}/{document.number}"
    return EvalItem(
        id=identity,
        turns=(document.text,),
        category=name,
        cluster=identity,
        reference=(document.target,),
        data=data,
    )


def document_number(item: EvalItem) -> int:
    """The row of the item in its split."""
    return int(item.data[_DOC])


def split_of(item: EvalItem) -> str:
    """The split that the item was read from."""
    return str(item.data[_SPLIT])


def ask(item: EvalItem, suite: str, max_tokens: int | None, context: Context) -> Asking:
    """All requests of an item at once: texts are generated, continuations are scored.

    An item that the model cannot be asked (too long a prompt, say) gives an answer without outputs and the reason.
    """
    try:
        if _scored(item):
            return (yield from _score(item, context))
        return (yield from _generate(item, suite, max_tokens))
    except UserError:
        raise
    except LoopbenchError as error:
        return Answer(item=item.id, outputs=(), data={ERROR: str(error)})


def absent(item: EvalItem, answer: Answer | None) -> str | None:
    """Why an item has no complete answer; None where it has one."""
    if _scored(item) and answer is not None and _LOGPROBS not in answer.data:
        answer = Answer(item=item.id, outputs=(), data=answer.data)
    return missing(answer, 0 if _scored(item) else len(item.data[_REQUESTS]) * int(item.data[_REPEATS]) - 1)


def responses(item: EvalItem, answer: Answer) -> list[list[Any]]:
    """Per request the list of its responses, as lm-eval's instances hold them: texts, or (log-likelihood, greedy)."""
    if _scored(item):
        return [[(float(value), bool(greedy))] for value, greedy in answer.data[_LOGPROBS]]
    repeats = int(item.data[_REPEATS])
    return [list(answer.outputs[i : i + repeats]) for i in range(0, len(answer.outputs), repeats)]


def gold(item: EvalItem) -> Answer | None:
    """The answer that must earn full marks; None where the requests do not tell which continuation is right."""
    return _certain(item, item.reference[0], likely=True)


def empty(item: EvalItem) -> Answer | None:
    """The answer of a model that says nothing: empty texts, or the right continuation as the least likely."""
    return _certain(item, "", likely=False)


def _certain(item: EvalItem, text: str, likely: bool) -> Answer | None:
    """An answer in which the right request is certain, or impossible."""
    count = len(item.data[_REQUESTS])
    if not _scored(item):
        return Answer(item=item.id, outputs=(text,) * count * int(item.data[_REPEATS]))
    right = 0 if count == 1 else item.data[_CHOICE]
    if right is None:
        return None
    found = [[0.0, likely] if (index == right) == likely else [_IMPOSSIBLE, False] for index in range(count)]
    return Answer(item=item.id, outputs=(text,), data={_LOGPROBS: found})


def _scored(item: EvalItem) -> bool:
    return item.data[_REQUESTS][0]["continuation"] is not None


def _wanted(item: EvalItem) -> list[Wanted]:
    return [Wanted(**request) for request in item.data[_REQUESTS]]


def _generate(item: EvalItem, suite: str, max_tokens: int | None) -> Asking:
    asks = [_ask(item, suite, max_tokens, index, wanted) for index, wanted in enumerate(_wanted(item))]
    replies = yield asks
    done = [completion for reply in replies for completion in reply]
    return Answer(
        item=item.id,
        outputs=tuple(completion.text for completion in done),
        finish=tuple(completion.finish for completion in done),
        prompt_tokens=sum(reply[0].prompt_tokens for reply in replies),
        completion_tokens=sum(len(completion.token_ids) for completion in done),
    )


def _ask(item: EvalItem, suite: str, max_tokens: int | None, index: int, wanted: Wanted) -> Ask:
    common: dict[str, Any] = {
        "model": "model",
        "sampling": _sampling(wanted.generation, max_tokens, int(item.data[_REPEATS])),
        "draw": index,
        "fixed_seed": seed_of(suite, item.id, index),
    }
    if wanted.messages is None:
        return Ask(text=wanted.context, **common)
    return Ask(messages=tuple(Message(role=m["role"], content=m["content"]) for m in wanted.messages), **common)


def _sampling(options: Mapping[str, Any], max_tokens: int | None, repeats: int) -> Sampling:
    """lm-eval's generation settings in our terms; without `do_sample` its models decode greedily."""
    until = options.get("until") or ()
    limits = (options.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens"))
    greedy = not options.get("do_sample", False)
    return Sampling(
        max_tokens=max_tokens or next((int(n) for n in limits if n), DEFAULT_TOKENS),
        temperature=0.0 if greedy else float(options.get("temperature", 1.0)),
        top_p=1.0 if greedy else float(options.get("top_p", 1.0)),
        n=repeats,
        stop=(until,) if isinstance(until, str) else tuple(until),
    )


def _score(item: EvalItem, context: Context) -> Asking:
    wanted, chat = _wanted(item), context.chats["model"]
    requests: list[Score] = [score_request(w.context, w.messages, str(w.continuation), chat) for w in wanted]
    replies = yield requests
    found = [[float(reply.values.sum()), bool(reply.greedy.all())] for reply in replies]
    if not all(math.isfinite(value) for value, _ in found):
        return Answer(item=item.id, outputs=(), data={ERROR: "a log-likelihood is not a finite number"})
    best = max(range(len(found)), key=lambda index: found[index][0])
    return Answer(
        item=item.id,
        outputs=(str(wanted[best].continuation),),
        prompt_tokens=sum(len(request.ids) for request in requests),
        data={_LOGPROBS: found},
    )
