"""Drives scorers with scripted replies or a tiny model, and makes the tables that selectors read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.blocks.kinds import Context, Scorer, Selector
from harness.engines.base import Completion, Engine, Logprobs
from harness.loop.drive import Desk, drive
from harness.records.example import Example, Message, text_key


class Scripted(Desk):
    """Answers each request with what `say` returns: a text, several texts, an exception, or a whole reply."""

    def __init__(self, say: Callable[[Any], Any], context: Context) -> None:
        super().__init__(_no_engine, context)
        self.say = say
        self.asked: list[Any] = []

    def replies(self, asks: Sequence[tuple[str, Any]]) -> list[Any]:
        self.asked += [request for _, request in asks]
        return [_reply(self.say(request)) for _, request in asks]


def _no_engine(role: str) -> Engine:
    raise AssertionError(f"no engine should be opened for {role}")


def _reply(said: Any) -> Any:
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, list):
        return said
    return tuple(
        Completion(request_id="r", draw=k, text=text, token_ids=(1,), finish="stop", prompt_tokens=1)
        for k, text in enumerate(texts)
    )


def _silent(request: Any) -> Any:
    raise AssertionError(f"nothing should be asked: {request}")


@pytest.fixture
def score() -> Callable[..., dict[str, list[float | None]]]:
    """Scores rows with a block: `score(block, rows, say=..., context=...)` gives its columns."""

    def run(
        block: Scorer, rows: Sequence[Example], say: Callable[[Any], Any] = _silent, context: Context | None = None
    ) -> dict[str, list[float | None]]:
        context = context or Context(block=block.name)
        columns = drive({"batch": block.score(rows, context)}, Scripted(say, context), tolerate=False)["batch"]
        assert set(columns) == set(block.columns())
        assert {len(values) for values in columns.values()} == {len(rows)}
        return {name: list(values) for name, values in columns.items()}

    return run


def example(name: str, question: str, answer: str | None, **more: Any) -> Example:
    turns = [Message(role="user", content=question)]
    if answer is not None:
        turns.append(Message(role="assistant", content=answer))
    return Example(id=name, messages=tuple(turns), **more)


class Chat:
    """Every character is a token; a conversation is its texts and one header token."""

    def __init__(self, longest: int = 99) -> None:
        self.context = longest
        self.bos = self.eos = None

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(ord(c) for c in text)

    def encode_all(self, texts: Sequence[str], special: bool = False) -> list[tuple[int, ...]]:
        return [self.encode(text) for text in texts]

    def render(self, messages: Any, add_generation_prompt: bool = False) -> tuple[int, ...]:
        return (*(ord(c) for m in messages for c in m["content"]), 0)


def with_chat(longest: int = 99, **more: Any) -> Context:
    chats: Any = {"student": Chat(longest)}
    return Context(chats=chats, **more)


def flat(loss: Callable[[str], float]) -> Callable[[Any], Any]:
    """A model whose loss per token is a function of the scored text."""
    import numpy as np

    def say(request: Any) -> Any:
        text = "".join(map(chr, request.ids[request.start :]))
        return type("L", (), {"values": np.full(len(text), -loss(text), dtype="float32")})()

    return say


@pytest.fixture(name="with_chat")
def _with_chat() -> Callable[..., Context]:
    return with_chat


@pytest.fixture(name="flat")
def _flat() -> Callable[..., Any]:
    return flat


def select(block: Selector, context: Context | None = None, **columns: list[Any]) -> list[str | None]:
    rows = len(next(iter(columns.values())))
    ids = {"id": [f"r{k}" for k in range(rows)], "group": [f"g{k}" for k in range(rows)]}
    table = pd.DataFrame({**ids, **{name.replace("tag_", "tag:"): values for name, values in columns.items()}})
    if "prompt" in columns:
        table["prompt_key"] = table["prompt"].map(text_key)
    assert {name for name in block.needs() if not name.startswith("vector:")} <= set(table.columns)
    decisions = block.select(table, context or Context(block=block.name))
    assert len(decisions) == rows
    return decisions


@pytest.fixture(name="select")
def _select() -> Callable[..., list[str | None]]:
    return select


@pytest.fixture(name="example")
def _example() -> Callable[..., Example]:
    return example


WORDS = (
    "the quick brown fox jumps over a lazy dog while seven small birds sing in old trees near my house today".split()
)


def _sentence(seed: int, length: int) -> str:
    return " ".join(WORDS[(seed * 7 + k * k + k) % len(WORDS)] for k in range(length))


@pytest.fixture(scope="session")
def triples() -> list[Example]:
    """Instruction rows, with and without input, short and long answers, and odd characters."""
    rows = []
    for k in range(24):
        instruction, input_ = f"Say {k}: {_sentence(k, 3 + k % 9)}?", _sentence(k + 50, 4 + k) if k % 3 == 0 else ""
        answer = _sentence(k + 90, 1 + (k * 5) % 40) + (" {curly} café" if k % 4 == 0 else "")
        text = f"{instruction}\n\n{input_}" if input_ else instruction
        rows.append(
            example(f"r{k}", text, answer, fields={"instruction": instruction, "input": input_, "output": answer})
        )
    return rows


@pytest.fixture(scope="session", params=["llama", "llama-bos", "gpt2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model: Llama, Llama whose tokenizer adds a BOS, or GPT-2."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from harness.engines import scratch

    folder = tmp_path_factory.mktemp(request.param)
    texts = [_sentence(k, 30) for k in range(40)]
    scratch.build(folder, hidden=32, layers=2, heads=2, vocab=400, seed=0, texts=texts)
    if request.param == "llama-bos":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.bos_token = "<|im_start|>"
        mark = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{mark[0]} $A", special_tokens=[mark])
        tokenizer.save_pretrained(folder)
    if request.param == "gpt2":
        torch.manual_seed(1)
        vocabulary = len(AutoTokenizer.from_pretrained(folder))
        GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=512)
        ).save_pretrained(folder)
    return folder


@pytest.fixture
def plain_torch(tiny: Path) -> Callable[[Any], Logprobs]:
    """Answers score requests one by one with the model's plain forward."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()

    def say(request: Any) -> Logprobs:
        ids = torch.tensor([request.ids])
        with torch.no_grad():
            logs = model(ids).logits[0].log_softmax(-1)
        first = max(1, request.start)
        values = logs[range(first - 1, len(request.ids) - 1), ids[0, first:]]
        return Logprobs(request_id="r", values=values.numpy(), greedy=values.numpy() > 0)

    return say
