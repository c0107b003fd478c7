"""A real HTTP server on 127.0.0.1 that answers as a chat server does, or misbehaves as a test asks.

A behaviour is a function of the request's body and the number of calls so far (from 1); what it returns is sent.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Sent:
    """What the server sends. `cut` closes the connection after so many bytes of the body."""

    body: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None


Behaviour = Callable[[Mapping[str, Any], int], Sent]


def answer(text: Any, finish: str | None = "stop", *, tokens: tuple[int, int] = (10, 5), top: Any = None) -> Sent:
    """A chat completion."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if top is not None:
        places = [{"token": "x", "logprob": 0.0, "top_logprobs": place} for place in top]
        choice["logprobs"] = {"content": places}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Sent(json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}))


def completion(
    ids: Sequence[int], finish: str | None = "stop", *, prompt: Sequence[int] = (), text: str = "", **more: Any
) -> Sent:
    """A completion with token ids, as vLLM's servers give it."""
    choice = {
        "index": 0,
        "text": text,
        "finish_reason": finish,
        "token_ids": list(ids),
        "prompt_token_ids": list(prompt),
    }
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids), "total_tokens": len(prompt) + len(ids)}
    return Sent(json.dumps({"id": "c", "object": "text_completion", "choices": [choice | more], "usage": usage}))


def error(status: int, message: str, code: str | None = None, **headers: str) -> Sent:
    """An error in the form of OpenAI's interface."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}})
    return Sent(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def echo(body: Mapping[str, Any], number: int) -> Sent:
    """Says what it was asked."""
    return answer("to " + str(body["messages"][-1]["content"])[:200])


class ChatServer:
    """The server, in a thread of its own. Use as a context manager.

    With `tokenizer`, the folder of one, a behaviour that is asked for token ids sees them in place of a text prompt.
    """

    def __init__(
        self,
        behave: Behaviour = echo,
        *,
        models: tuple[str, ...] = ("judge-1",),
        port: int = 0,
        context: int | None = None,
        tokenizer: Path | None = None,
        bos: int | None = None,
    ) -> None:
        """`bos` is put before the ids of a text also where it is asked not to be."""
        self.behave, self.models, self.port, self.context = behave, models, port, context
        self._tokenizer, self._bos = _tokenizer(tokenizer), [] if bos is None else [bos]
        self.asked: list[dict[str, Any]] = []
        """Bodies of all calls, in order."""
        self.keys: list[str] = []
        """Authorization headers of all calls."""
        self.most_at_once = 0
        self._now = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and await self._one(head.decode(), reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; false where the connection is over."""
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        if first.startswith("GET "):
            about = {"object": "model"} | ({"max_model_len": self.context} if self.context else {})
            listed = json.dumps({"object": "list", "data": [{"id": name, **about} for name in self.models]})
            return await _send(writer, Sent(listed))
        body = json.loads(data)
        self.asked.append(body)
        self.keys.append(headers.get("authorization", ""))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            sent = self.behave(self._read(body), len(self.asked))
            await asyncio.sleep(sent.delay)
        finally:
            self._now -= 1
        return await _send(writer, sent)

    def _read(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._tokenizer is None or not body.get("return_token_ids") or not isinstance(body["prompt"], str):
            return body
        special = bool(body.get("add_special_tokens", True))  # as vLLM has it
        ids = self._tokenizer.encode(body["prompt"], add_special_tokens=special).ids
        return body | {"prompt": [*self._bos, *ids]}


def _tokenizer(folder: Path | None) -> Any:
    if folder is None:
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


async def _send(writer: asyncio.StreamWriter, sent: Sent) -> bool:
    data = sent.body.encode()
    headers = {"content-type": "application/json", "content-length": str(len(data)), **sent.headers}
    head = f"HTTP/1.1 {sent.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(head.encode() + b"\r\n" + data[: sent.cut])
    await writer.drain()
    return sent.cut is None
