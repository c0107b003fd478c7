"""What an engine can be asked, and what it answers.

An engine takes token ids, never text with hidden template logic: `harness.records.chat` renders conversations in one
place. The capabilities are separate protocols, so an engine offers what it can and a plan is refused before anything
runs when a block needs more. Every request carries its own seed: a row's answer depends on its request alone, not on
its neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.records.example import Message

if TYPE_CHECKING:
    import numpy as np

Finish = Literal["stop", "length"]
Capability = Literal["generate", "continue", "turns", "logprobs", "embed", "reward", "weights"]
"""What a model can be asked: answer messages, continue raw ids, score ids, embed texts, rate
conversations with a number, give its weights to a training;
`turns`: write a user's turn, which takes token ids and a chat template of the model's own."""
EngineName = Literal["transformers", "vllm", "openai", "oracle", "hashed"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to continue a prompt. Temperature 0 is greedy and ignores the seed."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    ends: Literal["turn", "text"] = "turn"
    """What of the model's own ends a continuation: every token that closes a turn, or only its end-of-text tokens."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    first_temperature: float | None = None
    """Temperature of the first new token only (None: as the rest)."""
    first_bans: tuple[int, ...] = ()
    """Token ids that may not come first."""
    top_logprobs: int = 0


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One prompt to continue. `seed` drives all its randomness; draw k of n uses seed and k."""

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int = 0
    messages: tuple[Message, ...] = ()
    """The conversation behind the ids, for servers that take no token ids."""
    fresh: bool = False
    """Never answered from the cache of replies, and its reply is not kept there: for measuring drift."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One continuation. `token_ids` include the stop token where one was hit; `text` leaves it and stop strings out.

    A server that answers conversations tells texts and counts but no ids: then `token_ids` is empty, and
    `generated_tokens` is their number.
    """

    request_id: str
    draw: int
    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    prompt_tokens: int
    top_logprobs: tuple[Mapping[int, float], ...] = ()
    """Per new token, the log-probabilities of the most likely ids (only if asked for)."""
    top_texts: tuple[Mapping[str, float], ...] = ()
    """The same by the tokens' texts, best first: natural logarithms, those of one text summed; only if asked for.

    What is not finite is left out, so a position without any usable number is an empty mapping.
    """
    generated_tokens: int | None = None
    """Tokens written, where there are no ids to count."""
    usd: float = 0.0
    """Price of this reply in US dollars, also where it came from the cache of replies."""

    @property
    def new_tokens(self) -> int:
        """Tokens that the model wrote."""
        return len(self.token_ids) if self.generated_tokens is None else self.generated_tokens


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """A request that the model will not answer, whatever is tried again: filtered, or longer than its context."""

    request_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LogprobRequest:
    """Token ids to score from position `start` on (0 scores all that has a predecessor or a BOS before it)."""

    id: str
    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, kw_only=True)
class Logprobs:
    """Per-token log-probabilities (natural log, float32) of ids[start:] and whether each was the greedy choice.

    With `start == 0` the first id has no predecessor: its entry is left out, so `len(values) == len(ids) - 1`.
    """

    request_id: str
    values: np.ndarray
    greedy: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model that can be opened: resolved, on disk or behind a URL, with the settings that decide what it produces.

    `revision` is the content identity (a hash of the weights, or a served model's name); `device` and `options` are
    runtime settings only.
    """

    name: str
    engine: EngineName = "transformers"
    path: Path | None = None
    revision: str = ""
    dtype: str = "float32"
    device: str = "auto"
    prompt_pack: str = "general"
    options: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    """Why this engine runs it, where `engine: auto` chose."""

    @property
    def remote(self) -> bool:
        """Whether a server that was there before answers for it (at `url`); `path` is then its tokenizer's folder."""
        return self.engine == "openai" and bool(self.options.get("url"))

    @property
    def holds(self) -> bool:
        """Whether it takes memory of this machine's devices: a folder, or a server that loopbench starts for one."""
        return self.engine in ("transformers", "vllm") or (self.engine == "openai" and not self.remote)


@runtime_checkable
class Generates(Protocol):
    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion | Unanswered]:
        """Yields completions as they finish, in any order.

        Every request gives exactly `n` of them, or (a served model only) one `Unanswered`.
        """
        ...


@runtime_checkable
class Scores(Protocol):
    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Yields one result per request, in any order."""
        ...


@runtime_checkable
class Embeds(Protocol):
    def embed(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Mean of the last hidden states over all tokens: float32, shape (len(ids), hidden)."""
        ...


@runtime_checkable
class EmbedsTexts(Protocol):
    def embed_texts(self, texts: Sequence[str], max_tokens: Sequence[int | None] = ()) -> np.ndarray:
        """Vectors of an embedder that reads texts, each cut at its limit: float32, shape (len(texts), width).

        A text without any token is a row of NaN.
        """
        ...


@runtime_checkable
class Rewards(Protocol):
    def rendered(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a conversation, as the reward model reads it."""
        ...

    def reward(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """One number per sequence: float32, shape (len(ids),)."""
        ...


class Engine(Protocol):
    """An open model. `chat` renders for it; `close` gives its memory back."""

    spec: ModelSpec

    @property
    def chat(self) -> Any:
        """The `harness.records.chat.ChatFormat` of this model; None for a served one, which renders by itself."""
        ...

    def close(self) -> None: ...


def in_order(requests: Iterable[GenerateRequest], done: Iterable[Completion]) -> list[tuple[Completion, ...]]:
    """Completions grouped by request, in the order of the requests and, within one, of the draws."""
    by_id: dict[str, list[Completion]] = {request.id: [] for request in requests}
    for completion in done:
        by_id[completion.request_id].append(completion)
    return [tuple(sorted(group, key=lambda c: c.draw)) for group in by_id.values()]
