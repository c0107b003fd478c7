"""AlpacaEval's weighted verdicts through a real HTTP server, which does not always give log-probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chat_server import ChatServer, Sent, answer
from suite_driver import said

from harness.blocks.kinds import Ask, Context
from harness.engines.base import Completion, GenerateRequest, ModelSpec
from harness.engines.openai import OpenAIEngine
from harness.evaluate.pairwise import Pairwise
from harness.judges.annotator import Annotator
from harness.loop.drive import RowFailed
from harness.store.home import Home


def weights(**letters: float) -> list[list[dict[str, Any]]]:
    return [[{"token": token, "logprob": value} for token, value in letters.items()]]


def behave(body: Mapping[str, Any], number: int) -> Sent:
    """A judge that is three to one for the second shown, and fails on four of the tasks in ways of its own."""
    asked = body["messages"][-1]["content"]
    if "task 1" in asked:
        return answer("M")
    if "task 2" in asked:
        return answer("M", top=weights(m=math.nan, M=math.nan))
    if "task 3" in asked:
        return answer("Both", top=weights(Both=-0.1, The=-2.5))
    if "task 4" in asked:
        return answer(None, "content_filter")
    return answer("M", top=weights(M=math.log(0.6), m=math.log(0.2), The=math.log(0.2)))


def test_weights_from_a_server_and_the_reasons_why_some_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "reference.json"
    file.write_text(json.dumps([{"instruction": f"task {i}", "output": f"reference {i}"} for i in range(6)]))
    suite = Pairwise(path=str(file))
    items = suite.items("test")
    maker = suite.grade(items, said(items, [(f"mine {i}",) for i in range(6)]), Annotator(), Context())
    with ChatServer(behave) as server:
        options = {"url": server.url, "model": "judge-1", "deadline": 120.0, "timeout": 30.0}
        engine = OpenAIEngine(ModelSpec(name="judge", engine="openai", options=options), Home(tmp_path))
        try:
            grades = driven(maker, engine)
        finally:
            engine.close()
        sent = server.asked[0]
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 5)
    assert max(sent.get("max_tokens", 0), sent.get("max_completion_tokens", 0)) == 1
    # in both orders three to one for the second shown: position bias, and nothing else
    assert [g.values["win"] for g in grades if g.missing is None] == [0.5, 0.5]
    summary = suite.summarise(grades)
    assert summary["position:flips"] == 1.0
    assert summary["position:first"] is not None
    assert math.isclose(summary["position:first"], 0.25, abs_tol=1e-9)
    reasons = [g.missing or "" for g in grades][1:5]
    assert "no usable log-probabilities" in reasons[0]
    assert "no usable log-probabilities" in reasons[1]
    assert "neither m nor M" in reasons[2]
    assert "judge failed" in reasons[3]
    assert (summary["win_rate.n"], summary["win_rate.missing"]) == (6, 4)


def driven(maker: Any, engine: OpenAIEngine) -> Any:
    """Sends every round of asks to the engine; one that stays unanswered fails alone."""
    replies: Any = None
    try:
        while True:
            asks: list[Ask] = maker.send(replies)
            requests = [
                GenerateRequest(id=str(n), prompt=(), messages=a.messages, sampling=a.sampling, seed=a.fixed_seed or 0)
                for n, a in enumerate(asks)
            ]
            done = {one.request_id: one for one in engine.generate(requests)}
            found = [done[request.id] for request in requests]
            replies = [(one,) if isinstance(one, Completion) else RowFailed(one.reason) for one in found]
    except StopIteration as stop:
        return stop.value
