"""`gpu.py`, training: tokens per second and MFU of SFT, sequences of 2,048 packed; ours, and a bare step of PyTorch."""

from __future__ import annotations

import importlib
import random
import time
import traceback
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from _gpu_shared import NotMeasured, Plan, flops_of_attention, flops_per_token, memory, middle, release, timed

MUST = 0.45
NEEDED = ("pydantic", "trl", "peft", "datasets", "accelerate", "pyarrow")
"""What our trainer imports beyond torch and transformers."""


def sizes(plan: Plan) -> tuple[int, int]:
    """(tokens of a sequence, sequences of a step)."""
    return (128, 2) if plan.small else (2048, 4)


def flops(plan: Plan, lengths: list[int], tokens: int) -> float:
    """FLOP of a step over so many tokens: three forward passes' worth; attention within rows of these lengths only."""
    layers, head = flops_per_token(plan.shape)
    return 3 * ((layers + head) * tokens + flops_of_attention(plan.shape, lengths))


def bare(plan: Plan) -> dict[str, Any]:
    """A step of PyTorch on the same shape: bf16 weights, fused AdamW, whole sequences, `transformers`' own loss."""
    import torch

    length, rows = sizes(plan)
    model = plan.plain("bfloat16").train().requires_grad_(True)
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=plan.cuda)
    torch.manual_seed(0)
    ids = torch.randint(4, int(plan.shape["vocab_size"]), (rows, length), device=plan.device)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    first = step()
    runs = [timed(step, plan.device) for _ in range(4 if plan.small else 17)][2:]
    last = step()
    if not last < first:
        raise NotMeasured(f"the bare step does not learn: loss {first:.3f}, later {last:.3f}")
    tokens = rows * length
    rate = flops(plan, [length] * rows, tokens) / middle(runs)
    return {
        "what": "not our trainer: a bare PyTorch step of the same shape, one document per sequence",
        "loss": [first, last],
        "tokens_per_step": tokens,
        "runs_s": runs,
        "tokens_per_s": tokens / middle(runs),
        "mfu": rate / plan.peak,
        "memory_gib": memory(plan),
    }


def missing() -> list[str]:
    """Packages that our trainer needs and that are not here."""
    gone = []
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            gone.append(f"{name} ({error})")
    return gone


def examples(tokens: int, longest: int) -> list[Any]:
    """Conversations of one question and answer, of some 100 to 700 tokens (a byte is a token), `tokens` in all."""
    from harness.records.example import Example, Message

    rng, made, total = random.Random(0), list[Any](), 0
    while total < tokens:
        asked, said = rng.randint(longest // 64, longest // 16), rng.randint(longest // 32, longest // 4)
        texts = ("".join(rng.choices("abcdefghij klmnop", k=n)) for n in (asked, said))
        turns = (Message(role=r, content=t) for r, t in zip(("user", "assistant"), texts, strict=True))
        made.append(Example(id=f"r{len(made)}", messages=tuple(turns)))
        total += asked + said + 20
    return made


def ours(plan: Plan) -> dict[str, Any]:
    """Our `sft` block, as a stage runs it; a step's time is that between two reports of progress."""
    if gone := missing():
        raise NotMeasured(f"our trainer needs packages that are not here: {', '.join(gone)}; see --wheels")
    from harness.blocks.kinds import TrainContext
    from harness.finetune.sft import Sft

    length, rows = sizes(plan)
    steps = 6 if plan.small else 40
    given = examples(rows * length * (steps + 2), length)
    marks: list[tuple[float, float]] = []

    def progress(step: int, total: int, metrics: Mapping[str, float]) -> None:
        marks.append((time.perf_counter(), float(metrics.get("tokens", metrics.get("num_tokens", 0)))))

    out, work = plan.folder / "tuned", plan.folder / "training"
    work.mkdir(parents=True, exist_ok=True)
    block = Sft(
        max_length=length, packing=True, batch_size=rows, max_steps=steps, logging_steps=1, dtype="bfloat16",
        loss_on="all", learning_rate=1e-5, gradient_checkpointing=False, save_seconds=3600.0,
    )  # fmt: skip
    context = TrainContext(
        start=plan.llama(), out=out, work=work, seed=0, device=plan.device, threads=1, progress=progress
    )
    report = block.train(given, context)
    return spent(plan, marks, given) | {"report": told(report), "memory_gib": memory(plan)}


def spent(plan: Plan, marks: list[tuple[float, float]], given: list[Any]) -> dict[str, Any]:
    """Tokens per second and MFU from the times of steps, the first three left out."""
    if len(marks) < 5:
        raise NotMeasured(f"our trainer told of {len(marks)} steps only")
    runs = [later[0] - earlier[0] for earlier, later in pairwise(marks[3:])]
    tokens = [later[1] - earlier[1] for earlier, later in pairwise(marks[3:])]
    seconds, per_step = sum(runs), sum(tokens) / len(tokens)
    lengths = [sum(len(m["content"]) for m in row.messages) + 20 for row in given]
    squares = flops_of_attention(plan.shape, lengths) / sum(lengths)
    layers, head = flops_per_token(plan.shape)
    mfu = 3 * (layers + head + squares) * sum(tokens) / seconds / plan.peak
    return {
        "runs_s": runs,
        "tokens_per_step": per_step,
        "tokens_per_s": sum(tokens) / seconds,
        "mfu": mfu,
        "must": MUST,
        "met": mfu >= MUST,
    }


def told(report: Any) -> dict[str, str]:
    """What the trainer says of itself: device, precision, layout, its own figures (against the stated peak)."""
    return {name: str(value) for name, value in (dict(report.runtime) | dict(report.speed)).items()}


def run(plan: Plan) -> dict[str, Any]:
    """Both; ours is null with a reason where it cannot run here or fails, and takes nothing from the bare step."""
    found: dict[str, Any] = {"sequence": sizes(plan)[0], "bare_step": bare(plan)}
    release(plan)
    try:
        found["ours"] = ours(plan)
    except NotMeasured as why:
        found |= {"ours": None, "why": str(why)}
    except Exception as error:  # noqa: BLE001 - what was measured before it stays, and the result says what happened
        traceback.print_exc()
        found |= {"ours": None, "why": f"{type(error).__name__}: {error}"}
    return found
