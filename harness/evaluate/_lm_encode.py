"""Token ids of a context and its continuation, split as lm-eval's Hugging Face model splits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.blocks.kinds import Score
from harness.errors import UserError
from harness.records.example import Message

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


def score_request(
    context: str, messages: Sequence[Mapping[str, str]] | None, continuation: str, chat: ChatFormat
) -> Score:
    """The request for the log-likelihood of a continuation.

    As in `lm_eval.api.model.TemplateLM._encode_pair` (0.4.13): spaces at the end of the context move to the
    continuation, both are encoded together, and the context's own length says where the continuation starts. Without
    any context the BOS (or EOS) token stands in for it.
    """
    if messages is not None:
        # As text: continuation and context are encoded together, so ids would come too early.
        context = chat.text([Message(role=m["role"], content=m["content"]) for m in messages], generation=True)
    if not context:
        return _after_nothing(continuation, chat)
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    special = not _starts_with_bos(context, chat)
    ids = chat.encode(context + continuation, special=special)
    return Score(model="model", ids=ids, start=len(chat.encode(context, special=special)))


def _after_nothing(continuation: str, chat: ChatFormat) -> Score:
    ids = chat.encode(continuation)
    prefix = chat.bos if chat.bos is not None else chat.eos
    if prefix is None:
        raise UserError(f"{chat.name} has neither a BOS nor an EOS token, so text without a context cannot be scored")
    if ids[:1] == (prefix,):
        return Score(model="model", ids=ids, start=1)
    return Score(model="model", ids=(prefix, *ids), start=1)


def _starts_with_bos(text: str, chat: ChatFormat) -> bool:
    token = chat.tokenizer.bos_token
    return bool(token) and text.startswith(str(token))
