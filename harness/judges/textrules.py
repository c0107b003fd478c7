"""Rules that a program can check of an answer: its length, what it holds, its form, and what became of the original.

The rules of ReAlign's post-filter (arXiv 2402.12219 §3.3.2, and the released `rewrite_data_selection.py`, where one of
three selectors runs and the others are commented out) are presets. Two rules are ours and off in all of them: a
rewritten solution keeps the numbers of the original, and both end in the same number.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from harness.blocks.base import identity
from harness.records.numbers import all_numbers, final_number
from harness.records.tasks import Check

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat

Where = Literal["off", "checked", "all"]
Preset = Literal["none", "paper", "platypus", "alpaca", "no_robots"]
CODE, RESULT, PLAN = "code in one only", "result missing", "no plan asked for"
NUMBERS, SAME_END = "numbers lost", "another result"
_FENCE = re.compile(r"```[\s\S]*?```")
_PLAIN_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_TRUTHS = ("True", "False")
_LABELS = ("Revised response",)
_PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "none": {},
    "paper": {"shorter": 0.5, "code": "checked", "result": "checked", "plan_words": ("plan", "Plan")},
    "platypus": {"shorter": 0.5, "shorter_or_equal": True, "code": "all", "result": "released"},
    "alpaca": {"shorter": 0.5, "shorter_or_equal": True, "code": "all"},
    "no_robots": {
        "shorter": 0.5, "shorter_or_equal": True, "code": "all", "lacks": _LABELS, "plan_words": (" plan", " Plan"),
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """What rules look at. `original` is the answer before a rewrite; None where the answer was not rewritten.

    `checks` are those that the row's task asks for; `length` counts a text in the unit of the rules.
    """

    answer: str
    question: str = ""
    original: str | None = None
    checks: frozenset[Check] = frozenset()
    length: Callable[[str], int] = len


class TextRules(BaseModel):
    """What an answer must keep to; `broken` names the first rule that it does not.

    A rule that compares with the original says nothing of an answer that was not rewritten. `checked`: for tasks only
    whose entry in the taxonomy names the check.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = identity(
        "none",
        description="ReAlign's rules as the paper states them, or as one of its three released selectors has them; "
        "rules that are given beside it replace its own.",
        source="2402.12219 §3.3.2",
    )
    least: int | None = identity(None, ge=0, description="Shorter answers are refused.", unit="as `unit`")
    most: int | None = identity(None, ge=0, description="Longer answers are refused.", unit="as `unit`")
    shorter: float | None = identity(
        None, gt=0, description="Refused below this share of the original's length.", source="2402.12219 §3.3.2: 0.5"
    )
    shorter_or_equal: bool = identity(
        False, description="Exactly that share is refused as well, as in the released code."
    )
    longer: float | None = identity(None, gt=0, description="Refused above this multiple of the original's length.")
    has: tuple[str, ...] = identity((), description="Texts of which an answer must hold one.")
    lacks: tuple[str, ...] = identity((), description="Texts that no answer may hold.")
    pattern: str | None = identity(None, description="A regular expression that must match somewhere.")
    parse: Literal["json", "python", "number"] | None = identity(
        None,
        description="The answer, or its first fenced block, must parse; `number`: it must end in one that can be read.",
    )
    code: Where = identity(
        "off",
        description="Original and answer must both hold code, or neither: a fenced block, or `def ` and `return `.",
    )
    result: Literal["off", "checked", "released"] = identity(
        "off",
        description="An original of one word (an exam's letter, a truth value, a number) must occur in the answer. "
        "`released`: for all tasks, one character only, True and False accepted, and no later rule asked.",
    )
    plan_words: tuple[str, ...] = identity(
        (), description="For tasks checked for `plan`, the question must hold one of these."
    )
    numbers: Where = identity("off", description="Every number of the original must occur in the answer. Ours.")
    same_end: Where = identity(
        "off", description="An answer must end in the number that the original ends in, if it has any. Ours."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"preset": value}
        preset = value.get("preset", "none") if isinstance(value, dict) else "none"
        return {**_PRESETS.get(cast(Preset, preset), {}), **value} if isinstance(value, dict) else value

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _some_length_fits(self) -> Self:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"no answer is both `least` {self.least} and `most` {self.most} long")
        return self

    def says_anything(self) -> bool:
        """False where every rule is off; `shorter_or_equal` says something about `shorter` only."""
        default, rules = TextRules(), TextRules.model_fields.keys() - {"preset", "shorter_or_equal"}
        return any(getattr(self, name) != getattr(default, name) for name in rules)

    def uses_original(self) -> bool:
        """True where a rule compares with the answer before a rewrite."""
        compared = (self.code, self.result, self.numbers, self.same_end)
        return self.shorter is not None or self.longer is not None or set(compared) != {"off"}

    def uses_checks(self) -> bool:
        """True where a rule is for some tasks only."""
        return bool(self.plan_words) or "checked" in (self.code, self.result, self.numbers, self.same_end)

    def broken(self, case: Case) -> str | None:
        """The first rule that is broken, in short stable words; None where all are kept."""
        return self._by_itself(case) or self._beside_the_original(case)

    def _by_itself(self, case: Case) -> str | None:
        length = case.length(case.answer)
        if self.least is not None and length < self.least:
            return "too short"
        if self.most is not None and length > self.most:
            return "too long"
        if self.has and not any(text in case.answer for text in self.has):
            return "keyword missing"
        if any(text in case.answer for text in self.lacks):
            return "banned text"
        if self.pattern is not None and re.search(self.pattern, case.answer) is None:
            return "pattern not found"
        return f"no {self.parse}" if self.parse is not None and not _PARSES[self.parse](case.answer) else None

    def _beside_the_original(self, case: Case) -> str | None:
        if case.original is None:
            return None
        if self.result == "released" and (said := _released_result(case.original, case.answer)) is not None:
            return None if said else RESULT
        if self.result == "checked" and "result" in case.checks and not result_kept(case.original, case.answer):
            return RESULT
        if self.plan_words and "plan" in case.checks and not any(w in case.question for w in self.plan_words):
            return PLAN
        if _on(self.code, "code", case) and holds_code(case.original) != holds_code(case.answer):
            return CODE
        return self._length(case, case.original) or self._figures(case, case.original)

    def _length(self, case: Case, original: str) -> str | None:
        before, after = case.length(original), case.length(case.answer)
        if self.shorter is not None and (
            after < self.shorter * before or (self.shorter_or_equal and after == self.shorter * before)
        ):
            return "much shorter than the original"
        return "much longer than the original" if self.longer is not None and after > self.longer * before else None

    def _figures(self, case: Case, original: str) -> str | None:
        if _on(self.numbers, "numbers", case) and all_numbers(original) - all_numbers(case.answer):
            return NUMBERS
        end = final_number(original) if _on(self.same_end, "numbers", case) else None
        return SAME_END if end is not None and end != final_number(case.answer) else None


def lengths(chat: ChatFormat | None) -> Callable[[str], int]:
    """Counts tokens of a model's tokenizer, without special ones, or words where there is none."""
    return (lambda text: len(text.split())) if chat is None else lambda text: len(chat.encode(text))


def holds_code(text: str) -> bool:
    """A fenced block, or `def ` and `return `: what the released code takes for code."""
    return _FENCE.search(text) is not None or ("def " in text and "return " in text)


def result_kept(original: str, answer: str) -> bool:
    """Whether an original of one word or number occurs as such in the answer; longer originals are no bare results.

    Unlike the released code, the original is taken as text, not as a regular expression, so `?` or `+` is no error;
    `(B)` is the choice B, and 1,000 the number 1000.
    """
    bare = original.strip().strip("().:*").strip() or original.strip()
    if len(bare.split()) != 1:
        return True
    if _PLAIN_NUMBER.fullmatch(bare) and all_numbers(bare) <= all_numbers(answer):
        return True
    flags = re.IGNORECASE if len(bare) > 1 else re.NOFLAG  # the choice A is not the article in "a train"
    return re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(bare)}(?!\w|[.,]\d)", answer, flags) is not None


def _released_result(original: str, answer: str) -> bool | None:
    """The decision of the released Platypus selector on one-character and true/false originals; None for others."""
    bare = original.strip()
    if len(bare) == 1:
        return re.search(rf"(?<![a-zA-Z]){re.escape(bare)}(?![a-zA-Z])", answer) is not None
    return True if bare in _TRUTHS else None


def _on(where: Where, check: Check, case: Case) -> bool:
    return where == "all" or (where == "checked" and check in case.checks)


def _inner(text: str) -> str:
    """The content of the first fenced block, without its language, or the text."""
    block = _FENCE.search(text)
    return text if block is None else re.sub(r"^```[^\n]*\n?|```$", "", block[0])


def _is_json(text: str) -> bool:
    try:
        json.loads(_inner(text))
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    try:
        return bool(ast.parse(_inner(text)).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _has_number(text: str) -> bool:
    return final_number(text) is not None


_PARSES: Mapping[str, Callable[[str], bool]] = {"json": _is_json, "python": _is_python, "number": _has_number}
