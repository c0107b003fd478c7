"""Tokens per second of greedy generation: our transformers engine against `model.generate` in padded batches.

    python benchmarks/decode_speed.py [--runs 5] [--small]

The workload is `workloads/decode.json`: lengths of prompts and answers, mixed as instruction data mixes them. Both
sides write the same number of tokens for every request, and neither knows before how many: a request's row ends at the
length that the workload plans, while both may only expect its cap. Both read the same ids and decode what they wrote.

The other side is `model.generate`, left-padded, greedy, with its own cache, in batches of 8 to 128 rows, in the order
in which requests arrive and sorted by prompt length; all are reported, and the fastest is compared. A batch ends when
its last row does, as it does with a natural end of text. Loading is not timed. Models: random weights (hidden 256, 4
layers) and `pocket/chat`; float32, one thread, in this process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from _machine import RESULTS, alternated, machine, medians, quiet, versions, write

WORKLOAD = Path(__file__).parent / "workloads" / "decode.json"
SIZES = (8, 16, 32, 64, 128)
MUST, SAME = 1.5, 0.99
"""Share of rows that must be equal token by token: two ways to sum may part where two tokens nearly tie."""
MIDDLE = {"hidden": 256, "layers": 4, "heads": 8, "vocab": 2048}


@dataclass(frozen=True)
class Workload:
    """Requests: ids to continue, how many tokens each will write, and how many both sides must expect at most."""

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    cap: int

    @property
    def tokens(self) -> int:
        """Tokens that are written in all."""
        return sum(self.answers)


def workload(rows: int | None = None, path: Path = WORKLOAD) -> Workload:
    """The committed workload; its first `rows` requests where that is given."""
    import numpy as np

    written = json.loads(path.read_text(encoding="utf-8"))
    rng, lengths, (low, high) = np.random.default_rng(written["seed"]), written["lengths"][:rows], written["ids"]
    prompts = tuple(tuple(rng.integers(low, high, size=prompt).tolist()) for prompt, _ in lengths)
    return Workload(prompts, tuple(answer for _, answer in lengths), written["cap"])


def ours(engine: Any, work: Workload) -> list[list[int]]:
    """What our engine writes. Rows end as planned, but the scheduler is told the cap only."""
    from harness.engines import decode
    from harness.engines.base import GenerateRequest, Sampling
    from harness.engines.ledger import Row

    class Planned(Row):
        @property
        def need(self) -> int:
            return len(self.request.prompt) + work.cap

    vars(engine.chat).update(stop_ids=(), end_ids=())  # nothing but the planned length ends a row
    requests = [
        GenerateRequest(id=str(number), prompt=prompt, sampling=Sampling(max_tokens=answer))
        for number, (prompt, answer) in enumerate(zip(work.prompts, work.answers, strict=True))
    ]
    found: list[list[int]] = [[]] * len(requests)
    with mock.patch.object(decode, "Row", Planned):
        for one in engine.generate(requests):
            found[int(one.request_id)] = list(one.token_ids)
    return found


def padded(model: Any, tokenizer: Any, work: Workload, size: int, by_length: bool) -> list[list[int]]:
    """What `model.generate` writes in left-padded batches of `size` rows."""
    import torch

    order = list(range(len(work.prompts)))
    if by_length:
        order.sort(key=lambda row: -len(work.prompts[row]))
    found: list[list[int]] = [[]] * len(order)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        longest = max(len(work.prompts[row]) for row in rows)
        gaps = [longest - len(work.prompts[row]) for row in rows]
        ids = torch.tensor([[0] * gap + list(work.prompts[row]) for gap, row in zip(gaps, rows, strict=True)])
        mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
        ends = torch.tensor([longest + work.answers[row] for row in rows], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=False,
                max_new_tokens=work.cap,
                stopping_criteria=[_planned(ends)],
                eos_token_id=None,
                pad_token_id=0,
            )
        written = out[:, longest:].tolist()
        for row, tokens in zip(rows, written, strict=True):
            found[row] = tokens[: work.answers[row]]
        tokenizer.batch_decode([found[row] for row in rows])
    return found


def _planned(ends: Any) -> Callable[..., Any]:
    """Per row, whether it is as long as planned; `generate` goes on while any row is not."""

    def done(ids: Any, scores: Any, **_: Any) -> Any:
        return ids.shape[1] >= ends

    return done


def same_rows(one: Sequence[list[int]], other: Sequence[list[int]]) -> float:
    """The share of rows that are equal."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def compared(
    engine: Any, plain: Any, tokenizer: Any, work: Workload, sizes: Sequence[int], runs: int
) -> dict[str, Any]:
    """Both sides on one model: values first, then every batch size once, then ours and the best of them in turn."""
    truth = ours(engine, work)
    sides = {
        f"{size}{' by length' if by_length else ''}": partial(padded, plain, tokenizer, work, size, by_length)
        for size in sizes
        for by_length in (False, True)
    }
    share = same_rows(truth, sides[next(iter(sides))]())
    if share < SAME or [len(row) for row in truth] != list(work.answers):
        raise SystemExit(f"the sides write different tokens: {share:.1%} of the rows are equal")
    tried = {name: every[0]["wall_s"] for name, every in alternated(sides, 1, warm=0).items()}
    best = min(tried, key=lambda name: tried[name])
    times = alternated({"ours": partial(ours, engine, work), "padded": sides[best]}, runs)
    middle = medians(times)
    return {
        "same_rows": share,
        "tokens_per_s_by_size": {name: round(work.tokens / seconds) for name, seconds in tried.items()},
        "best_size": best,
        "runs": times,
        "tokens_per_s": {side: round(work.tokens / one["wall_s"]) for side, one in middle.items()},
        "ratio_wall": round(middle["padded"]["wall_s"] / middle["ours"]["wall_s"], 3),
        "ratio_cpu": round(middle["padded"]["cpu_s"] / middle["ours"]["cpu_s"], 3),
    }


def models(folder: Path) -> dict[str, Path]:
    """The folders of the two models; the random one is made here."""
    from harness.engines import scratch
    from harness.pocket import model_path

    texts = [f"number {number} and the {number * 7919 % 10007}th word of a text" for number in range(4000)]
    scratch.build(folder / "random", seed=0, texts=texts, **MIDDLE)
    return {"random": folder / "random", "pocket/chat": model_path("pocket/chat")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="24 requests, two sizes: a smoke test")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "decode_speed.json")
    options = parser.parse_args()
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.engines.base import ModelSpec
    from harness.engines.transformers import TransformersEngine

    torch.set_num_threads(1)
    before, found = machine(), {}
    work = workload(24 if options.small else None)
    with tempfile.TemporaryDirectory(prefix="loopbench-") as name:
        for label, folder in models(Path(name)).items():
            engine = TransformersEngine(ModelSpec(name=label, path=folder, device="cpu"))
            plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            sizes = (8, 16) if options.small else SIZES
            found[label] = compared(engine, plain, tokenizer, work, sizes, options.runs)
            engine.close()
    result = {
        "benchmark": "decode_speed",
        "machine": before,
        "versions": versions(),
        "threads": 1,
        "workload": {"file": WORKLOAD.name, "requests": len(work.prompts), "tokens": work.tokens, "cap": work.cap},
        "random": MIDDLE,
        "models": found,
        "must": MUST,
    }
    write(options.output, result)
    return 0 if options.small or all(one["ratio_wall"] >= MUST for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
