"""Runs many blocks' generators side by side and answers their asks in batches.

Each generator belongs to one row. All of them advance in step: what they ask in a round is answered in one call per
model and kind of request, so an engine sees full batches while a block's author writes plain sequential code.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from harness.blocks.kinds import Ask, Context, Embed, Reply, Request, Reward, Score, Tolerant
from harness.engines.base import Engine, GenerateRequest, LogprobRequest, Unanswered, in_order
from harness.engines.lengths import Unservable
from harness.errors import LimitReached, LoopbenchError, StageFailed, UserError
from harness.records.hashing import seed_of

_NO_TOKENS = "it has no tokens"


class RowFailed(LoopbenchError):
    """One row cannot be done (its prompt exceeds the model's context, say); its siblings carry on."""


@dataclass(frozen=True)
class Failed:
    """The outcome of a row whose generator raised. `expected`: no other try could help."""

    reason: str
    expected: bool = False


@dataclass
class Desk:
    """Answers the asks of one stage. `engine` opens the model of a role; `cost` counts tokens.

    `still` is called before each result that an engine gives; it raises where no more are needed.
    """

    engine: Callable[[str], Engine]
    context: Context
    timer: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
    cost: Counter[str] = field(default_factory=Counter)
    still: Callable[[], None] = lambda: None

    def seed(self, row: str, draw: int) -> int:
        """The seed of a row's draw where its ask fixes none."""
        c = self.context
        return seed_of(c.seed, c.block, c.iteration, row, draw)

    def account(self, row: str) -> Counter[str]:
        """Where a row's tokens are counted."""
        return self.cost

    def replies(self, asks: Sequence[tuple[str, Request]]) -> list[Reply]:
        """Replies aligned with (row id, request) pairs; an exception in a place belongs to that row."""
        groups: dict[tuple[type, str], list[int]] = defaultdict(list)
        for index, (_, request) in enumerate(asks):
            groups[type(request), request.model].append(index)
        replies: list[Reply] = [None] * len(asks)
        for (kind, role), places in groups.items():
            answer = {Ask: self._generate, Score: self._score, Embed: self._embed, Reward: self._reward}[kind]
            for place, reply in zip(places, answer(role, [asks[i] for i in places]), strict=True):
                replies[place] = reply
        return replies

    def _generate(self, role: str, asks: Sequence[tuple[str, Any]]) -> list[Reply]:
        engine = self.engine(role)
        limit = getattr(engine, "context", None)
        replies: dict[str, Reply] = {}
        fits: list[GenerateRequest] = []
        for index, (row, ask) in enumerate(asks):
            try:
                request = self._request(engine, str(index), row, ask)
            except UserError as error:  # a conversation that the template refuses is this row's failure
                replies[str(index)] = RowFailed(str(error))
                continue
            if limit is not None and len(request.prompt) >= limit:
                replies[str(index)] = _too_long(len(request.prompt), limit)
            else:
                fits.append(request)
        with self.timer("engine"):
            done, refused = self._asked(engine.generate, fits)  # type: ignore[attr-defined]
        refused |= {one.request_id: RowFailed(one.reason) for one in done if isinstance(one, Unanswered)}
        answered = [request for request in fits if request.id not in refused]
        given = [c for c in done if c.request_id not in refused]
        for request, reply in zip(answered, in_order(answered, given), strict=True):
            replies[request.id] = reply
            account = self.account(asks[int(request.id)][0])
            account["generated_tokens"] += sum(c.new_tokens for c in reply)
            account["prompt_tokens"] += reply[0].prompt_tokens
            if price := sum(c.usd for c in reply):
                account["micro_usd"] += round(1e6 * price)
        replies |= refused
        return [replies[str(index)] for index in range(len(asks))]

    def _request(self, engine: Engine, name: str, row: str, ask: Ask) -> GenerateRequest:
        seed = ask.fixed_seed if ask.fixed_seed is not None else self.seed(row, ask.draw)
        prompt = _prompt(engine.chat, ask)
        about: dict[str, Any] = {"sampling": ask.sampling, "messages": ask.messages, "fresh": ask.fresh}
        return GenerateRequest(id=name, prompt=prompt, seed=seed, **about)

    def _score(self, role: str, asks: Sequence[tuple[str, Any]]) -> list[Reply]:
        engine = self.engine(role)
        limit = getattr(engine, "context", None)
        requests = [LogprobRequest(id=str(i), ids=ask.ids, start=ask.start) for i, (_, ask) in enumerate(asks)]
        # One more than the context: the last id is scored, but never read.
        fits = [r for r in requests if limit is None or len(r.ids) <= limit + 1]
        with self.timer("engine"):
            given, refused = self._asked(engine.logprobs, fits)  # type: ignore[attr-defined]
        by_id: dict[str, Reply] = {result.request_id: result for result in given} | refused
        for request in fits:
            if request.id not in refused:
                self.account(asks[int(request.id)][0])["scored_tokens"] += len(request.ids)
        return [by_id.get(r.id) or _too_long(len(r.ids), limit) for r in requests]

    def _asked(
        self, ask: Callable[[Sequence[Any]], Iterable[Any]], requests: Sequence[Any]
    ) -> tuple[list[Any], dict[str, RowFailed]]:
        """The results of an engine, and why it can never serve some of the requests: the others are asked without."""
        try:
            return list(self._given(ask(requests))), {}
        except Unservable as error:
            refused = {name: RowFailed(fault.reason) for name, fault in error.faults.items()}
        return list(self._given(ask([request for request in requests if request.id not in refused]))), refused

    def _given(self, results: Iterable[Any]) -> Iterator[Any]:
        """The results of an engine, as long as they are needed; an engine that is left early is told so at once."""
        try:
            for result in results:
                self.still()
                yield result
        finally:
            if isinstance(results, Generator):
                results.close()

    def _embed(self, role: str, asks: Sequence[tuple[str, Any]]) -> list[Reply]:
        engine = self.engine(role)
        if engine.chat is None:
            texts, limits = [ask.text or "" for _, ask in asks], [ask.max_tokens for _, ask in asks]
            with self.timer("engine"):
                vectors = engine.embed_texts(texts, limits)  # type: ignore[attr-defined]
            return [RowFailed(_NO_TOKENS) if vector[0] != vector[0] else vector for vector in vectors]
        limit = getattr(engine, "context", None)
        ids = [_embedded(engine.chat, ask, limit) for _, ask in asks]
        return self._read(asks, ids, engine, engine.embed)  # type: ignore[attr-defined]

    def _reward(self, role: str, asks: Sequence[tuple[str, Any]]) -> list[Reply]:
        engine: Any = self.engine(role)
        ids: list[tuple[int, ...] | RowFailed] = []
        for _, ask in asks:
            try:
                ids.append(engine.rendered(ask.messages))
            except UserError as error:  # a conversation that the template refuses is this row's failure
                ids.append(RowFailed(str(error)))
        return self._read(asks, ids, engine, lambda fits: engine.reward(fits).tolist())

    def _read(
        self,
        asks: Sequence[tuple[str, Any]],
        ids: Sequence[tuple[int, ...] | RowFailed],
        engine: Engine,
        read: Callable[[list[tuple[int, ...]]], Sequence[Any]],
    ) -> list[Reply]:
        """What a model gives sequences that it only reads; one that it cannot read gets the reason."""
        limit = getattr(engine, "context", None)
        replies: list[Reply] = [_unreadable(sequence, limit) for sequence in ids]
        fits = [(row, seq) for (row, _), seq, why in zip(asks, ids, replies, strict=True) if why is None]
        with self.timer("engine"):
            found = iter(read([seq for _, seq in fits if not isinstance(seq, RowFailed)]))
        for row, sequence in fits:
            self.account(row)["read_tokens"] += 0 if isinstance(sequence, RowFailed) else len(sequence)
        return [next(found) if why is None else why for why in replies]


def _prompt(chat: Any, ask: Ask) -> tuple[int, ...]:
    if ask.ids is not None and chat is not None:
        return ask.ids
    if chat is None:  # a served model, which renders by itself
        if ask.speaker == "user" or not ask.messages:
            raise UserError(
                f"the model bound to {ask.model!r} is a served one: it answers conversations, and cannot continue raw "
                "text or write a user's turn. Bind a model folder to this role"
            )
        return ()
    if ask.text is not None:
        ids: tuple[int, ...] = chat.encode(ask.text, special=True)
        return ids
    if ask.speaker == "assistant":
        rendered: tuple[int, ...] = chat.render(ask.messages, add_generation_prompt=True)
        return rendered
    system = next((m["content"] for m in ask.messages if m["role"] == "system"), None)
    query: tuple[int, ...] = chat.pre_query(system, [m for m in ask.messages if m["role"] != "system"])
    return query


def _embedded(chat: Any, ask: Embed, limit: int | None) -> tuple[int, ...]:
    if ask.text is None:
        return ask.ids
    ends = [n for n in (ask.max_tokens, limit) if n is not None]
    return tuple(chat.encode(ask.text))[: min(ends, default=None)]


def _unreadable(ids: Sequence[int] | RowFailed, limit: int | None) -> RowFailed | None:
    """Why a sequence cannot be read; None where it can."""
    if isinstance(ids, RowFailed):
        return ids
    if not ids:
        return RowFailed(_NO_TOKENS)
    return _too_long(len(ids), limit) if limit is not None and len(ids) > limit else None


def _too_long(length: int, limit: int | None) -> RowFailed:
    return RowFailed(f"prompt of {length} tokens exceeds the context of {limit}")


def drive(
    makers: Mapping[str, Generator[Sequence[Request], Sequence[Reply], Any]], desk: Desk, tolerate: bool = True
) -> dict[str, Any]:
    """Runs generators (by row id) to their ends; returns what each returned, or `Failed` with the reason.

    With `tolerate` false the first failure is raised instead.
    """
    results: dict[str, Any] = {}
    waiting: dict[str, Sequence[Request]] = {}

    def advance(row: str, step: Callable[[], Sequence[Request]]) -> None:
        try:
            waiting[row] = step()
        except StopIteration as stop:
            results[row] = stop.value
        except (UserError, StageFailed, LimitReached):
            raise
        except Exception as error:  # the row border: recorded as this row's reason, its siblings carry on
            if not tolerate:
                raise
            results[row] = Failed(f"{type(error).__name__}: {error}", isinstance(error, RowFailed))

    for row, maker in makers.items():
        advance(row, maker.__next__)
    while waiting:
        round_, waiting = waiting, {}
        asks = [(row, request) for row, requests in round_.items() for request in requests]
        replies = iter(desk.replies(asks))
        for row, requests in round_.items():
            answers = [next(replies) for _ in requests]
            error = (
                None if isinstance(requests, Tolerant) else next((a for a in answers if isinstance(a, Exception)), None)
            )
            maker = makers[row]
            if error is not None:
                advance(row, lambda m=maker, e=error: m.throw(e))  # type: ignore[misc]
            else:
                advance(row, lambda m=maker, a=answers: m.send(a))  # type: ignore[misc]
    return {row: results[row] for row in makers}
