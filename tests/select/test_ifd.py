"""`ifd`: equal, row by row, to a slow and literal reading of the released formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.blocks.kinds import Context
from harness.errors import LoopbenchError
from harness.records.chat import ChatFormat
from harness.records.example import Example
from harness.select._losses import Losses
from harness.select.ifd import Ifd

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}\n\n### Response:"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:"
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: {} ASSISTANT:"
)
VICUNA_INPUT = VICUNA.replace("{}", "{}\nInput:\n{}")
FORMS = {
    "cherry_alpaca": (ALPACA, ALPACA_INPUT, "### Response:", 4),
    "cherry_wiz": ("{}\n\n### Response:", "{}\n{}\n\n### Response:", "### Response:", 4),
    "wiz": ("{}\n\n### Response:", "{}\nInput:{}\n\n### Response:", "### Response:", 4),
    "cherry_vicuna": (VICUNA, VICUNA_INPUT, "ASSISTANT:", 6),
    "superfiltering": ("{}\n", "{}\n{}\n", "", 1),
}


class Reference:
    """The published computation, one row and one forward at a time (specified in 2308.12032 and its released code)."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def tokens(self, text: str, length: int | None = None) -> list[int]:
        if length is None:
            return list(self.tokenizer.encode(text))
        return list(self.tokenizer.encode(text, truncation=True, max_length=length))

    def losses(self, ids: list[int], start: int) -> list[float]:
        import torch

        with torch.no_grad():
            logs = self.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return [-float(logs[at - 1, ids[at]]) for at in range(max(start, 1), len(ids))]

    def prompt(self, variant: str, row: Example) -> str:
        plain, with_input, *_ = FORMS[variant]
        instruction, input_ = row.fields["instruction"], row.fields["input"]
        return with_input.format(instruction, input_) if input_ else plain.format(instruction)

    def score(self, variant: str, row: Example, length: int) -> tuple[float | None, float | None, float | None]:
        _, _, header, k = FORMS[variant]
        prompt, instruction, answer = self.prompt(variant, row), row.fields["instruction"], row.fields["output"]
        counted = len(self.tokens(instruction if variant == "wiz" else prompt, length))
        conditioned = self.losses(self.tokens(prompt + answer, length), len(self.tokens(prompt)))
        direct = self.losses(self.tokens(header + answer, length - counted + k), len(self.tokens(header)))
        ca = sum(conditioned) / len(conditioned) if conditioned else None
        da = sum(direct) / len(direct) if direct else None
        if ca is None or da is None or (variant != "superfiltering" and counted + len(direct) > length):
            return None, ca, da
        return (math.exp(ca - da) if variant == "superfiltering" else ca / da), ca, da


def context(folder: Path) -> Context:
    return Context(chats={"student": ChatFormat.from_folder(folder)})


def test_the_tiny_models_differ_in_what_matters(tiny: Path) -> None:
    chat = ChatFormat.from_folder(tiny)
    assert (chat.encode("why", special=True)[0] == chat.bos) == tiny.name.startswith("llama-bos")


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("variant", sorted(FORMS))
def test_released_values(
    variant: Any, cut: bool, tiny: Path, triples: Sequence[Example], score: Any, plain_torch: Callable[[Any], Any]
) -> None:
    reference = Reference(tiny)
    lengths = [len(reference.tokens(reference.prompt(variant, row) + row.fields["output"])) for row in triples]
    length = sorted(lengths)[len(lengths) // 3] if cut else 500
    got = score(Ifd(variant=variant, max_length=length), triples, plain_torch, context(tiny))
    cut_and_scored = 0
    for index, row in enumerate(triples):
        wanted = reference.score(variant, row, length)
        found = tuple(got[name][index] for name in ("ifd", "ca", "da"))
        assert [v is None for v in found] == [v is None for v in wanted], row.id
        assert [v for v in found if v is not None] == pytest.approx([v for v in wanted if v is not None], abs=2e-5)
        cut_and_scored += lengths[index] > length and wanted[1] is not None
    assert cut_and_scored > 5 if cut else None not in got["ifd"]


def test_the_two_formulas_order_rows_differently() -> None:
    """Ratio and difference agree on 1 and on nothing else: (3.6, 4.0) and (0.85, 1.0) change places."""

    def value(variant: Any, ca: float, da: float) -> float:
        found = Ifd(variant=variant).values(Losses({"ca": ca, "da": da}))[0]
        assert isinstance(found, float)
        return found

    assert value("chat", 3.6, 4.0) == pytest.approx(0.90)
    assert value("superfiltering", 3.6, 4.0) == pytest.approx(0.67, abs=0.005)
    assert value("chat", 0.85, 1.0) < value("chat", 3.6, 4.0)
    assert value("superfiltering", 0.85, 1.0) > value("superfiltering", 3.6, 4.0)
    printed = {(6.593, 0.601): 0.091, (1.667, 0.599): 0.359, (0.761, 0.696): 0.914, (0.497, 0.026): 0.053}
    for (da, ca), ifd in printed.items():  # DA, CA and IFD of the paper's examples
        assert value("cherry_vicuna", ca, da) == pytest.approx(ifd, abs=1e-3)


def test_chat_scores_the_answer_after_the_rendered_conversation(
    tiny: Path, triples: Sequence[Example], score: Any, plain_torch: Callable[[Any], Any]
) -> None:
    reference, chat = Reference(tiny), ChatFormat.from_folder(tiny)
    got = score(Ifd(), triples, plain_torch, context(tiny))
    empty = chat.render(({"role": "user", "content": ""},), add_generation_prompt=True)
    for index, row in enumerate(triples):
        answer = chat.encode(row.answer or "")
        head = chat.render(row.prompt, add_generation_prompt=True)
        ca = reference.losses([*head, *answer], len(head))
        da = reference.losses([*empty, *answer], len(empty))
        assert len(ca) == len(da) == len(answer)
        assert got["ca"][index] == pytest.approx(sum(ca) / len(ca), abs=2e-5)
        assert got["ifd"][index] == pytest.approx(sum(ca) / sum(da), abs=2e-5)


@pytest.mark.parametrize("variant", ["chat", "superfiltering", "wiz"])
def test_mended_forms_score_the_same_tokens_twice(variant: Any, tiny: Path, triples: Sequence[Example]) -> None:
    block = Ifd(variant=variant, as_released=False, max_length=60)
    spans = [row.parts for row in block._spans(ChatFormat.from_folder(tiny), triples)]
    pairs = [(row["ca"], row["da"]) for row in spans if row["ca"] and row["da"]]
    assert len(pairs) > len(triples) / 2
    for conditioned, direct in pairs:
        assert conditioned.ids[conditioned.start :] == direct.ids[direct.start :]
        assert conditioned.start > 0
        assert len(conditioned.ids) <= 60


def test_rows_that_cannot_be_scored_are_missing_and_spare_the_others(
    tiny: Path, score: Any, example: Any, plain_torch: Callable[[Any], Any]
) -> None:
    rows = [
        example("a", "why?", None),
        example("b", "why?", ""),
        example("c", "so " * 100, "x"),
        example("d", "why?", "so"),
    ]
    got = score(Ifd(max_length=40), rows, plain_torch, context(tiny))
    assert [v is None for v in got["ifd"]] == [True, True, True, False]
    assert [v is None for v in got["ca"]] == [True, True, True, False]

    def refuse(request: Any) -> Any:
        return LoopbenchError("too long") if len(request.ids) > 60 else plain_torch(request)

    got = score(Ifd(), [example("a", "so " * 50, "x"), example("b", "why?", "so")], refuse, context(tiny))
    assert [v is None for v in got["ifd"]] == [True, False]


def test_columns_that_no_longer_fit_the_prompt_are_not_used(
    tiny: Path, score: Any, example: Any, plain_torch: Any
) -> None:
    stale = example("a", "a new question", "x y", fields={"instruction": "the old one", "input": ""})
    fresh = example("b", "a new question", "x y")
    got = score(Ifd(variant="superfiltering"), [stale, fresh], plain_torch, context(tiny))
    assert got["ca"][0] == got["ca"][1]


def test_a_shuffled_answer_raises_the_score_of_a_model_that_knows_the_task(
    score: Any, example: Any, with_chat: Any
) -> None:
    """With losses of a perfect model of `answer = question`, the right answer is easy and a swapped one is not."""
    import numpy as np

    def say(request: Any) -> Any:
        head, answer = request.ids[: request.start - 1], request.ids[request.start :]
        known = [a in head for a in answer]
        return type("L", (), {"values": np.array([-0.1 if k else -2.0 for k in known])})()

    rows = [example("right", "abc", "abc"), example("swapped", "abc", "xyz")]
    got = score(Ifd(), rows, say, with_chat())
    assert got["ifd"] == pytest.approx([0.05, 1.0])
