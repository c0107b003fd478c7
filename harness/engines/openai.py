"""The engine for a model behind an OpenAI-compatible server.

It sends conversations, not ids, so the server's own chat template renders them. Replies are looked up in the home's
cache first and kept there one by one as they arrive: whatever ends the process, no finished reply is paid for twice.
"""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from harness.engines.base import Completion, Finish, GenerateRequest, LogprobRequest, Logprobs, ModelSpec, Unanswered
from harness.engines.served.calls import Caller, Stopped
from harness.engines.served.failures import KEPT, Again, Refused
from harness.engines.served.replies import Replies
from harness.engines.served.settings import Served
from harness.engines.served.slots import Slots
from harness.engines.served.wire import Call, Reply, call_of
from harness.errors import StageFailed, UserError
from harness.records.hashing import sha256
from harness.store.home import Home
from harness.store.spent import Ledger

if TYPE_CHECKING:
    import numpy as np
    from anyio.from_thread import BlockingPortal

log = logging.getLogger(__name__)
_APART = "calls"
"""The ledger of commands that belong to no experiment."""


@dataclass(frozen=True)
class _Place:
    """Where a reply belongs: one draw of one request."""

    request: str
    draw: int


@dataclass
class _Work:
    """One call and all places that wait for its reply."""

    call: Call
    places: list[_Place]
    fresh: bool = False
    failed: Again | None = None


class OpenAIEngine:
    """One served model. It generates; it cannot score or embed ids, because it does not tell its tokenizer.

    Not for use from several threads. A thread of its own runs the event loop, so it also works inside a notebook.
    """

    def __init__(self, spec: ModelSpec, home: Home | None = None) -> None:
        """Reads the settings and the key; no call is made.

        Raises:
            UserError: settings are missing, or the key's variable is not set.
        """
        self.spec = spec
        self.served = Served.of(spec)
        self._home = home or Home.find()
        self._replies = Replies(self._home)
        ledger = Ledger(self._home.spent_file(self.served.experiment or _APART), self.served.usd_limit)
        self._caller = Caller(self.served, self.served.key(), ledger)
        self._slots: Slots | None = None
        self._portal_of: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    @property
    def chat(self) -> None:
        """None: the server renders."""
        return

    @property
    def context(self) -> int | None:
        """Not known; a conversation that is too long comes back as `Unanswered`."""
        return None

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Completion | Unanswered]:
        """Yields completions as they arrive; a request that the server refuses gives one `Unanswered`.

        Equal requests are one call. At temperature 0 the draws of a request are one call too.

        Raises:
            UserError: the key, the model's name, the URL or a field of the request is wrong.
            LimitReached: the next call could pass `limits.usd`.
            StageFailed: the server did not answer within the deadline. All replies that it gave are kept.
        """
        works = self._works(requests)
        if not works:
            return
        arrived: queue.SimpleQueue[tuple[_Work, Reply | Refused] | None] = queue.SimpleQueue()
        running = self._open().start_task_soon(self._all, works, arrived)
        refused: set[str] = set()
        try:
            while (item := arrived.get()) is not None:
                work, outcome = item
                for place in work.places:
                    result = self._result(place, outcome)
                    if isinstance(result, Completion) or place.request not in refused:
                        yield result
                    if isinstance(result, Unanswered):
                        refused.add(place.request)
        except BaseException:  # the reader left early or was interrupted
            running.cancel()
            raise
        self._finish(running, works)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Always raises a UserError: chat servers give no log-probabilities of a text that they are shown."""
        self._cannot("score given texts (log-probabilities of a prompt)")

    def embed(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Always raises a UserError."""
        self._cannot("embed texts")

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        if self._portal is not None and self._portal_of is not None:
            self._portal.call(self._caller.close)
            self._portal_of.__exit__(None, None, None)
        if self._slots is not None:
            self._slots.close()
        self._portal = self._portal_of = self._slots = None

    def _cannot(self, what: str) -> NoReturn:
        raise UserError(f"{self.served.where} is a served model and cannot {what}: bind a model folder to this role")

    def _works(self, requests: Sequence[GenerateRequest]) -> list[_Work]:
        works: dict[str, _Work] = {}
        for request in requests:
            for draw in range(request.sampling.n):
                call = call_of(self.served, request, draw)
                name = f"{call.key} {request.id} {draw}" if request.fresh else call.key
                work = works.setdefault(name, _Work(call, [], request.fresh))
                work.places.append(_Place(request.id, draw))
        return list(works.values())

    def _result(self, place: _Place, outcome: Reply | Refused) -> Completion | Unanswered:
        if isinstance(outcome, Refused):
            return Unanswered(request_id=place.request, reason=str(outcome))
        if outcome.finish == "content_filter":
            return Unanswered(request_id=place.request, reason="the server withheld the answer (content_filter)")
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
            usd=self._caller.price(outcome),
        )

    # --- in the event loop --------------------------------------------------------------------------------------------
    async def _all(self, works: Sequence[_Work], arrived: Any) -> None:
        """Answers all works; puts what became of each, and None at the end."""
        try:
            self._caller.resume()
            waiting = iter(works)
            count = min(self.served.concurrency, len(works))
            results = await asyncio.gather(
                *(self._line(waiting, arrived) for _ in range(count)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        finally:
            arrived.put(None)

    async def _line(self, waiting: Iterator[_Work], arrived: Any) -> None:
        """One of the lines that take works in turn; it ends when nothing is left or nothing more can be asked."""
        for work in waiting:
            if not work.fresh and (kept := self._replies.get(work.call.key)) is not None:
                arrived.put((work, kept))
                continue
            if self._caller.reason is not None:
                return
            try:
                arrived.put((work, await self._reply(work)))
            except Again as error:
                work.failed = error
            except Refused as refused:
                arrived.put((work, refused))
            except Stopped:
                return

    async def _reply(self, work: _Work) -> Reply:
        if self._slots is None:
            folder = self._home.locks / f"served-{sha256(self.served.server)[:16]}"
            self._slots = Slots(folder, self.served.concurrency)
        async with self._slots.place():
            reply = await self._caller.ask(work.call)
        if not work.fresh:
            try:
                self._replies.put(work.call.key, reply)  # not in a thread: handing it over takes longer than writing it
            except UserError as error:  # a full disk: what cannot be kept is not bought
                self._caller.stop(error)
                raise
        return reply

    # --- around the event loop ----------------------------------------------------------------------------------------
    def _open(self) -> BlockingPortal:
        if self._portal is None:
            import openai  # noqa: F401  the slow part of a first call, here and not within its deadline
            import tenacity  # noqa: F401
            from anyio.from_thread import start_blocking_portal

            self._portal_of = start_blocking_portal()
            self._portal = self._portal_of.__enter__()
        return self._portal

    def _finish(self, running: Future[None], works: Sequence[_Work]) -> None:
        """Says what failed, once all that was under way has ended."""
        running.result()
        if self._caller.reason is not None:
            raise self._caller.reason
        failed = [work for work in works if work.failed is not None]
        if failed:
            raise StageFailed(
                f"{len(failed):,} of {len(works):,} calls to {self.served.where} had no answer within "
                f"{self.served.deadline:g} s, though others had; the first: {failed[0].failed}. {KEPT}"
            )
