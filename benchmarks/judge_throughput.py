"""Is a served judge limited by its server? Our engine beside a bare asynchronous client, at 32 calls under way.

`python benchmarks/judge_throughput.py [--latency 0.1 0.3 1.0] [--rounds 10] [--repeats 3] [--json FILE]`

A local server in a process of its own answers every call after a fixed time. `bare` is the openai library's
asynchronous client behind a semaphore; `engine` is `harness.engines.openai` with everything on: retries, the cache of
replies (empty at the start), shared places, and the ledger with a cap, which it asks before each call. Both run
`rounds` × 32 calls with a judge's prompt (about 4 kB) and a judgement of 1.5 kB, in turn, and the median counts.
`cached` is the engine asked the same again. The target is engine ≥ 95 % of bare; below it the script exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

from harness.engines.base import Completion, GenerateRequest, ModelSpec, Sampling
from harness.engines.openai import OpenAIEngine
from harness.store.home import Home

CONCURRENCY = 32
TARGET = 0.95
_PROMPT = "Please act as an impartial judge of the answer below and explain your rating. " * 50
_JUDGEMENT = "The answer is right and says why, though it could be shorter. " * 24 + "Rating: [[7]]"


class _Answers(asyncio.Protocol):
    """Answers each POST on a connection after the latency; the smallest server that does, so that it is no limit."""

    def __init__(self, latency: float, document: bytes) -> None:
        self.latency, self.document, self.read = latency, document, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head = self.read[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
            if len(self.read) < end + 4 + length:
                return
            self.read = self.read[end + 4 + length :]
            asyncio.get_running_loop().call_later(self.latency, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.document)  # type: ignore[attr-defined]


def serve(latency: float, ready: Connection) -> None:
    """Runs the server in this process until it is ended; tells its port."""

    async def run() -> None:
        message = {"role": "assistant", "content": _JUDGEMENT}
        usage = {"prompt_tokens": 1000, "completion_tokens": 400, "total_tokens": 1400}
        body = json.dumps(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": "judge",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        ).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        server = await asyncio.get_running_loop().create_server(lambda: _Answers(latency, head + body), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def bare(url: str, calls: int, name: str) -> float:
    """Calls per second of the bare client."""
    import openai

    async def run() -> float:
        client, room = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0), asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> str | None:
            async with room:
                reply = await client.chat.completions.create(
                    model="judge",
                    messages=[{"role": "user", "content": f"{name} {number}: {_PROMPT}"}],
                    temperature=0,
                    max_tokens=1024,
                )
                content: str | None = reply.choices[0].message.content
                return content

        begin = time.perf_counter()
        said = await asyncio.gather(*(one(number) for number in range(calls)))
        took = time.perf_counter() - begin
        await client.close()
        if said != [_JUDGEMENT] * calls:
            raise RuntimeError("the bare client lost an answer")
        return calls / took

    return asyncio.run(run())


def engine(url: str, calls: int, name: str, home: Path) -> float:
    """Calls per second of our engine."""
    options = {
        "url": url,
        "model": "judge",
        "concurrency": CONCURRENCY,
        "prices": {"prompt": 1.0, "completion": 1.0},
        "experiment": "benchmark",
        "usd_limit": 1e6,
    }
    requests = [
        GenerateRequest(
            id=str(number),
            prompt=(),
            messages=({"role": "user", "content": f"{name} {number}: {_PROMPT}"},),
            sampling=Sampling(max_tokens=1024),
        )
        for number in range(calls)
    ]
    opened = OpenAIEngine(ModelSpec(name="judge", engine="openai", options=options), Home(home))
    begin = time.perf_counter()
    done = [one for one in opened.generate(requests) if isinstance(one, Completion)]
    took = time.perf_counter() - begin
    opened.close()
    if [one.text for one in done] != [_JUDGEMENT] * calls:
        raise RuntimeError("the engine lost an answer")
    return calls / took


def measure(latency: float, calls: int, repeats: int) -> dict[str, float | bool]:
    """Median rates at one latency, in calls per second."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(latency, theirs), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    rates: dict[str, list[float]] = {"bare": [], "engine": [], "cached": []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            bare(url, CONCURRENCY, "warm")
            engine(url, CONCURRENCY, "warm", Path(folder))
            for repeat in range(repeats):
                order = ("bare", "engine") if repeat % 2 == 0 else ("engine", "bare")
                for who in order:
                    name = f"{who} {repeat}"
                    rates[who].append(
                        bare(url, calls, name) if who == "bare" else engine(url, calls, name, Path(folder))
                    )
                rates["cached"].append(engine(url, calls, f"engine {repeat}", Path(folder)))
    finally:
        process.terminate()
        process.join()
    median = {who: statistics.median(values) for who, values in rates.items()}
    share = median["engine"] / median["bare"]
    limit = CONCURRENCY / latency
    return {
        "latency_s": latency,
        "calls": calls,
        "server_limit": limit,
        **median,
        "share": share,
        "ok": share >= TARGET,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.1, 0.3, 1.0], help="seconds")
    parser.add_argument("--rounds", type=int, default=10, help="calls are so many times 32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load, found = os.getloadavg()[0], []
    for latency in options.latency:
        one = measure(latency, options.rounds * CONCURRENCY, options.repeats)
        found.append(one)
        print(
            f"latency {latency:g} s  server {one['server_limit']:,.0f}/s  bare {one['bare']:,.1f}/s  "
            f"engine {one['engine']:,.1f}/s = {one['share']:.1%}  from the cache {one['cached']:,.0f}/s  "
            f"{'ok' if one['ok'] else 'below the target'}"
        )
    if options.json:
        names = ("loopbench", "openai", "httpx2", "tenacity", "anyio")
        document = {
            "concurrency": CONCURRENCY,
            "target": TARGET,
            "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
            "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
            "load_before": load,
            "repeats": options.repeats,
            "found": found,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(one["ok"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
