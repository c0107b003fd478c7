"""One call after another to a server: retried, within its deadline and the cap of money, never more than allowed.

A call that fails for good says what it means for the others: a wrong key or name stops everything, and so does a
server that has answered nobody for a whole deadline. Calls under way are let finish even then: they may be billed, so
their answers are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from harness.engines.served.failures import KEPT, Again, hidden, meaning
from harness.engines.served.settings import MILLION, Served
from harness.engines.served.tokens import PATH as TOKENS
from harness.engines.served.tokens import read
from harness.engines.served.wire import Call, Lacking, Malformed, Reply, parse
from harness.errors import LimitReached, LoopbenchError, StageFailed, Transient, UserError
from harness.store.spent import Bill, Ledger

MALFORMED_TRIES = 4
"""A server that answers with something else this often is no chat server."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds: waits are random between 0 and a bound that starts here and doubles up to there."""
_ROOM = 0.1
"""Seconds between looks whether calls in flight have left money for another."""
_CONNECT = 10.0
_PER_MESSAGE = 16
"""Tokens that a template puts around a message, at most."""


class Stopped(LoopbenchError):
    """Not asked, because another call showed that nothing more can be asked."""


class Caller:
    """Makes calls to one server. For one event loop."""

    def __init__(
        self,
        served: Served,
        key: str | None,
        ledger: Ledger,
        gone: Callable[[], LoopbenchError | None] = lambda: None,
    ) -> None:
        """`gone` tells why no further try can help, of a server whose end can be seen from here."""
        self.served, self._key, self._ledger, self._gone = served, key, ledger, gone
        self._client: Any = None
        self.reason: LoopbenchError | None = None
        """Why nothing more is asked."""
        self._stop = asyncio.Event()
        self._last_answer = 0.0
        self._not_before = 0.0

    def stop(self, reason: LoopbenchError) -> None:
        """Lets no further try begin; the first reason counts."""
        self.reason = self.reason or reason
        self._stop.set()

    def resume(self) -> None:
        """Forgets why the last round was stopped."""
        self.reason = None
        self._stop.clear()

    async def ask(self, call: Call) -> Reply:
        """The reply to a call.

        Raises:
            Refused: the server will not answer this one.
            Again: it did not answer within the deadline, though it answers others.
            Stopped: nothing more can be asked; `reason` says why.
        """
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

        begin = time.monotonic()
        back_off = wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)

        def wait(state: RetryCallState) -> float:
            error = _error(state)
            asked = error.wait if isinstance(error, Again) else None
            return back_off(state) if asked is None else asked

        def enough(state: RetryCallState) -> bool:
            error = _error(state)
            too_often = isinstance(error, Again) and error.malformed and state.attempt_number >= MALFORMED_TRIES
            return too_often or time.monotonic() + state.upcoming_sleep - begin >= self.served.deadline

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Again), wait=wait, stop=enough, sleep=self._sleep, reraise=True
        )
        try:
            reply: Reply = await retrying(self._try, call, begin + self.served.deadline)
        except Again as error:
            if self._last_answer < begin:
                self.stop(self._silent(error))
            raise
        except (UserError, LimitReached, Transient) as error:
            self.stop(error)
            raise Stopped(str(error)) from None
        return reply

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _try(self, call: Call, until: float) -> Reply:
        await self._pause(until)
        bill = await self._bill(call, until)
        left = until - time.monotonic()
        if self._stop.is_set() or left <= 0:
            self._ledger.close(bill)
            raise Stopped(str(self.reason)) if self._stop.is_set() else Again("it waited for its turn too long")
        try:
            reply = await self._once(call, min(self.served.timeout, left))
        except Again as error:
            if error.wait is not None:  # the whole server asks for a pause, not one call of many
                self._not_before = max(self._not_before, time.monotonic() + min(error.wait, self.served.deadline))
            if error.unsure:
                bill.settle_unsure()
            raise
        else:
            self._last_answer = time.monotonic()
            if not self.served.local:  # nobody is paid for one that loopbench serves itself
                usd = self.served.price(reply.prompt_tokens, reply.completion_tokens)
                bill.settle(usd, prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        finally:
            self._ledger.close(bill)
        return reply

    async def _once(self, call: Call, seconds: float) -> Reply:
        try:
            async with asyncio.timeout(seconds):
                text = await self._post(call)
            return self._read(text, call)
        except TimeoutError:
            raise Again(f"no answer within {seconds:.2g} s", unsure=True) from None
        except Exception as error:  # noqa: BLE001  the border to the client library: sorted, and its chain of causes cut
            found = meaning(error, self.served, self._key)
        if isinstance(found, Again) and (gone := self._gone()) is not None:
            found = gone
        if isinstance(found, UserError) and "status 404" in str(found):
            found = await self._which_models(call.path)
        raise found from None

    def _post(self, call: Call) -> Awaitable[str]:
        """The document as it came: building the library's typed reply takes longer than all that is done here."""
        if self._client is None:
            self._client = client_of(self.served, self._key)
        sent: Awaitable[str] = self._client.post(call.path, body=dict(call.body), cast_to=str)
        return sent

    async def _which_models(self, path: str) -> UserError:
        """A wrong name and a wrong URL both give 404: the list of models tells them apart."""
        import openai

        served = self.served
        try:
            async with asyncio.timeout(_CONNECT):
                listed = await self._client.models.with_raw_response.list()
            names = [str(entry["id"]) for entry in listed.http_response.json()["data"]]
        except (openai.OpenAIError, TimeoutError, ValueError, KeyError, TypeError):  # no answer, or one in another form
            return UserError(
                f"there is no chat server at {served.url} (status 404 for {path} and for /models): the URL usually "
                f"ends in /v1. {KEPT}"
            )
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        lacks = f"has no model {served.model!r}; it serves: {shown or 'none'}"
        if served.model in names:
            lacks = f"serves {served.model!r} but has nothing at {path} (status 404)"
        return UserError(hidden(f"the server at {served.url} {lacks}. {KEPT}", self._key))

    def _at_most(self, call: Call) -> float:
        """The highest price of a call: no tokenizer makes more tokens than bytes."""
        prices = self.served.prices
        if prices is None:
            return 0.0
        prompt = call.prompt_tokens
        if prompt is None:
            prompt = call.prompt_bytes + _PER_MESSAGE * (1 + len(call.body.get("messages", ())))
        return (prompt * prices.prompt + call.max_tokens * prices.completion) / MILLION

    async def _bill(self, call: Call, until: float) -> Bill:
        while (bill := self._ledger.open(self._at_most(call), self.served.model)) is None:
            if self._stop.is_set():  # a sleep would end at once then, and the calls in flight never have their turn
                raise Stopped(str(self.reason))
            if time.monotonic() >= until:
                raise Again("it waited too long for calls in flight to leave money for it")
            await self._sleep(_ROOM)
        return bill

    async def _pause(self, until: float) -> None:
        while not self._stop.is_set() and (left := min(self._not_before, until) - time.monotonic()) > 0:
            await self._sleep(left)

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, but not past a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    def _read(self, text: str, call: Call) -> Reply:
        try:
            reply = _parsed(text, call)
        except Malformed:
            _parsed(hidden(text, self._key), call)  # it quotes a cut text: no part of a key may stay in it
            raise
        except Lacking as error:
            raise UserError(f"{self.served.where} does not answer as vLLM's servers do: {error}. {KEPT}") from None
        shown = hidden(reply.text, self._key)
        return reply if shown == reply.text else replace(reply, text=shown)

    def _silent(self, error: Again) -> StageFailed:
        served = self.served
        if error.malformed:
            return StageFailed(
                f"{served.where} does not answer as a chat server does: {MALFORMED_TRIES} times {error}. Is the URL "
                f"right? It usually ends in /v1. {KEPT}"
            )
        return StageFailed(
            f"{served.where} answered nothing for {served.deadline:g} s; the last failure: {error}. Start it or wait "
            f"for it. {KEPT}"
        )


def _parsed(text: str, call: Call) -> Reply:
    return read(text, call) if call.path == TOKENS else parse(text, call.prompt_bytes)


def _error(state: Any) -> BaseException | None:
    error: BaseException | None = state.outcome.exception() if state.outcome is not None else None
    return error


_CHATTY = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")
"""Loggers below a call: at their lower levels they write out headers, which may hold the key."""


def hush() -> None:
    """Keeps the libraries below a call from writing out what they send."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def client_of(served: Served, key: str | None) -> Any:
    """The client library's connection to a server; its own retries are off, because ours keep a deadline."""
    import openai

    hush()
    timeout = openai.Timeout(served.timeout, connect=min(_CONNECT, served.timeout))
    # A proxy of the environment is for the outside: what loopbench started itself is asked directly.
    direct = openai.DefaultAsyncHttpxClient(trust_env=False, timeout=timeout) if served.local else None
    client = openai.AsyncOpenAI(
        api_key=key or "none", base_url=served.url, max_retries=0, timeout=timeout, http_client=direct
    )
    # Read from the environment by the library, and nobody's business at another server.
    client.organization = client.project = None
    return client
