"""The process that vLLM runs in: `python -m harness.engines.vllm.host PARENT FD`.

It reads messages from a socket (`harness.engines.vllm.messages`): `("open", arguments)` once, then `("ask", ticket,
works)` and `("drop", ticket)` at any time, None to end. It answers with `Opened`, with `Part`s as rows finish, with
`Dropped` for each drop, and with `Failed`. Its one loop takes messages between the steps of the engine, so requests
may arrive while others are under way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from harness.engines.vllm.messages import Dropped, Failed, Opened, Part, Read, Work, Written

_BEFORE = {"skip_clone": True, "ignore_eos": True, "flat_logprobs": True}
"""In every request: our own stop ids are all that end a text, and nothing is copied that is only read."""


def main() -> None:
    """The life of the process."""
    parent, descriptor = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    connection = Connection(descriptor)
    try:
        engine, opened = _opened(connection.recv()[1])
    except EOFError:
        return
    except Exception as error:
        connection.send(Failed("open", f"{type(error).__name__}: {error}"))
        raise
    connection.send(opened)
    try:
        Loop(connection, engine).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        connection.send(Failed("work", f"{type(error).__name__}: {error}"))
        raise


def _watch(parent: int) -> None:
    """Ends this process, and those that it started, when the worker has ended, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _opened(arguments: Mapping[str, Any]) -> tuple[Any, Opened]:
    begun = time.monotonic()
    from vllm import LLM

    imported = time.monotonic()
    model = LLM(**arguments, disable_log_stats=True)
    limit, vocabulary = model.model_config.max_model_len, model.model_config.get_vocab_size()
    return model.llm_engine, Opened(limit, vocabulary, imported - begun, time.monotonic() - imported)


class Loop:
    """Steps the engine while there is something to do, and waits for messages while there is not."""

    def __init__(self, connection: Connection, engine: Any) -> None:
        self._connection, self._engine = connection, engine
        self._under_way: dict[str, tuple[int, Work]] = {}
        self._begun: dict[str, Written] = {}
        """First tokens of works whose rest is under way."""

    def run(self) -> None:
        """Until the other side says None or is gone."""
        while self._messages():
            parts: dict[int, list[Written]] = {}
            for output in self._engine.step():
                if output.finished:
                    self._finished(output, parts)
            for ticket, written in parts.items():
                self._connection.send(Part(ticket, written))

    def _messages(self) -> bool:
        while not self._under_way or self._connection.poll(0):
            message = self._connection.recv()
            if message is None:
                return False
            if message[0] == "ask":
                for work in message[2]:
                    self._add(f"{message[1]}.{work.number}", message[1], work, work.ids, work.settings)
            else:
                self._drop(message[1])
        return True

    def _add(self, name: str, ticket: int, work: Work, ids: Sequence[int], settings: Mapping[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        lora = None if work.lora is None else LoRARequest(*work.lora)
        asked = SamplingParams(**settings, **_BEFORE, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = {"type": "token", "prompt_token_ids": list(ids)}
        self._engine.add_request(name, prompt, asked, lora_request=lora)
        self._under_way[name] = (ticket, work)

    def _drop(self, ticket: int) -> None:
        names = [name for name, (of, _) in self._under_way.items() if of == ticket]
        self._engine.abort_request(names)
        for name in names:
            del self._under_way[name]
            self._begun.pop(name, None)
        self._connection.send(Dropped(ticket))

    def _finished(self, output: Any, parts: dict[int, list[Written]]) -> None:
        name = output.request_id
        if name not in self._under_way:  # dropped while its last step ran
            return
        ticket, work = self._under_way.pop(name)
        written = _written(output, work)
        if (first := self._begun.pop(name, None)) is not None:
            written = first._replace(
                ids=first.ids + written.ids, stopped=written.stopped, tops=first.tops + written.tops
            )
        elif work.rest is not None and not written.stopped:
            self._begun[name] = written
            self._add(name, ticket, work, [*work.ids, *written.ids], work.rest)
            return
        parts.setdefault(ticket, []).append(written)


def _written(output: Any, work: Work) -> Written:
    answer = output.outputs[0]
    if answer.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"request {output.request_id} ended with {answer.finish_reason!r}")
    tops, asked = list[dict[int, float]](), None
    if work.settings.get("logprob_token_ids"):
        asked = next(_positions(answer.logprobs))
    elif work.settings.get("logprobs"):
        tops = [dict(list(p.items())[: work.settings["logprobs"]]) for p in _positions(answer.logprobs, skip=1)]
    read = None if output.prompt_logprobs is None else _read(output.prompt_logprobs)
    return Written(work.number, list(answer.token_ids), answer.finish_reason == "stop", tops, read, asked)


def _positions(flat: Any, skip: int = 0) -> Iterator[dict[int, float]]:
    """Per position, ids and log-probabilities as vLLM lists them: the chosen one first, then the most likely."""
    for start, end in zip(flat.start_indices, flat.end_indices, strict=True):
        places = slice(start + skip, end)
        yield dict(zip(flat.token_ids[places], flat.logprobs[places], strict=True))


def _read(flat: Any) -> Read:
    """Of each position but the first: what the prompt has there stands first, the most likely id second."""
    starts = flat.start_indices[1:]
    greedy = [flat.ranks[at] == 1 or flat.token_ids[at] == flat.token_ids[at + 1] for at in starts]
    return Read([flat.logprobs[at] for at in starts], greedy)


if __name__ == "__main__":
    main()
