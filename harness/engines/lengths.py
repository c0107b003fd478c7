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


def check_prompts(requests: Sequence[GenerateRequest], context: int | None, size: int) -> None:
    """Every prompt needs a token to continue, room for one more, something that is asked of it, and known ids.

    Raises:
        Unservable: naming each request with its length, the context or the foreign id.
    """
    reasons = ((request, _prompt_fault(request, context, size)) for request in requests)
    faults = [Fault(request.id, len(request.prompt), reason) for request, reason in reasons if reason]
    if faults:
        raise Unservable(faults)


def check_scored(
    ids: Mapping[str, Sequence[int]], starts: Mapping[str, int], context: int | None, size: int, unread: int = 0
) -> None:
    """Every sequence must be non-empty, fit the context, have known ids, and contain the position scored first.

    The last `unread` ids need no place in the context: they are scored, but never read.

    Raises:
        Unservable: naming each request with its length, the context or the foreign id.
    """
    reasons = (
        (name, sequence, _scored_fault(sequence, starts.get(name, 0), context, size, unread))
        for name, sequence in ids.items()
    )
    faults = [Fault(name, len(sequence), reason) for name, sequence, reason in reasons if reason]
    if faults:
        raise Unservable(faults)


def _prompt_fault(request: GenerateRequest, context: int | None, size: int) -> str:
    tokens, sampling = len(request.prompt), request.sampling
    if tokens == 0:
        return "its prompt is empty; begin it with a BOS token or some text"
    if context is not None and tokens >= context:
        return f"its prompt has {tokens} tokens and the model's context is {context}: no room for an answer"
    if sampling.max_tokens < 1 or sampling.n < 1:
        return "it asks for no tokens: max_tokens and n must be at least 1"
    return _foreign([*request.prompt, *sampling.first_bans, *sampling.logit_bias], size)


def _scored_fault(ids: Sequence[int], start: int, context: int | None, size: int, unread: int) -> str:
    if not ids:
        return "it has no tokens"
    if context is not None and len(ids) > context + unread:
        return f"it has {len(ids)} tokens and the model's context is {context}"
    if not 0 <= start <= len(ids):
        return f"it is scored from position {start} but has {len(ids)} tokens"
    return _foreign(ids, size)


def _foreign(ids: Sequence[int], size: int) -> str:
    if min(ids) >= 0 and max(ids) < size:
        return ""
    strange = next(token for token in ids if not 0 <= token < size)
    return f"it has the token id {strange}, which the model's vocabulary of {size} does not have"
