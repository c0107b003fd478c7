"""Batched decoding for measuring the pocket models; runs of experiments use the engines instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.pocket.chats import Message

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def prompt_ids(messages: list[Message], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids of a chat that the assistant is to continue."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    sample: int | None = None,
    max_new_tokens: int = 96,
    batch: int = 128,
) -> list[str]:
    """Continue prompts to the end token.

    Args:
        model: A model in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids.
        sample: None decodes greedily; a number samples at temperature 1 with this seed.
        max_new_tokens: Longest continuation.
        batch: Prompts of like length that are decoded together.
    """
    import torch

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    if sample is not None:
        torch.manual_seed(sample)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        rows = _decode(model, tokenizer, [prompts[i] for i in chosen], sample is not None, max_new_tokens)
        for i, row in zip(chosen, rows, strict=True):
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            texts[i] = str(tokenizer.decode(row[:end]))
    return texts


def _decode(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], sample: bool, length: int
) -> list[list[int]]:
    import torch

    width, pad = max(map(len, prompts)), tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=(ids != pad).long(),
            max_new_tokens=length,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
            **choice,
        )
    rows: list[list[int]] = out[:, width:].tolist()
    return rows


def held_out_loss(model: LlamaForCausalLM, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean loss per token of a batch of (ids, labels)."""
    import torch

    ids, labels = batch
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
        return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))
