"""What Magpie's authors sampled their data with: decoding grids of the published sets, and settings per teacher.

Grids: 2406.08464 v2 Table 7. Teachers: the released `scripts/*.sh` and `configs/model_configs.json`
(magpie-align/magpie at b734a36, MIT). A teacher's `prefix` stands here only where the tokenizer's own chat template
gives another one; the stop tokens always follow from the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


class Cell(BaseModel):
    """One decoding setting of a grid."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    weight: float = Field(1.0, gt=0, description="Its share of the attempts, relative to the other cells.")


GridName = Literal["air", "pro"]
GRIDS: Mapping[str, tuple[Cell, ...]] = {
    "air": tuple(
        Cell(temperature=t, top_p=p, weight=1 if t == 1.25 else 3)
        for t in (1.0, 1.1, 1.2, 1.25)
        for p in (1.0, 0.995, 0.99)
    ),
    "pro": (
        Cell(temperature=1.0, top_p=1.0, weight=3),
        Cell(temperature=1.1, top_p=0.995, weight=3),
        Cell(temperature=1.2, top_p=0.995, weight=3),
        Cell(temperature=1.25, top_p=0.99, weight=1),
    ),
}
"""Weights in units of 100,000 rows: 3M rows for Air, 1M for Pro."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Settings of one family of teachers.

    Attributes:
        options: options of the block, as the released script sets them (the paper's defaults are left out).
        newline: the released script also ends an instruction at its first line end.
        prefix: the released pre-query text, where the chat template of the tokenizer gives another one.
        note: what the authors, or their users, found out about the family.
    """

    options: Mapping[str, Any]
    newline: bool = True
    prefix: str | None = None
    note: str = ""


_LLAMA3 = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
_DATED = "The template of the tokenizer opens with a system turn of dates; the released prefix leaves it out."
_HEADINGS = ("#", "##", "###", "####")
_SPACED = "The released prefix has a space that the template does not write."
_LONG: Mapping[str, Any] = {"max_tokens": 2048}


def _qwen(temperature: float, **more: Any) -> Teacher:
    return Teacher(
        options={**_LONG, "temperature": temperature, **more},
        note="Keep the default system turn of the template: without it most instructions are fragments.",
    )


TeacherName = Literal[
    "llama-3", "llama-3.1-8b", "llama-3.1-70b", "llama-3.3-70b", "qwen2", "qwen2-math-7b", "qwen2.5-3b", "qwen2.5-7b",
    "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b", "qwen2.5-coder-32b", "qwen2.5-math-72b", "gemma-1.1", "gemma-2",
    "phi-3", "phi-3-small", "mistral-v0.3", "llama-2", "vicuna", "yi-1.5", "deepseek-coder-v2-lite",
]  # fmt: skip
TEACHERS: Mapping[str, Teacher] = {
    "llama-3": Teacher(options=_LONG),
    "llama-3.1-8b": Teacher(
        options={
            "temperature": 0.8, "response_temperature": 0.6, "response_top_p": 0.9,
            "sanitise": True, "first_bans": _HEADINGS, "max_tokens": 1024,
        },
        newline=False, prefix=_LLAMA3, note=f"{_DATED} Markdown headings are banned as first token.",
    ),
    "llama-3.1-70b": Teacher(
        options={
            "temperature": 0.9, "response_temperature": 0.6, "response_top_p": 0.9,
            "sanitise": True, "first_bans": _HEADINGS, "max_tokens": 1024,
        },
        newline=False, prefix=_LLAMA3, note=f"{_DATED} Markdown headings are banned as first token.",
    ),
    "llama-3.3-70b": Teacher(
        options={"sanitise": True, "max_tokens": 1024}, newline=False, prefix=_LLAMA3, note=_DATED
    ),
    "qwen2": Teacher(
        options=_LONG, prefix="<|im_start|>user\n",
        note="The template opens with a default system turn; the released prefix leaves it out.",
    ),
    "qwen2-math-7b": Teacher(options=_LONG, prefix="<|im_start|>user\n"),
    "qwen2.5-3b": _qwen(0.7),
    "qwen2.5-7b": _qwen(0.7),
    "qwen2.5-14b": _qwen(0.7),
    "qwen2.5-32b": _qwen(0.6),
    "qwen2.5-72b": _qwen(0.6),
    "qwen2.5-coder-32b": _qwen(1.0),
    "qwen2.5-math-72b": Teacher(
        options={
            **_LONG, "temperature": 0.6, "top_p": 0.9, "response_temperature": 0.6, "response_top_p": 0.9,
            "first_divisor": 1.2,
        },
        prefix=(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n"
        ),
        note="The first token's logits are divided by 1.2. The template has another default system turn.",
    ),
    "gemma-1.1": Teacher(options=_LONG, note="Marginal according to the authors."),
    "gemma-2": Teacher(
        options={"max_tokens": 512, "response_max_tokens": 2048, "sanitise": True}, newline=False,
        prefix="<bos><start_of_turn>user\n\n",
        note="The released prefix has a second line end, which the template does not write.",
    ),
    "phi-3": Teacher(options=_LONG, prefix="<s> <|user|>\n", note=_SPACED),
    "phi-3-small": Teacher(options=_LONG),
    "mistral-v0.3": Teacher(options=_LONG, prefix="<s> [INST] ", note=f"Marginal. {_SPACED}"),
    "llama-2": Teacher(options=_LONG, prefix="<s> [INST] ", note=f"Marginal. {_SPACED}"),
    "vicuna": Teacher(
        options=_LONG,
        prefix=(
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions.\n\nUSER: "
        ),
        note="Marginal. Its tokenizer brings no chat template: give it one, which also says what ends a turn.",
    ),
    "yi-1.5": Teacher(
        options=_LONG, prefix="<|startoftext|><|im_start|>user\n",
        note="Marginal. The released prefix opens with a start token, which the template does not write.",
    ),
    "deepseek-coder-v2-lite": Teacher(options=_LONG, note="Marginal."),
}  # fmt: skip
RELEASED_STOP = "assistant"
"""The text at which the released scripts end any instruction, in the middle of a sentence if need be."""
if set(get_args(TeacherName)) != set(TEACHERS):
    raise RuntimeError("every teacher needs a name that the option knows")
