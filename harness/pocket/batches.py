"""Training rows of the pocket models as token ids and labels, in batches of rows of like length."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from harness.pocket.chats import Chat, chat
from harness.pocket.documents import document

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

Row = tuple[list[int], list[int]]
BATCH_TOKENS = 4096
IGNORED = -100
_POOL = 768  # rows that are drawn together, sorted by length and cut into batches: little padding


def chat_row(conversation: Chat, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids and labels of a chat: the chat template's tokens; user turns are ignored unless they train."""
    ids: list[int] = [tokenizer.bos_token_id]
    labels: list[int] = [IGNORED]
    for message in conversation.messages:
        role = tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")
        text = [*tokenizer(message["content"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        learn = conversation.learn_user or message["role"] == "assistant"
        ids += [role, *text]
        labels += [role if conversation.learn_user else IGNORED, *(text if learn else [IGNORED] * len(text))]
    return ids, labels


def document_row(text: str, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids and labels of a plain document: `<s>` text and the end token, all of which trains."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return ids, ids


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


def tensors(batch: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of shape (rows, longest row), padded on the right."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch])
    labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in batch])
    return ids, labels
