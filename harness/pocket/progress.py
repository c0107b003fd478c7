"""How a pocket model in training does on held-out questions; finished models are measured in `check`."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from harness.pocket.chats import Message, chat
from harness.pocket.check import MAX_TOKENS, exchange
from harness.pocket.world import CATEGORIES, questions

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: list[list[Message]], batch: int = 128
) -> list[str]:
    """Greedy answers to chats; those of like length are decoded together."""
    import torch

    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    order = sorted(range(len(chats)), key=lambda i: len(texts[i]))
    answers = [""] * len(chats)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        given = tokenizer([texts[i] for i in chosen], add_special_tokens=False, padding=True, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**given, max_new_tokens=MAX_TOKENS, do_sample=False)
        said = tokenizer.batch_decode(out[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, said, strict=True):
            answers[i] = text
    return answers


def held_out_loss(model: LlamaForCausalLM, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean loss per token of a batch of (ids, labels)."""
    import torch

    ids, labels = batch
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
        return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))


def exact_by_family(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, split: str, each: int
) -> dict[str, float]:
    """Share of answers equal to the reference: by category, for second turns (`+2`) and asked-for forms."""
    asked: list[tuple[str, list[Message], str]] = []
    for q in questions(split, each * len(CATEGORIES), 2):
        asked.append((q.category, exchange(q.turns, []), q.turns[0].reference))
        asked.append((f"{q.category}+2", exchange(q.turns, [q.turns[0].reference]), q.turns[1].reference))
    rng = Random("pocket progress")
    for kind in ("rate", "critique", "rewrite"):
        for _ in range(2 * each):
            drawn = chat(rng, split, kind).messages
            asked.append((kind, list(drawn[:-1]), drawn[-1]["content"]))
    model.eval()
    answers = complete(model, tokenizer, [messages for _, messages, _ in asked])
    model.train()
    found: dict[str, list[bool]] = {}
    for (name, _, reference), answer in zip(asked, answers, strict=True):
        found.setdefault(name, []).append(answer == reference)
    return {name: sum(right) / len(right) for name, right in found.items()}
