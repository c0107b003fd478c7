"""`gpu.py`, embeddings: tokens per second of both embedders, and memory given back when an engine is closed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from _gpu_shared import (
    NotMeasured,
    Plan,
    flops_of_attention,
    flops_per_token,
    in_turn,
    memory,
    middle,
    release,
    write_tokenizer,
)

TOLERANCE = 1e-4
"""Of the largest entry of a vector, in fp32, between ours and one text at a time."""
BACK = 0.02
"""Share of an engine's memory that may stay when it is closed (the libraries' own workspaces)."""
BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
BERT_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def sequences(count: int, longest: int, vocabulary: int) -> list[tuple[int, ...]]:
    """Ids of mixed lengths."""
    rng = random.Random(0)
    return [
        tuple(rng.randrange(4, vocabulary) for _ in range(rng.randint(longest // 16, longest))) for _ in range(count)
    ]


def _alike(mine: Any, other: Any) -> float:
    """The largest difference, as a share of the largest entry; refuses what is not alike."""
    worst = float(np.abs(mine - other).max() / np.abs(other).max())
    if not worst <= TOLERANCE:
        raise NotMeasured(f"vectors differ by {worst:.2e} of the largest entry: no time was taken")
    return worst


def pooled(plan: Plan) -> dict[str, Any]:
    """Mean pooling of the language model's last states."""
    import torch

    given = sequences(8 if plan.small else 2048, 128 if plan.small else 512, int(plan.shape["vocab_size"]))
    few = given[:8]
    engine, model = plan.engine("float32"), plan.plain("float32")
    with torch.no_grad():
        plain = [model.model(input_ids=torch.tensor([ids], device=plan.device)).last_hidden_state for ids in few]
    means = np.stack([states[0].mean(0).cpu().numpy() for states in plain])
    worst = _alike(engine.embed(few), means)
    engine.close()
    del model, plain
    release(plan)
    engine = plan.engine("bfloat16")
    seconds = in_turn({"ours": lambda: engine.embed(given)}, plan, runs=2 if plan.small else 5)
    engine.close()
    tokens, layers = sum(map(len, given)), flops_per_token(plan.shape)[0]
    rate = (layers * tokens + flops_of_attention(plan.shape, [len(ids) for ids in given])) / middle(seconds["ours"])
    return {
        "largest_difference": worst,
        "tokens": tokens,
        "runs_s": seconds,
        "tokens_per_s": tokens / middle(seconds["ours"]),
        "share_of_matmul": rate / plan.peak,
    }


def build_bert(folder: Path, plan: Plan) -> Path:
    """A text encoder of BERT base's shape, random weights, with the tokenizer of the language model."""
    import torch
    from transformers import BertConfig, BertModel

    size = 2048 if plan.small else 30_522
    torch.manual_seed(0)
    shape = BERT_SMALL if plan.small else BERT
    config = BertConfig(**shape, vocab_size=size, pad_token_id=1, max_position_embeddings=512)
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder, size)
    return folder


def encoder(plan: Plan) -> dict[str, Any]:
    """A text encoder, from texts to vectors."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from harness.engines.base import ModelSpec
    from harness.engines.encoder import EncoderEngine

    folder = build_bert(plan.folder / "bert", plan)
    rng = random.Random(0)
    count = 8 if plan.small else 4096
    texts = ["".join(rng.choices("abcdefgh ijklmnop", k=rng.randint(20, 480))) for _ in range(count)]
    exact = EncoderEngine(ModelSpec(name="bert", path=folder, dtype="float32", device=plan.device))
    few, tokenizer = texts[:8], AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).to(plan.device).eval()
    with torch.no_grad():
        rows = [torch.tensor([tokenizer(text)["input_ids"]], device=plan.device) for text in few]
        means = np.stack([model(input_ids=row).last_hidden_state[0].mean(0).cpu().numpy() for row in rows])
    worst = _alike(exact.embed_texts(few), means)
    exact.close()
    fast = EncoderEngine(ModelSpec(name="bert", path=folder, dtype="bfloat16", device=plan.device))
    seconds = in_turn({"ours": lambda: fast.embed_texts(texts)}, plan, runs=2 if plan.small else 5)
    fast.close()
    tokens = sum(map(len, tokenizer(texts)["input_ids"]))
    return {
        "largest_difference": worst,
        "tokens": tokens,
        "runs_s": seconds,
        "tokens_per_s": tokens / middle(seconds["ours"]),
        "texts_per_s": len(texts) / middle(seconds["ours"]),
        "note": "tokenising included; BERT base's shape",
    }


def run(plan: Plan) -> dict[str, Any]:
    """Both embedders."""
    found = {"pooled": pooled(plan)}
    release(plan)
    return found | {"encoder": encoder(plan)}


def given_back(plan: Plan) -> dict[str, Any]:
    """What of the device's memory an engine that generated, scored and embedded leaves behind when it is closed."""
    from harness.engines.base import GenerateRequest, LogprobRequest, Sampling

    if not plan.cuda:
        raise NotMeasured("PyTorch counts the memory of CUDA devices only")
    plan.llama()
    release(plan)
    before = memory(plan) or {}
    engine = plan.engine("bfloat16")
    ids = sequences(64, 256, int(plan.shape["vocab_size"]))
    requests = [
        GenerateRequest(id=str(n), prompt=one, sampling=Sampling(max_tokens=32, ends="text"))
        for n, one in enumerate(ids)
    ]
    done = len(list(engine.generate(requests)))
    scored = len(list(engine.logprobs([LogprobRequest(id=str(n), ids=one, start=1) for n, one in enumerate(ids)])))
    if (done, scored, len(engine.embed(ids))) != (64, 64, 64):
        raise NotMeasured("the engine did not answer every request")
    opened = memory(plan) or {}
    engine.close()
    after = memory(plan) or {}
    left = {name: after[name] - before[name] for name in ("allocated", "reserved")}
    return {
        "before_gib": before,
        "open_gib": opened,
        "after_gib": after,
        "left_gib": left,
        "must": f"at most {BACK:.0%} of what was held",
        "met": max(left.values()) <= BACK * opened["largest"],
    }
