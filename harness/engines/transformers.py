"""The engine that runs Hugging Face causal language models in this process.

It owns its decode loop, because `generate` has one random generator for a whole batch: here a row's random numbers come
from its request alone, so a sample does not depend on its neighbours (up to rounding, where two tokens nearly tie).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.engines.base import Completion, GenerateRequest, LogprobRequest, Logprobs, ModelSpec
from harness.engines.loading import check_folder, load_model
from harness.records.chat import ChatFormat

if TYPE_CHECKING:
    import numpy as np

    from harness.engines.decode import Decoder
    from harness.engines.forward import Forward

log = logging.getLogger(__name__)


class TransformersEngine:
    """One open model: generates, scores and embeds.

    Not for use from several threads. Options of the spec: `batch_rows` (rows decoded at once), `batch_tokens` (padded
    tokens per prefill or scoring batch), `store_mib` (memory of the key/value store).
    """

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        """Loads the model; `threads` are for CPU arithmetic, and one is fastest for small models on a busy machine.

        Raises:
            UserError: the folder, its files, the device or an option are not usable, or the architecture is not.
        """
        import torch

        from harness.engines.forward import Forward
        from harness.engines.limits import Limits, Room

        folder = check_folder(spec)
        torch.set_num_threads(threads)
        self.spec = spec
        self._chat = ChatFormat.from_folder(folder)
        model = load_model(folder, spec.dtype, spec.device)
        self._forward: Forward | None = Forward.of(model)
        self._room = Room(Limits.of(model, spec.options))

    @property
    def chat(self) -> ChatFormat:
        """How conversations become ids for this model."""
        return self._chat

    @property
    def context(self) -> int | None:
        """Longest sequence in tokens, None where the model states none."""
        return self._open.context

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        """Yields completions as they finish, in any order; every request gives exactly `n` of them.

        A completion ends at the model's own stop ids (`chat.stop_ids`) as well as at the request's.

        Raises:
            Unservable: some prompts are empty or too long for the model; nothing was generated.
            Transient: one row alone does not fit into memory.
        """
        return self._decoder.generate(requests)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Yields one result per request, in any order.

        Raises:
            Unservable: some requests are empty, too long, or scored from beyond their end.
            Transient: one request alone does not fit into memory.
        """
        from harness.engines.scoring import logprobs

        return logprobs(self._open, self._room, requests)

    def embed(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Mean of the last hidden states over all tokens: float32, shape (len(ids), hidden).

        Raises:
            Unservable: a sequence is empty or too long.
        """
        from harness.engines.scoring import embed

        return embed(self._open, self._room, ids)

    def notes(self) -> list[str]:
        """What happened since the last call that the user should know: memory that ran out. Told once."""
        return self._room.take()

    def close(self) -> None:
        """Gives the model's memory back; the engine cannot be used afterwards."""
        from harness.engines.limits import release

        self.__dict__.pop("_decoder", None)
        self._forward = None
        release()

    @cached_property
    def _decoder(self) -> Decoder:
        from harness.engines.decode import Decoder

        return Decoder(self._open, self._chat, self._room)

    @property
    def _open(self) -> Forward:
        if self._forward is None:
            raise RuntimeError(f"the engine of {self.spec.name} was closed")
        return self._forward


def engine(spec: ModelSpec, threads: int) -> Any:
    """Opens a model with this engine."""
    return TransformersEngine(spec, threads)
