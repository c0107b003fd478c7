"""What a worker and its vLLM process tell each other, over a connection. Plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Lora(NamedTuple):
    """An adapter that answers in its base's place; `number` is its name inside vLLM, never 0."""

    name: str
    number: int
    path: str


class Work(NamedTuple):
    """One continuation to write. `rest` are the settings after the first token, where those differ."""

    number: int
    ids: tuple[int, ...]
    settings: Mapping[str, Any]
    rest: Mapping[str, Any] | None = None
    lora: Lora | None = None


class Read(NamedTuple):
    """Per position of a prompt from the second on: log-probability and whether it was the most likely id."""

    values: list[float]
    greedy: list[bool]


class Written(NamedTuple):
    """What became of one work. `tops` are, per new token, likely ids with their log-probabilities, best first.

    `asked` are log-probabilities of the ids that the settings name, at the first new token.
    """

    number: int
    ids: list[int]
    stopped: bool
    tops: list[dict[int, float]]
    read: Read | None = None
    asked: dict[int, float] | None = None


class Opened(NamedTuple):
    """The model is ready: longest sequence that vLLM takes, size of the vocabulary, seconds of import and of start."""

    limit: int
    vocabulary: int
    import_s: float
    open_s: float


class Failed(NamedTuple):
    """The process cannot go on; `error` is the sentence that vLLM (or Python) had for it."""

    when: Literal["open", "work"]
    error: str


class Part(NamedTuple):
    """Results of one step, for the call that `ticket` names."""

    ticket: int
    written: list[Written]


class Dropped(NamedTuple):
    """Nothing more comes for the call that `ticket` names."""

    ticket: int
