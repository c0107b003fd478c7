"""Many calls to one server side by side: each looked up among the kept replies first, and kept there as it arrives.

A thread of its own runs the event loop, so this also works inside a notebook. Not for use from several threads.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.engines.served.calls import Caller, Stopped
from harness.engines.served.failures import KEPT, Again, Refused
from harness.engines.served.replies import Replies
from harness.engines.served.slots import Slots
from harness.engines.served.tokens import joined
from harness.engines.served.wire import Call, Reply
from harness.errors import StageFailed, UserError
from harness.records.hashing import sha256
from harness.store.home import Home

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal


@dataclass(frozen=True)
class Place:
    """Where a reply belongs: one draw of one request."""

    request: str
    draw: int = 0


@dataclass
class Work:
    """One call and all places that wait for its reply; `follow` gives the call that goes on where that one ended."""

    call: Call
    places: list[Place]
    fresh: bool = False
    follow: Callable[[Reply], Call | None] | None = None
    failed: Again | None = None


class Asker:
    """Asks one server, as many calls at once as it may have."""

    def __init__(self, caller: Caller, home: Home) -> None:
        self.caller, self._home = caller, home
        self._served = caller.served
        self._replies = Replies(home)
        self._slots: Slots | None = None
        self._portal_of: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    def answers(self, works: Sequence[Work]) -> Iterator[tuple[Work, Reply | Refused]]:
        """What became of each work, as it arrives.

        Raises:
            UserError: the key, the model's name, the URL or a field of the request is wrong.
            LimitReached: the next call could pass `limits.usd`.
            Transient: a server that loopbench started has ended.
            StageFailed: the server did not answer within the deadline. All replies that it gave are kept.
        """
        arrived: queue.SimpleQueue[tuple[Work, Reply | Refused] | None] = queue.SimpleQueue()
        running = self._open().start_task_soon(self._all, works, arrived)
        try:
            while (item := arrived.get()) is not None:
                yield item
        except BaseException:  # the reader left early or was interrupted
            running.cancel()
            raise
        self._finish(running, works)

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        if self._portal is not None and self._portal_of is not None:
            self._portal.call(self.caller.close)
            self._portal_of.__exit__(None, None, None)
        if self._slots is not None:
            self._slots.close()
        self._portal = self._portal_of = self._slots = None

    # --- in the event loop --------------------------------------------------------------------------------------------
    async def _all(self, works: Sequence[Work], arrived: Any) -> None:
        """Answers all works; puts what became of each, and None at the end."""
        try:
            self.caller.resume()
            waiting = iter(works)
            count = min(self._served.concurrency, len(works))
            results = await asyncio.gather(
                *(self._line(waiting, arrived) for _ in range(count)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        finally:
            arrived.put(None)

    async def _line(self, waiting: Iterator[Work], arrived: Any) -> None:
        """One of the lines that take works in turn; it ends when nothing is left or nothing more can be asked."""
        for work in waiting:
            try:
                reply = await self._reply(work.call, work.fresh)
                if work.follow is not None:
                    after = work.follow(reply)
                    reply = joined(reply, None if after is None else await self._reply(after, work.fresh))
                arrived.put((work, reply))
            except Again as error:
                work.failed = error
            except Refused as refused:
                arrived.put((work, refused))
            except Stopped:
                return

    async def _reply(self, call: Call, fresh: bool) -> Reply:
        if not fresh and (kept := self._replies.get(call.key)) is not None:
            return kept
        if self.caller.reason is not None:
            raise Stopped(str(self.caller.reason))
        async with self._place():
            reply = await self.caller.ask(call)
        if not fresh:
            try:
                self._replies.put(call.key, reply)  # not in a thread: handing it over takes longer than writing it
            except UserError as error:  # a full disk: what cannot be kept is not bought
                self.caller.stop(error)
                raise
        return reply

    def _place(self) -> Any:
        """A place among all processes' calls to this server; one that loopbench started is this process's alone."""
        if self._served.local:
            return nullcontext()
        if self._slots is None:
            folder = self._home.locks / f"served-{sha256(self._served.server)[:16]}"
            self._slots = Slots(folder, self._served.concurrency)
        return self._slots.place()

    # --- around the event loop ----------------------------------------------------------------------------------------
    def _open(self) -> BlockingPortal:
        if self._portal is None:
            import openai  # noqa: F401  the slow part of a first call, here and not within its deadline
            import tenacity  # noqa: F401
            from anyio.from_thread import start_blocking_portal

            self._portal_of = start_blocking_portal()
            self._portal = self._portal_of.__enter__()
        return self._portal

    def _finish(self, running: Future[None], works: Sequence[Work]) -> None:
        """Says what failed, once all that was under way has ended."""
        running.result()
        if self.caller.reason is not None:
            raise self.caller.reason
        failed = [work for work in works if work.failed is not None]
        if failed:
            raise StageFailed(
                f"{len(failed):,} of {len(works):,} calls to {self._served.where} had no answer within "
                f"{self._served.deadline:g} s, though others had; the first: {failed[0].failed}. {KEPT}"
            )
