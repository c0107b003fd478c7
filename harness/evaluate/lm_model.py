"""Our engines behind lm-eval's own model interface: for `lm_eval.simple_evaluate` in a notebook.

The suite `lm_eval` does not need it (its requests run in the loop's stream, with those of all other suites), but both
make token ids and decoding settings in one place, `_lm_encode`, so they give the same responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.engines.base import Completion, GenerateRequest, LogprobRequest, Unanswered, in_order
from harness.errors import UserError
from harness.evaluate import _lm_encode
from harness.records.hashing import seed_of

if TYPE_CHECKING:
    from harness.engines.open import OpenEngine


def lm(engine: OpenEngine, seed: int = 0) -> Any:
    """An `lm_eval.api.model.LM` that speaks through an open engine.

    Args:
        engine: what `harness.engines.open_engine` gives, of a model with a tokenizer here.
        seed: of sampled texts; greedy ones and log-likelihoods do not depend on it.
    """
    return _adapter()(engine, seed)


@lru_cache(maxsize=1)
def _adapter() -> type[Any]:
    from lm_eval.api.model import LM

    class EngineLM(LM):
        """Requests of one call go to the engine as one stream; it batches them."""

        def __init__(self, engine: OpenEngine, seed: int) -> None:
            super().__init__()
            self.engine, self.chat, self.seed = engine, engine.chat, seed

        @property
        def tokenizer_name(self) -> str:
            return str(self.chat.template_hash)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return str(self.chat.template)

        def apply_chat_template(self, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return _lm_encode.rendered(history, not add_generation_prompt, self.chat)

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            pairs = [(str(request.args[0]), str(request.args[1])) for request in requests]
            found = [[_lm_encode.continuation(context, text, self.chat)] for context, text in pairs]
            return scored(self.engine, found)

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            found = [_lm_encode.windows(request.args[0], self.chat) for request in requests]
            return [value for value, _ in scored(self.engine, found)]

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            asks = [self._request(index, *request.args) for index, request in enumerate(requests)]
            done = in_order(asks, map(_answered, self.engine.generate(asks)))
            return [
                _lm_encode.decoded(group[0], ask.sampling.stop, self.chat)
                for ask, group in zip(asks, done, strict=True)
            ]

        def _request(self, index: int, text: str, options: dict[str, Any]) -> GenerateRequest:
            sampling = _lm_encode.sampling(options, None, 1, self.chat)
            ids = _lm_encode.prompt(text, sampling, self.chat).ids
            return GenerateRequest(id=str(index), prompt=ids, sampling=sampling, seed=seed_of(self.seed, index))

    return EngineLM


def _answered(reply: Completion | Unanswered) -> Completion:
    if isinstance(reply, Unanswered):
        raise UserError(f"request {reply.request_id} has no answer: {reply.reason}")
    return reply


def scored(engine: OpenEngine, texts: Sequence[Sequence[_lm_encode.Scored]]) -> list[tuple[float, bool]]:
    """Log-likelihood (natural logarithm) of each text, summed over its parts, and whether it was the likeliest."""
    requests = [
        LogprobRequest(id=f"{index}/{number}", ids=part.ids, start=part.start)
        for index, parts in enumerate(texts)
        for number, part in enumerate(parts)
    ]
    found = {result.request_id: result for result in engine.logprobs(requests)}
    groups = [[found[f"{index}/{number}"] for number in range(len(parts))] for index, parts in enumerate(texts)]
    return [(sum(float(r.values.sum()) for r in group), all(bool(r.greedy.all()) for r in group)) for group in groups]
