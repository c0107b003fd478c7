"""The engine for a model behind an OpenAI-compatible server, one that was there or one that loopbench starts.

Two ways of asking. Where only a server's URL is known it gets conversations, which its own chat template renders. Where
the model's tokenizer is known too (`tokenizer:` beside `url:`, or a folder that loopbench serves itself) it gets token
ids, and the model can be asked all that the transformers engine can but for embeddings. Replies are looked up in the
home's cache first and kept there one by one as they arrive: whatever ends the process, no finished reply is paid for
twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from harness.engines.base import Completion, Finish, GenerateRequest, LogprobRequest, Logprobs, ModelSpec, Unanswered
from harness.engines.served.asking import Asker, Place, Work
from harness.engines.served.calls import Caller
from harness.engines.served.failures import Refused
from harness.engines.served.ids import Ids, unservable
from harness.engines.served.offer import Offer, offer_of
from harness.engines.served.settings import Served
from harness.engines.served.tokens import check_body
from harness.engines.served.wire import Reply, call_of
from harness.errors import UserError
from harness.store.home import Home
from harness.store.spent import Ledger

if TYPE_CHECKING:
    import numpy as np

    from harness.engines.served.local import LocalServer
    from harness.records.chat import ChatFormat

_APART = "calls"
"""The ledger of commands that belong to no experiment."""


class OpenAIEngine:
    """One served model. Not for use from several threads."""

    def __init__(self, spec: ModelSpec, home: Home | None = None, threads: int = 1, models: int = 1) -> None:
        """Reads the settings and the key; a server of loopbench's own is started, another one is not called.

        Args:
            spec: the model; with a `path`, its tokenizer (beside `url:`) or the folder to serve.
            home: where replies are kept and money is counted (by default where results are).
            threads: CPU threads of a server that is started here.
            models: how many models share the device with it.

        Raises:
            UserError: settings are missing, the key's variable is not set, or the server could not be started.
        """
        self.spec = spec
        self._home = home or Home.find()
        self._local: LocalServer | None = None
        self._asking: Asker | None = None
        self._notes: list[str] = []
        self.served = Served.of(spec)
        self._key = self.served.key()
        if not self.served.local:
            return
        from harness.engines.served.local import LocalServer, identity_of, ready

        ready(spec)
        self._local = LocalServer(spec, self._home, threads, models)
        # Its name there is known, and every call carries it; its address comes when it is asked.
        self.served = replace(self.served, identity=identity_of(spec), model=self._local.model)
        self._local.start()

    @cached_property
    def chat(self) -> ChatFormat | None:
        """How conversations become ids; None where the server renders."""
        from harness.records.chat import ChatFormat

        return None if self.spec.path is None else ChatFormat.from_folder(self.spec.path)

    @cached_property
    def context(self) -> int | None:
        """Longest sequence in tokens, prompt and answer together.

        None where the server renders: a conversation that is too long comes back as `Unanswered`.

        Raises:
            UserError: a server that takes no token ids, or another tokenizer.
        """
        if self.chat is None:
            return None
        if self.served.local:
            from harness.engines.served.local import context_for

            return context_for(self.spec)
        # A server keeps one place for the token that it writes.
        told = None if self.offer.context is None else self.offer.context - 1
        return min((n for n in (told, self.chat.context) if n is not None), default=None)

    @cached_property
    def offer(self) -> Offer:
        """What the server offers beyond conversations; it is asked once per home.

        Raises:
            UserError: it does not answer, or takes no token ids though `tokenizer:` is given.
        """
        if self.spec.path is None:
            return Offer()
        if self.served.local:
            from harness.engines.vllm.installed import vllm_version

            return Offer(ids=True, logprobs=True, context=self.context, software=f"vllm-{vllm_version()}")
        check_body(self.served)
        found = offer_of(self.served, self.spec.path, self._home)
        found.require(self.served)
        return found

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion | Unanswered]:
        """Yields completions as they arrive; a request that the server refuses gives one `Unanswered`.

        Equal requests are one call. At temperature 0 the draws of a request are one call too.

        Raises:
            UserError: the key, the model's name, the URL or a field of the request is wrong.
            LimitReached: the next call could pass `limits.usd`.
            Transient: a server that loopbench started has ended; it is started again at the next call.
            StageFailed: the server did not answer within the deadline. All replies that it gave are kept.
        """
        asked = {request.id: request for request in requests}
        if self.chat is not None:
            faults = self._ids.faults(requests)
            yield from (Unanswered(request_id=name, reason=reason) for name, reason in faults.items())
            asked = {name: request for name, request in asked.items() if name not in faults}
            works = self._ids.works(list(asked.values()))
        else:
            works = _works(self.served, requests)
        refused: set[str] = set()
        for work, outcome in self._answers(works):
            for place in work.places:
                result = self._result(asked[place.request], place, outcome)
                if isinstance(result, Completion) or place.request not in refused:
                    yield result
                if isinstance(result, Unanswered):
                    refused.add(place.request)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Yields one result per request, in any order.

        Raises:
            UserError: the server gives no log-probabilities of a text that it is shown.
            Unservable: some requests are empty, too long, or scored from beyond their end.
            Transient, StageFailed: as `generate`.
        """
        if self.chat is None:
            self._cannot("score given texts (log-probabilities of a prompt)")
        if not self.offer.logprobs:
            raise UserError(
                f"{self.served.where} cannot score given texts: {(self.offer.lacks or {}).get('logprobs')}. Bind a "
                "model folder to this role, or a server that gives them, such as `vllm serve`"
            )
        return self._scored(self._ids.score_works(requests), requests)

    def _scored(self, works: Sequence[Work], requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        by_id = {request.id: request for request in requests}
        waiting = {place.request for work in works for place in work.places}
        yield from (self._ids.scored(request, None) for request in requests if request.id not in waiting)
        refused: dict[str, str] = {}
        for work, outcome in self._answers(works):
            for place in work.places:
                if isinstance(outcome, Refused):
                    refused[place.request] = str(outcome)
                else:
                    yield self._ids.scored(by_id[place.request], outcome)
        if refused:
            raise unservable(refused, requests)

    def embed(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Always raises a UserError."""
        self._cannot("embed texts")

    @property
    def pids(self) -> tuple[int, ...]:
        """The process that holds a server of loopbench's own; none for another server."""
        pid = None if self._local is None else self._local.pid
        return () if pid is None else (pid,)

    def notes(self) -> list[str]:
        """What happened since the last call that the user should know: a server that was started again. Told once."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Closes the connections, ends the thread, and ends a server that loopbench started."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.close()
        if self._local is not None:
            self._local.close()

    def _cannot(self, what: str) -> NoReturn:
        raise UserError(f"{self.served.where} is a served model and cannot {what}: bind a model folder to this role")

    @cached_property
    def _ids(self) -> Ids:
        if self.chat is None or self.spec.path is None:
            self._cannot("take token ids, because its tokenizer is not known")
        return Ids(self.served, self.chat, self.spec.path, self.context)

    def _answers(self, works: Sequence[Work]) -> Iterator[tuple[Work, Reply | Refused]]:
        if works:
            yield from self._asker().answers(works)

    def _asker(self) -> Asker:
        """The way to the server; one of our own that has died is started anew, at another address."""
        if self._local is not None and (self._asking is None or self._local.gone() is not None):
            if (why := self._local.gone()) is not None:
                self._notes.append(f"{why} Its server was started again.")
            self._local.start()
            if self._asking is not None:
                self._asking.close()
                self._asking = None
            self.served = replace(self.served, url=self._local.url)
        if self._asking is None:
            ledger = Ledger(self._home.spent_file(self.served.experiment or _APART), self.served.usd_limit)
            gone = {} if self._local is None else {"gone": self._local.gone}
            self._asking = Asker(Caller(self.served, self._key, ledger, **gone), self._home)
        return self._asking

    def _result(self, request: GenerateRequest, place: Place, outcome: Reply | Refused) -> Completion | Unanswered:
        if isinstance(outcome, Refused):
            return Unanswered(request_id=place.request, reason=str(outcome))
        if outcome.finish == "content_filter":
            return Unanswered(request_id=place.request, reason="the server withheld the answer (content_filter)")
        usd = self.served.price(outcome.prompt_tokens, outcome.completion_tokens)
        if self.chat is not None:
            return self._ids.completion(request, place, outcome, usd)
        finish: Finish = "length" if outcome.finish == "length" else "stop"
        return Completion(
            request_id=place.request,
            draw=place.draw,
            text=outcome.text,
            token_ids=(),
            finish=finish,
            prompt_tokens=outcome.prompt_tokens,
            top_texts=outcome.top,
            generated_tokens=outcome.completion_tokens,
            usd=usd,
        )


def _works(served: Served, requests: Sequence[GenerateRequest]) -> list[Work]:
    """Conversations: one work per distinct call."""
    works: dict[str, Work] = {}
    for request in requests:
        for draw in range(request.sampling.n):
            call = call_of(served, request, draw)
            name = f"{call.key} {request.id} {draw}" if request.fresh else call.key
            works.setdefault(name, Work(call, [], request.fresh)).places.append(Place(request.id, draw))
    return list(works.values())
