"""`gpu.py`, generation: the committed workload through our engine and `model.generate`, each at its best size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from _gpu_shared import NotMeasured, Plan, in_turn, middle, release, timed
from decode_speed import MUST, Workload, ours, padded, same_rows, workload

TIMES = 4
"""How often the workload is repeated: a GPU would hold all of its requests at once, and no row would be replaced."""
FEW, SAME = 24, 0.95
"""Requests whose tokens are compared in fp32, and the share of them that must be equal token by token.

Random weights give nearly flat logits, where two ways to sum may part; in bf16 they part often, so it is not compared.
"""
WORSE = 1.25
"""Smaller batches are not tried once one took so many times as long as the best."""


def repeated(work: Workload, times: int) -> Workload:
    """The same lengths several times over, each time with other ids: our side reads equal prompts only once."""
    low, high = min(map(min, work.prompts)), max(map(max, work.prompts)) + 1
    prompts = [
        tuple(low + (token - low + number) % (high - low) for token in prompt)
        for number in range(times)
        for prompt in work.prompts
    ]
    return Workload(tuple(prompts), work.answers * times, work.cap)


def compared(plan: Plan) -> float:
    """The share of rows in which both sides write the same tokens, in fp32."""
    work = workload(6 if plan.small else FEW)
    engine, plain = plan.engine("float32"), plan.plain("float32")
    mine = ours(engine, work)
    share = same_rows(mine, padded(plain, engine.chat.tokenizer, work, 8, False))
    engine.close()
    if share < SAME or [len(row) for row in mine] != list(work.answers):
        raise NotMeasured(f"the sides write different tokens: {share:.1%} of the rows are equal; no time was taken")
    return share


def fastest(sides: Mapping[str, Callable[[], Any]], plan: Plan) -> tuple[str, dict[str, float]]:
    """The side that is fastest in one run each, after one run that is not counted; and what each took."""
    took: dict[str, float] = {}
    for name, work in sides.items():
        if not took:
            work()
        took[name] = timed(work, plan.device)
        if took[name] > WORSE * min(took.values()) or plan.left() < 6 * min(took.values()):
            break
    return min(took, key=lambda name: took[name]), took


def run(plan: Plan) -> dict[str, Any]:
    """Values, the best sizes of both sides, then both in turn; bf16."""
    share = compared(plan)
    release(plan)
    work = workload(6) if plan.small else repeated(workload(), TIMES)
    count = len(work.prompts)
    engines = {
        name: plan.engine("bfloat16", **options)
        for name, options in (("all at once", {"batch_rows": count}), ("default", {}))
    }
    ways = {name: partial(ours, engine, work) for name, engine in engines.items()}
    best_of_ours, tried_of_ours = fastest(ways, plan)
    plain, tokenizer = plan.plain("bfloat16"), engines["default"].chat.tokenizer
    sizes = [(size, by_length) for size in (count, count // 2, count // 3, count // 6) for by_length in (True, False)]
    theirs = {
        f"{size}{' by length' if by_length else ''}": partial(padded, plain, tokenizer, work, size, by_length)
        for size, by_length in sizes
        if size
    }
    best, tried = fastest(theirs, plan)
    seconds = in_turn({"ours": ways[best_of_ours], "padded": theirs[best]}, plan, runs=2 if plan.small else 5, warm=0)
    for engine in engines.values():
        engine.close()
    ratio = middle(seconds["padded"]) / middle(seconds["ours"])
    return {
        "requests": count,
        "times_the_workload": 1 if plan.small else TIMES,
        "tokens": work.tokens,
        "same_rows_fp32": share,
        "tried_s": {"ours": tried_of_ours, "padded": tried},
        "best_size": {"ours": best_of_ours, "padded": best},
        "runs_s": seconds,
        "tokens_per_s": {side: work.tokens / middle(runs) for side, runs in seconds.items()},
        "ratio": ratio,
        "must": MUST,
        "met": ratio >= MUST,
    }
