"""Token ids and decoding settings as lm-eval's Hugging Face model makes them (`lm_eval.models.huggingface`, 0.4.13).

Everything that decides a score is mirrored: where a continuation begins, what stands before a text without a context,
what is cut off at the left of a text that is too long, and when a generated text ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.engines.base import Completion, Sampling
from harness.errors import LoopbenchError, UserError
from harness.records.example import Message

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

DEFAULT_TOKENS = 256
"""lm-eval's length limit of an answer where the task names none (`HFLM.max_gen_toks`)."""
DEFAULT_CONTEXT = 2048
"""lm-eval's context length where the model states none; used for texts that must be read in windows."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_KNOWN = {*_LIMITS, "until", "do_sample", "temperature", "top_p"}
_NEUTRAL: Mapping[str, Any] = {"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1, "use_cache": True}


class NotAskable(LoopbenchError):
    """One request that this model cannot be asked; its item is missing, with this reason."""


@dataclass(frozen=True)
class Scored:
    """Ids of which those from `start` on are scored; `cut` tokens at the left did not fit and were left out."""

    ids: tuple[int, ...]
    start: int
    cut: int = 0


@dataclass(frozen=True)
class Prompt:
    """Ids that are continued; `cut` tokens at the left did not fit and were left out."""

    ids: tuple[int, ...]
    cut: int = 0


def rendered(messages: Sequence[Mapping[str, str]], unfinished: bool, chat: ChatFormat) -> str:
    """A conversation as text, ready for the assistant (or, `unfinished`, in the middle of its turn).

    A template that refuses a system turn is given the conversation without it, as lm-eval does.
    """
    turns = [Message(role=m["role"], content=m["content"]) for m in messages]
    try:
        return chat.text(turns, generation=not unfinished, unfinished=unfinished)
    except UserError:
        plain = [turn for turn in turns if turn["role"] != "system"]
        if len(plain) == len(turns):
            raise
        return chat.text(plain, generation=not unfinished, unfinished=unfinished)


def continuation(context: str, text: str, chat: ChatFormat) -> Scored:
    """Context and continuation, for the log-likelihood of the latter.

    Spaces at the end of the context move to the continuation; both are encoded together, and what follows as many ids
    as the context alone has is the continuation (`TemplateLM._encode_pair`). Without any context the BOS token (or EOS)
    stands in for it.

    Raises:
        NotAskable: the continuation has no tokens, or more than the model can take.
    """
    if context:
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, text = context[:-spaces], context[-spaces:] + text
        before, after = _encoded(context, chat), _encoded(context + text, chat)
        after = after[len(before) :]
    else:
        before, after = (_prefix(chat),), chat.encode(text)
        if after[:1] == before:
            before, after = after[:1], after[1:]
    if not after:
        raise NotAskable("the continuation has no tokens of its own after this context")
    return _fitted(before, after, chat.context)


def windows(text: str, chat: ChatFormat) -> list[Scored]:
    """A whole text as windows that together score each of its tokens once (`HFLM.loglikelihood_rolling`)."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    limit = chat.context or DEFAULT_CONTEXT
    parts = get_rolling_token_windows(list(_encoded(text, chat)), _prefix(chat), limit, 1)
    return [_fitted(tuple(before), tuple(after), limit) for before, after in map(make_disjoint_window, parts)]


def prompt(text: str, sampling: Sampling, chat: ChatFormat) -> Prompt:
    """A text to continue, cut at the left so that the whole answer fits behind it (`HFLM.generate_until`).

    Raises:
        UserError: the answer alone would fill the model's context.
        NotAskable: the text has no tokens.
    """
    bos = chat.tokenizer.bos_token
    ids = chat.encode(text, special=not (bos and text.startswith(str(bos))))
    if not ids:
        raise NotAskable("the prompt has no tokens")
    if chat.context is None:
        return Prompt(ids)
    room = chat.context - sampling.max_tokens
    if room <= 0:
        raise UserError(
            f"answers of up to {sampling.max_tokens} tokens leave no room for a question in the {chat.context} tokens "
            f"that {chat.name} can take: set `max_tokens` of the suite to less"
        )
    return Prompt(ids[-room:], max(0, len(ids) - room))


def sampling(options: Mapping[str, Any], max_tokens: int | None, repeats: int, chat: ChatFormat | None) -> Sampling:
    """lm-eval's generation settings in our terms.

    Texts end at the model's end-of-text tokens only, and at the task's own stop strings; one that is a special token of
    the model is watched for as a token, because decoded text does not show it.

    Raises:
        UserError: the task sets what our engines do not do.
    """
    strange = [k for k in options if k not in _KNOWN and options[k] not in (None, _NEUTRAL.get(k, None))]
    heat = float(options.get("temperature") or 0.0)
    greedy = not (heat > 0 if options.get("do_sample") is None else options["do_sample"]) or heat == 0
    if strange := [name for name in strange if not (greedy and name in ("top_k", "min_p", "typical_p"))]:
        raise UserError(
            f"the task's `generation_kwargs` set {', '.join(strange)}, which our engines do not do: leave it out with "
            "`config: {generation_kwargs: {...}}`"
        )
    until = options.get("until") or ()
    stops = [until] if isinstance(until, str) else [str(stop) for stop in until]
    special, end = _special(stops, chat), _end_text(chat)
    return Sampling(
        max_tokens=max_tokens or next((int(options[n]) for n in _LIMITS if options.get(n)), DEFAULT_TOKENS),
        temperature=0.0 if greedy else heat,
        top_p=1.0 if greedy else float(options.get("top_p") or 1.0),
        n=repeats,
        stop=tuple(dict.fromkeys([*(s for s in stops if s), *end])),
        stop_ids=special,
        ends="text",
    )


def decoded(completion: Completion, stops: Sequence[str], chat: ChatFormat | None) -> str:
    """The answer as lm-eval decodes it: some tokenizers take the space before a full stop away."""
    text = completion.text
    if chat is None or not getattr(chat.tokenizer, "clean_up_tokenization_spaces", False):
        return text
    text = str(chat.tokenizer.decode(list(completion.token_ids), skip_special_tokens=True))
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]


def _fitted(before: tuple[int, ...], after: tuple[int, ...], limit: int | None) -> Scored:
    """Cut at the left to what the model can take; the last id is not read, so one more than its context."""
    if limit is not None and len(after) > limit:
        raise NotAskable(f"a continuation of {len(after)} tokens exceeds the context of {limit}")
    ids = before + after
    kept = ids if limit is None else ids[-(limit + 1) :]
    return Scored(kept, len(kept) - len(after), len(ids) - len(kept))


def _encoded(text: str, chat: ChatFormat) -> tuple[int, ...]:
    """Ids of a text; a BOS that the text spells out itself is not added again."""
    return chat.encode(text, special=not text.startswith(str(chat.tokenizer.decode([_prefix(chat)]))))


def _prefix(chat: ChatFormat) -> int:
    found = chat.bos if chat.bos is not None else chat.eos
    if found is None:
        raise UserError(f"{chat.name} has neither a BOS nor an EOS token, so text without a context cannot be scored")
    return found


def _special(stops: Sequence[str], chat: ChatFormat | None) -> tuple[int, ...]:
    if chat is None:
        return ()
    ids = {token.content: index for index, token in chat.tokenizer.added_tokens_decoder.items() if token.special}
    return tuple(ids[stop] for stop in stops if stop in ids)


def _end_text(chat: ChatFormat | None) -> list[str]:
    """The end-of-text token as a model may also spell it, letter by letter."""
    return [str(chat.tokenizer.decode([chat.eos]))] if chat is not None and chat.eos is not None else []
