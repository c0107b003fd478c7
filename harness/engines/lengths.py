"""Which requests fit a model's context; the others are refused together, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.engines.base import GenerateRequest
from harness.errors import UserError

SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """Why one request cannot be served."""

    id: str
    tokens: int
    reason: str


class Unservable(UserError):
    """Requests that this model can never serve; `faults` names each, so that a caller may drop them and go on."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults: Mapping[str, Fault] = {fault.id: fault for fault in faults}
        lines = [f"request {fault.id}: {fault.reason}" for fault in faults[:SHOWN]]
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        super().__init__("nothing was computed: " + "; ".join(lines) + more + ".")


def check_prompts(requests: Sequence[GenerateRequest], context: int | None) -> None:
    """Every prompt needs a token to continue, room for one more, and something that is asked of it.

    Raises:
        Unservable: naming each request with its length and the context.
    """
    faults = []
    for request in requests:
        tokens = len(request.prompt)
        if tokens == 0:
            faults.append(Fault(request.id, 0, "its prompt is empty; begin it with a BOS token or some text"))
        elif context is not None and tokens >= context:
            reason = (
                f"its prompt has {tokens} tokens and the model's context is {context}: no room is left for an answer"
            )
            faults.append(Fault(request.id, tokens, reason))
        elif request.sampling.max_tokens < 1 or request.sampling.n < 1:
            faults.append(Fault(request.id, tokens, "it asks for no tokens: max_tokens and n must be at least 1"))
    if faults:
        raise Unservable(faults)


def check_scored(ids: Mapping[str, Sequence[int]], starts: Mapping[str, int], context: int | None) -> None:
    """Every sequence must be non-empty, fit the context, and contain the position from which it is scored.

    Raises:
        Unservable: naming each request with its length.
    """
    faults = []
    for name, sequence in ids.items():
        tokens = len(sequence)
        if tokens == 0:
            faults.append(Fault(name, 0, "it has no tokens"))
        elif context is not None and tokens > context:
            faults.append(Fault(name, tokens, f"it has {tokens} tokens and the model's context is {context}"))
        elif not 0 <= starts.get(name, 0) <= tokens:
            faults.append(Fault(name, tokens, f"it is scored from position {starts[name]} but has {tokens} tokens"))
    if faults:
        raise Unservable(faults)
