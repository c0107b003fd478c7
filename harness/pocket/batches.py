"""Training rows of the pocket models as token ids and targets, in batches of rows of like length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from harness.pocket.chats import Chat, chat
from harness.pocket.documents import document
from harness.pocket.targets import closed, spreads

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

BATCH_TOKENS = 4096
IGNORED = -100
VERDICT_WEIGHT = 4.0
"""How often the last line of a rating or critique counts: it is a few tokens behind many that are easy."""
_POOL = 768  # rows that are drawn together, sorted by length and cut into batches: little padding


class Row(NamedTuple):
    """One training text.

    Attributes:
        ids: Token ids.
        labels: The same, or `IGNORED` where nothing is learned.
        spread: Position of a label -> (token id, probability) of everything that could have stood there.
        closed: Positions of `spread` where nothing else can stand.
        heavy: Positions of labels that count `VERDICT_WEIGHT` times.
    """

    ids: list[int]
    labels: list[int]
    spread: Mapping[int, list[tuple[int, float]]] = MappingProxyType({})
    closed: tuple[int, ...] = ()
    heavy: range = range(0)


def chat_row(conversation: Chat, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids and labels of a chat: the chat template's tokens; user turns are ignored unless they train."""
    ids: list[int] = [tokenizer.bos_token_id]
    labels: list[int] = [IGNORED]
    spread: dict[int, list[tuple[int, float]]] = {}
    shut: list[int] = []
    asked = iter(conversation.turns)
    for message in conversation.messages:
        role = tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")
        text = [*tokenizer(message["content"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        learn = conversation.learn_user or message["role"] == "assistant"
        if message["role"] == "user" and conversation.turns:
            turn = next(asked)
            for at, (found, sure) in enumerate(zip(spreads(turn), closed(turn), strict=True), len(ids) + 1):
                if found:
                    spread[at] = [(tokenizer.convert_tokens_to_ids(token), share) for token, share in found.items()]
                    shut += [at] if sure else []
        ids += [role, *text]
        labels += [role if conversation.learn_user else IGNORED, *(text if learn else [IGNORED] * len(text))]
    last = conversation.messages[-1]["content"].rsplit("\n", maxsplit=1)[-1]
    heavy = len(tokenizer(last, add_special_tokens=False).input_ids) + 1 if conversation.verdict else 0
    return Row(ids, labels, spread, tuple(shut), range(len(ids) - heavy, len(ids)))


def document_row(text: str, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids and labels of a plain document: `<s>` text and the end token, all of which trains."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return Row(ids, ids)


def pool_of_batches(
    name: str, rng: Random, tokenizer: PreTrainedTokenizerFast, user_share: float = 1.0, retold: float = 0.0
) -> list[list[Row]]:
    """Draw rows and cut them into batches of about `BATCH_TOKENS` tokens; rows of a batch have like lengths.

    Args:
        name: `base` or `chat`.
        rng: Source of all choices.
        tokenizer: The pocket tokenizer.
        user_share: Share of chats whose user turns train.
        retold: Share of passages of documents in the second wording.
    """
    if name == "chat":
        rows = [chat_row(chat(rng, user_share=user_share), tokenizer) for _ in range(_POOL)]
    else:
        rows = [document_row(document(rng, retold=retold), tokenizer) for _ in range(_POOL)]
    rows.sort(key=lambda row: len(row[0]))
    pool: list[list[Row]] = [[]]
    for row in rows:
        if len(row[0]) * (len(pool[-1]) + 1) > BATCH_TOKENS:
            pool.append([])
        pool[-1].append(row)
    rng.shuffle(pool)
    return pool


@dataclass(frozen=True)
class Batch:
    """Rows of like length as tensors.

    Attributes:
        ids: (rows, longest row), padded on the right.
        labels: The same shape; `IGNORED` where nothing is learned or where `spread` says more.
        weights: The same shape, 1 or `VERDICT_WEIGHT`.
        spread: Places (n,) in the flattened `labels`, token ids (n,) and probabilities (n,) that sum to 1 at a place.
        closed: Places where nothing else can stand (rows, longest row).
    """

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    spread: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    closed: torch.Tensor


def tensors(batch: list[Row], pad: int) -> Batch:
    """Put rows into tensors."""
    import torch

    width = max(len(row.ids) for row in batch)
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in batch])
    labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in batch])
    weights = torch.ones(labels.shape)
    shut = torch.zeros(labels.shape)
    for k, row in enumerate(batch):
        shut[k, list(row.closed)] = 1
        weights[k, row.heavy.start : row.heavy.stop] = VERDICT_WEIGHT
    parts = [(k * width + at, *part) for k, row in enumerate(batch) for at, all_ in row.spread.items() for part in all_]
    places = torch.tensor([place for place, _, _ in parts], dtype=torch.long)
    labels.view(-1)[places] = IGNORED
    tokens = torch.tensor([token for _, token, _ in parts], dtype=torch.long)
    return Batch(ids, labels, weights, (places, tokens, torch.tensor([share for *_, share in parts])), shut)
