"""The engine that runs a causal language model with vLLM, in one or several processes of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.engines.adapters import adapter_of, is_adapter
from harness.engines.base import Completion, GenerateRequest, LogprobRequest, Logprobs, ModelSpec
from harness.engines.lengths import check_prompts, check_scored
from harness.engines.vllm.asks import Answers, scored, works_of
from harness.engines.vllm.checks import servable
from harness.engines.vllm.hosts import Hosts
from harness.engines.vllm.link import read_any
from harness.engines.vllm.messages import Lora, Work, Written
from harness.engines.vllm.options import VllmOptions
from harness.errors import UserError
from harness.records.chat import ChatFormat


class VllmEngine:
    """One model: generates and scores. Several adapters over one base may share the processes (`beside`).

    Not for use from several threads. Options of the spec: `harness.engines.vllm.options.VllmOptions`.
    """

    def __init__(self, spec: ModelSpec, threads: int = 1, models: int = 1, hosts: Hosts | None = None) -> None:
        """Starts the processes and waits until the model is loaded.

        Args:
            spec: the model. A folder with a LoRA adapter is served over its base, without merging.
            threads: CPU threads of each process's arithmetic.
            models: how many models share the device.
            hosts: processes of the same base that run already.

        Raises:
            UserError: the model, an option or the device do not go together; the message says what to do.
        """
        options = VllmOptions.of(spec)
        adapter = servable(spec)
        self.spec = spec
        self._hosts: Hosts | None = hosts or Hosts(spec, options, adapter, threads, models)
        self._hosts.join()
        try:
            self._chat = ChatFormat.from_folder(spec.path or "")  # takes seconds, and so does the other side
            self._hosts.start()
        except BaseException:
            self.close()
            raise
        self._lora = None
        if adapter is not None:
            number = self._hosts.number(adapter.folder)
            # vLLM takes adapters of one name for one, and a store's folders all have one name.
            self._lora = Lora(f"{adapter.folder.name}-{number}", number, str(adapter.folder))
        self._answers = Answers(self._chat)

    @property
    def chat(self) -> ChatFormat:
        """How conversations become ids for this model."""
        return self._chat

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        return self._open.context

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that vLLM runs in, one per copy of the model."""
        return tuple(link.pid for link in self._open.links())

    def beside(self, spec: ModelSpec, threads: int) -> VllmEngine | None:
        """An engine for another adapter over the same base, with the same processes; None where that cannot be."""
        adapter = adapter_of(spec.path) if spec.path is not None and is_adapter(spec.path) else None
        if adapter is None or self._lora is None or not self._open.serves(spec, adapter):
            return None
        return VllmEngine(spec, threads, hosts=self._open)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion]:
        """Yields completions as they finish, in any order; every request gives exactly `n` of them.

        Another call may be made while one is read: both are worked on, and each gives its own.

        Raises:
            Unservable: some prompts are empty or too long for the model; nothing was generated.
            UserError: a temperature that vLLM does not take.
            Transient: the process died; what was yielded before is good.
        """
        hosts = self._open
        hosts.start()
        check_prompts(requests, hosts.context, hosts.vocabulary)
        works, places = works_of(requests, self._chat, hosts.context, self._lora)
        for written in self._asked(works):
            request, draw = places[written.number]
            yield self._answers.completion(request, draw, written)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Yields one result per request, in any order.

        The last id of a request is scored but not read, so it may stand one place beyond the context; and requests that
        differ in their last id only are read once.

        Raises:
            Unservable: some requests are empty, too long, or scored from beyond their end.
            Transient: the process died.
        """
        hosts = self._open
        hosts.start()
        starts = {r.id: r.start for r in requests}
        check_scored({r.id: r.ids for r in requests}, starts, hosts.context, hosts.vocabulary, unread=1)
        groups, works = scored(requests, self._lora)
        for request in groups.trivial:
            empty = np.zeros(0, dtype=np.float32)
            yield Logprobs(request_id=request.id, values=empty, greedy=empty.astype(bool))
        for written in self._asked(works):
            yield from groups.results(written)

    def embed(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Refused: a vLLM that embeds is another one than that which generates.

        Raises:
            UserError: always; a plan says so before anything runs.
        """
        raise UserError(
            f"the model {self.spec.name} runs with vLLM, which writes and scores texts only: write "
            "`engine: transformers` for a model that embeds."
        )

    def close(self) -> None:
        """Ends the processes, unless another adapter's engine uses them; the engine cannot be used afterwards."""
        hosts, self._hosts = self._hosts, None
        if hosts is not None:
            hosts.leave()

    def _asked(self, works: Sequence[Work]) -> Iterator[Written]:
        """Deals works out to the copies of the model, and gives what they finish."""
        links, ticket = self._open.links(), next(self._open.tickets)
        shares = {link: share for at, link in enumerate(links) if (share := works[at :: len(links)])}
        left = {link: len(share) for link, share in shares.items()}
        try:
            for link, share in shares.items():
                link.ask(ticket, share)
            while left:
                arrived = {link: link.take(ticket) for link in left}
                if not any(arrived.values()):
                    read_any(left)
                    continue
                left = {link: more for link in left if (more := left[link] - len(arrived[link]))}
                for written in arrived.values():
                    yield from written
        finally:
            for link in shares:
                link.forget(ticket)
            for link in left:
                link.give_up(ticket)

    @property
    def _open(self) -> Hosts:
        if self._hosts is None:
            raise RuntimeError(f"the engine of {self.spec.name} was closed")
        return self._hosts
