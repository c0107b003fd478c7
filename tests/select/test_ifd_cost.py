"""What a score costs: each text is tokenised once, and vocabulary logits exist at scored tokens only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Context, Scorer
from harness.engines import open_engine
from harness.engines.base import ModelSpec
from harness.loop.drive import Desk, drive
from harness.records.example import Example
from harness.select._forms import FORMS, instruction_of
from harness.select.ifd import Ifd
from harness.select.losses import AllLosses


class Counted:
    """An engine whose tokenizer, forward passes and output layer are counted."""

    def __init__(self, folder: Path) -> None:
        opened: Any = open_engine(ModelSpec(name="tiny", path=folder))
        self.engine = opened
        self.texts: Counter[str] = Counter()
        self.calls = self.read = self.logits = 0
        self.rows = 0
        self._tokenize, forward = self.engine.chat.tokenizer, self.engine._forward
        self._head, self._hidden = forward.head, forward.hidden
        assert self._head is not None
        self.engine.chat.tokenizer = self
        forward.head, forward.hidden = self.head, self.hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenize, name)

    def __call__(self, text: Any, **more: Any) -> Any:
        self.calls += 1
        self.texts.update([text] if isinstance(text, str) else text)
        return self._tokenize(text, **more)

    def head(self, states: Any) -> Any:
        self.logits += len(states)
        return self._head(states)

    def hidden(self, ids: Any, keep: Any = None) -> Any:
        self.rows += len(ids)
        return self._hidden(ids, keep)

    def score(self, block: Scorer, rows: Sequence[Example]) -> Any:
        context = Context(block=block.name, chats={"student": self.engine.chat})
        desk = Desk(lambda role: self.engine, context)
        found = drive({"batch": block.score(rows, context)}, desk, tolerate=False)["batch"]
        self.scored = desk.cost["scored_tokens"]
        return found


@pytest.fixture
def counted(tiny: Path) -> Iterator[Counted]:
    counted = Counted(tiny)
    yield counted
    counted.engine.close()


def spans(block: Any, counted: Counted, rows: Sequence[Example]) -> list[Any]:
    every = block._spans(counted.engine.chat, rows)
    return list({span for row in every for span in row.parts.values() if span is not None})


@pytest.mark.parametrize("variant", ["superfiltering", "cherry_alpaca", "wiz"])
def test_each_text_is_tokenised_once_in_one_call(variant: Any, counted: Counted, triples: Sequence[Example]) -> None:
    rows = list({(*instruction_of(row), row.answer): row for row in triples}.values())
    counted.texts.clear()
    counted.calls = 0
    counted.score(Ifd(variant=variant), rows)
    assert counted.calls == 1, "one call for the whole batch, whatever its size"
    prompts = {FORMS[variant].prompt(*instruction_of(row)) for row in rows}
    wholes = {FORMS[variant].prompt(*instruction_of(row)) + str(row.answer) for row in rows}
    assert all(
        counted.texts[text] == len([r for r in rows if FORMS[variant].prompt(*instruction_of(r)) == text])
        for text in prompts
    )
    assert all(counted.texts[text] == 1 for text in wholes)
    per_row = 4 if variant == "wiz" else 3
    assert counted.texts.total() == per_row * len(rows) + 1, "prompt, prompt and answer, direct answer; one header"


def test_chat_renders_each_prompt_once_and_tokenises_all_answers_in_one_call(
    counted: Counted, triples: Sequence[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat: Any = counted.engine.chat
    render, encode_all = chat.render, chat.encode_all
    rendered: list[Any] = []
    encoded: list[list[str]] = []

    def rendering(turns: Any, **more: Any) -> Any:
        rendered.append(turns)
        return render(turns, **more)

    def encoding(texts: Sequence[str], **more: Any) -> Any:
        encoded.append(list(texts))
        return encode_all(texts, **more)

    monkeypatch.setattr(chat, "render", rendering)
    monkeypatch.setattr(chat, "encode_all", encoding)
    counted.score(Ifd(), triples)
    assert len(rendered) == len(triples) + 1, "a conversation each, and one empty turn"
    assert encoded == [[row.answer for row in triples]]


@pytest.mark.parametrize(
    "block", [Ifd(), Ifd(variant="superfiltering"), AllLosses(reverse=True)], ids=["chat", "super", "all"]
)
def test_logits_of_the_vocabulary_at_scored_tokens_only(
    block: Any, counted: Counted, triples: Sequence[Example]
) -> None:
    wanted = spans(block, counted, triples)
    counted.logits = counted.rows = 0
    counted.score(block, triples)
    assert counted.logits == sum(span.scored for span in wanted)
    assert counted.logits < 0.7 * counted.scored, "prompt tokens are read, but get no logits"
    assert counted.rows <= len(wanted) + 1, "one pass per span, and one for what all of them begin with"


def test_all_scores_from_one_set_of_passes(counted: Counted, triples: Sequence[Example]) -> None:
    counted.rows = 0
    together = counted.score(AllLosses(), triples)
    passes, counted.rows = counted.rows, 0
    alone = counted.score(Ifd(), triples)
    assert counted.rows == passes, "ira and perplexity cost nothing beyond ifd"
    assert list(together["ifd"]) == pytest.approx(list(alone["ifd"]), abs=1e-6)
