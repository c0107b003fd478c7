"""The prompt forms of the released IFD code: how each variant writes a prompt before the answer that it scores.

The wordings are those of the Stanford Alpaca and Vicuna prompts, which the scores' values depend on to the character.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from harness.records.example import Example, prompt_text

Formula = Literal["ratio", "perplexity"]
ALIASES = {"alpaca": "cherry_alpaca", "vicuna": "cherry_vicuna", "cherry_v1_wiz": "wiz", "none": "superfiltering"}
"""The released scripts' own `--prompt` names."""


def _variant(value: Any) -> Any:
    name = value.strip().lower().replace("-", "_") if isinstance(value, str) else value
    return ALIASES.get(name, name) if isinstance(name, str) else name


Variant = Annotated[
    Literal["chat", "cherry_alpaca", "cherry_vicuna", "cherry_wiz", "wiz", "superfiltering"],
    BeforeValidator(_variant),
]
"""Whose prompt and formula: the model's own chat template, or one of the released scripts'."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One variant. `direct` is the text before the answer when it is scored without its instruction."""

    plain: str
    with_input: str
    direct: str
    direct_tokens: int
    """Tokens of `direct`, a BOS included, as the released code has it: right for the Llama-1/2 tokenizer only."""
    max_length: int
    formula: Formula = "ratio"
    bare_length: bool = False
    """The released code measures the prompt by its instruction alone (v1 `wiz`)."""
    strict: bool = True
    """No score where prompt and direct answer together have more tokens than fit (the Cherry selectors)."""

    def prompt(self, instruction: str, input_: str) -> str:
        """The text before the answer."""
        return (self.with_input if input_ else self.plain).format(instruction=instruction, input=input_)

    def headless(self) -> Form:
        """The same prompts with nothing before a direct answer: its first token has no predecessor but a BOS."""
        return replace(self, direct="", direct_tokens=1, bare_length=False, strict=False)


_TASK = "Below is an instruction that describes a task"
_PAIRED = "paired with an input that provides further context"
_WRITE = "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: {instruction}"
)
_HEADER = "### Response:"
_WIZ = Form(
    plain=f"{{instruction}}\n\n{_HEADER}",
    with_input=f"{{instruction}}\n{{input}}\n\n{_HEADER}",
    direct=_HEADER,
    direct_tokens=4,
    max_length=512,
)

FORMS: Mapping[str, Form] = {
    "cherry_alpaca": Form(
        plain=f"{_TASK}. {_WRITE}{_HEADER}",
        with_input=f"{_TASK}, {_PAIRED}. {_WRITE}### Input:\n{{input}}\n\n{_HEADER}",
        direct=_HEADER,
        direct_tokens=4,
        max_length=512,
    ),
    "cherry_vicuna": Form(
        plain=f"{_VICUNA} ASSISTANT:",
        with_input=f"{_VICUNA}\nInput:\n{{input}} ASSISTANT:",
        direct="ASSISTANT:",
        direct_tokens=6,
        max_length=512,
    ),
    "cherry_wiz": _WIZ,
    "wiz": replace(_WIZ, with_input=f"{{instruction}}\nInput:{{input}}\n\n{_HEADER}", bare_length=True),
    "superfiltering": Form(
        plain="{instruction}\n",
        with_input="{instruction}\n{input}\n",
        direct="",
        direct_tokens=1,
        max_length=1024,
        formula="perplexity",
        strict=False,
    ),
}


def instruction_of(row: Example) -> tuple[str, str]:
    """Instruction and input of a row: its original columns where they still are its prompt, else the prompt's text."""
    text = prompt_text(row)
    instruction, input_ = row.fields.get("instruction"), row.fields.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(input_, str):
        return text, ""
    asked = f"{instruction}\n\n{input_}" if input_.strip() else instruction
    return (instruction, input_) if text.endswith(asked) else (text, "")
