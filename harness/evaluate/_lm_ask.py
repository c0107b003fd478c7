"""lm-eval documents as items: what is asked of the model, and its answers in the form that lm-eval's metrics take."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Reply, Request, Score
from harness.errors import LoopbenchError, UserError
from harness.evaluate import _lm_encode
from harness.evaluate._lm_task import GENERATE, ROLLING, Document, Wanted
from harness.evaluate._talk import ERROR, missing
from harness.records.example import Message
from harness.records.hashing import seed_of

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

Asking = Generator[Sequence[Request], Sequence[Reply], Answer]
_DOC, _SPLIT, _REQUESTS, _REPEATS, _CHOICE, _TELLING = "doc", "split", "requests", "repeats", "choice", "telling"
_LOGPROBS, CUT = "loglikelihoods", "cut"
_IMPOSSIBLE = -100.0
"""A log-likelihood that loses to the certain one, and whose perplexity is still a number."""


def item_of(name: str, split: str, document: Document) -> EvalItem:
    """The item of a document. `turns` hold its own text only: examples shown before it belong to other documents."""
    data = {
        _DOC: document.number,
        _SPLIT: split,
        _REQUESTS: [asdict(request) for request in document.requests],
        _REPEATS: document.repeats,
        _CHOICE: document.choice,
        _TELLING: document.telling,
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

    An item that the model cannot be asked gives an answer without outputs and the reason. What lm-eval would cut off at
    the left of a text that is too long is cut off here, and `data` counts those tokens.
    """
    try:
        if _scored(item):
            return (yield from _score(item, context))
        return (yield from _generate(item, suite, max_tokens, _format(context)))
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
        pairs = zip(_wanted(item), answer.data[_LOGPROBS], strict=True)
        return [[float(v) if w.kind == ROLLING else (float(v), bool(greedy))] for w, (v, greedy) in pairs]
    repeats = int(item.data[_REPEATS])
    return [list(answer.outputs[i : i + repeats]) for i in range(0, len(answer.outputs), repeats)]


def gold(item: EvalItem) -> Answer | None:
    """The answer that must earn full marks; None where the requests do not tell which one that is."""
    return _certain(item, item.reference[0], likely=True) if item.data[_TELLING] else None


def empty(item: EvalItem) -> Answer | None:
    """The answer of a model that says nothing: empty texts, or the right continuation as the least likely."""
    return _certain(item, "", likely=False)


def misfit(item: EvalItem, answer: Answer) -> str | None:
    """Why what is given cannot be an answer to the item; None where it can."""
    if _scored(item):
        wanted, given = len(item.data[_REQUESTS]), len(answer.data.get(_LOGPROBS, ()))
        if given == wanted:
            return None
        return (
            f"{item.id} is answered with the log-likelihoods of {wanted} texts (`{_LOGPROBS}`), which only a model can "
            f"give: {given} are there"
        )
    wanted = len(item.data[_REQUESTS]) * int(item.data[_REPEATS])
    return None if len(answer.outputs) == wanted else f"{item.id} has {wanted} outputs, but {len(answer.outputs)} given"


def _certain(item: EvalItem, text: str, likely: bool) -> Answer | None:
    """An answer in which the right request is certain, or impossible."""
    wanted = _wanted(item)
    if not _scored(item):
        return Answer(item=item.id, outputs=(text,) * len(wanted) * int(item.data[_REPEATS]))
    right = 0 if len(wanted) == 1 else item.data[_CHOICE]
    if right is None:
        return None
    found = [[0.0, likely] if (index == right) == likely else [_IMPOSSIBLE, False] for index in range(len(wanted))]
    return Answer(item=item.id, outputs=(text,), data={_LOGPROBS: found})


def _scored(item: EvalItem) -> bool:
    return bool(item.data[_REQUESTS][0]["kind"] != GENERATE)


def _wanted(item: EvalItem) -> list[Wanted]:
    return [Wanted(**request) for request in item.data[_REQUESTS]]


def _format(context: Context) -> ChatFormat | None:
    """The model's tokenizer; None for a served model, whose server renders and encodes."""
    try:
        return context.chats["model"]
    except (KeyError, UserError):
        return None


# --- texts ----------------------------------------------------------------------------------------------------------
def _generate(item: EvalItem, suite: str, max_tokens: int | None, chat: ChatFormat | None) -> Asking:
    made = [_ask(item, suite, max_tokens, index, wanted, chat) for index, wanted in enumerate(_wanted(item))]
    asks = [ask for ask, _ in made]
    replies = yield asks
    said = [(completion, ask) for ask, reply in zip(asks, replies, strict=True) for completion in reply]
    cut = sum(tokens for _, tokens in made)
    return Answer(
        item=item.id,
        outputs=tuple(_lm_encode.decoded(completion, ask.sampling.stop, chat) for completion, ask in said),
        finish=tuple(completion.finish for completion, _ in said),
        prompt_tokens=sum(reply[0].prompt_tokens for reply in replies),
        completion_tokens=sum(completion.new_tokens for completion, _ in said),
        data={CUT: cut} if cut else {},
    )


def _ask(
    item: EvalItem, suite: str, max_tokens: int | None, index: int, wanted: Wanted, chat: ChatFormat | None
) -> tuple[Ask, int]:
    """The request, and how many tokens of its prompt did not fit."""
    sampling = _lm_encode.sampling(wanted.generation or {}, max_tokens, int(item.data[_REPEATS]), chat)
    turns = wanted.messages
    messages = tuple(Message(role=m["role"], content=m["content"]) for m in turns or ())
    common: dict[str, Any] = {"model": "model", "sampling": sampling, "draw": index, "messages": messages}
    common |= {"fixed_seed": seed_of(suite, item.id, index), "text": wanted.context if turns is None else None}
    if chat is not None:
        whole = wanted.context if turns is None else _lm_encode.rendered(turns, wanted.unfinished, chat)
        prompt = _lm_encode.prompt(whole, sampling, chat)
        return Ask(ids=prompt.ids, **common), prompt.cut
    if wanted.unfinished:
        raise UserError(
            f"task {item.category} begins the model's answer itself (gen_prefix), which a served model cannot do: "
            "set `chat_template: false`, or run the model from its folder"
        )
    return Ask(**common), 0


# --- log-likelihoods ------------------------------------------------------------------------------------------------
def _score(item: EvalItem, context: Context) -> Asking:
    chat = context.chats["model"]
    parts = [_parts(wanted, chat) for wanted in _wanted(item)]
    requests = [Score(model="model", ids=part.ids, start=part.start) for group in parts for part in group]
    replies = iter((yield requests))
    found = [_joined([next(replies) for _ in group]) for group in parts]
    if not all(math.isfinite(value) for value, _ in found):
        return Answer(item=item.id, outputs=(), data={ERROR: "a log-likelihood is not a finite number"})
    best = max(range(len(found)), key=lambda index: found[index][0])
    cut = sum(part.cut for group in parts for part in group)
    return Answer(
        item=item.id,
        outputs=(_shown(_wanted(item)[best], found[best][0]),),
        prompt_tokens=sum(len(request.ids) for request in requests),
        data={_LOGPROBS: found} | ({CUT: cut} if cut else {}),
    )


def _shown(wanted: Wanted, value: float) -> str:
    """What stands for an answer where none was written: the likeliest continuation, or a whole text's value."""
    return f"log-likelihood {value:.4f}" if wanted.kind == ROLLING else str(wanted.continuation)


def _parts(wanted: Wanted, chat: ChatFormat) -> list[_lm_encode.Scored]:
    if wanted.kind == ROLLING:
        return _lm_encode.windows(str(wanted.continuation), chat)
    context = wanted.context
    if wanted.messages is not None:
        context = _lm_encode.rendered(wanted.messages, wanted.unfinished, chat)
    return [_lm_encode.continuation(context, str(wanted.continuation), chat)]


def _joined(replies: Sequence[Any]) -> list[Any]:
    """Log-likelihood (natural logarithm) of all parts together, and whether every token was the likeliest."""
    return [float(sum(float(r.values.sum()) for r in replies)), all(bool(r.greedy.all()) for r in replies)]
