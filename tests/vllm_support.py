"""What the tests with a real vLLM share: real questions and rows of the pocket world, and how far two engines agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.engines.base import Completion, GenerateRequest, ModelSpec, Sampling
from harness.engines.vllm.installed import build

MODELS = Path(__file__).parents[1] / "harness" / "pocket" / "models"
NEEDED = build() is not None
WHY = "vLLM is not installed: see docs/engines.md"


def spec(name: str, engine: Any = "vllm", path: Path | None = None, **options: Any) -> ModelSpec:
    """A pocket model (or another folder) on the CPU in float32."""
    return ModelSpec(name=name, engine=engine, path=path or MODELS / name, device="cpu", options=options)


def questions(count: int) -> list[str]:
    """Questions of the pocket test split."""
    from harness.evaluate.pocket import Pocket

    items = Pocket(count=count).items("test")
    return [str(item.turns[0]) for item in items]


def asked(chat: Any, texts: Sequence[str], **sampling: Any) -> list[GenerateRequest]:
    """One request per question, in the model's own template."""
    settings = Sampling(**{"max_tokens": 96} | sampling)
    return [
        GenerateRequest(
            id=f"q{at}",
            prompt=chat.render([{"role": "user", "content": text}], add_generation_prompt=True),
            sampling=settings,
            seed=1000 + at,
        )
        for at, text in enumerate(texts)
    ]


def gap_at_divergence(engine: Any, request: GenerateRequest, one: Completion, other: Completion) -> float | None:
    """None for equal ids; else the gap of the two tokens' log-probabilities where they part (a near tie: ~0)."""
    from harness.engines.base import LogprobRequest

    pairs = zip(one.token_ids, other.token_ids, strict=False)
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        return None if len(one.token_ids) == len(other.token_ids) else float("inf")
    before = (*request.prompt, *one.token_ids[:at])
    both = [
        LogprobRequest(id=str(token), ids=(*before, token), start=len(before))
        for token in (one.token_ids[at], other.token_ids[at])
    ]
    values = [float(result.values[0]) for result in engine.logprobs(both)]
    return abs(values[0] - values[1])
