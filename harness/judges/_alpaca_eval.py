"""Annotator configurations of the alpaca-eval package: its prompts, sampling and parsers, by their own names.

The package is located without importing it; only its parsers are imported, when a verdict is read. That takes about two
seconds once, warns about pkg_resources and sets the root logger to INFO; all of that is kept in here.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.example import Message

_CHATML = re.compile(r"<\|im_start\|>(\w+)[^\n]*\n(.*?)<\|im_end\|>", re.DOTALL)
_PLACE = re.compile(r"\{(instruction|output_1|output_2)\}")
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError)


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """How one annotator asks and reads: the parts of its `configs.yaml` that do not name a model or a server."""

    name: str
    prompt_file: Path
    parser: str
    options: Mapping[str, Any]
    max_tokens: int
    temperature: float
    top_logprobs: int
    """How many log-probabilities per token the parser reads; 0 where it reads the text."""

    def identity(self) -> dict[str, Any]:
        """All that decides a verdict beside the prompt, with the version of the package whose parser reads it."""
        return {"parser": self.parser, "options": dict(self.options), "alpaca_eval": version("alpaca-eval")}


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the package's warnings, and what it does to the root logger, to itself; other loggers go on."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.addFilter(_nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_nothing)
        root.setLevel(level)
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)


def _nothing(record: logging.LogRecord) -> bool:
    return False


@cache
def annotator(name: str) -> Annotator:
    """The package's configuration of this name.

    Raises:
        UserError: there is none, or it asks in a way that has no meaning here (function calls, several per prompt).
    """
    import yaml

    folder = _folder()
    file = folder / name / "configs.yaml"
    if not name.replace("-", "_").replace(".", "_").isidentifier() or not file.is_file():
        known = sorted(path.parent.name for path in folder.glob("*/configs.yaml"))
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"alpaca-eval has no annotator {name!r}{hint} Known: {', '.join(known)}.")
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))[name]
    asked = settings.get("completions_kwargs", {})
    if "function_call" in asked or "tools" in asked or settings.get("batch_size", 1) != 1:
        raise UserError(
            f"alpaca-eval's annotator {name!r} asks by function call or for several pairs at once, which is not "
            "supported: name another, such as weighted_alpaca_eval_gpt4_turbo or alpaca_eval_gpt4"
        )
    parser = settings.get("fn_completion_parser", "regex_parser")
    return Annotator(
        name=name,
        prompt_file=folder / settings["prompt_template"],
        parser=parser,
        options=settings.get("completion_parser_kwargs", {}),
        max_tokens=int(asked.get("max_tokens", asked.get("max_tokens_to_sample", 256))),
        temperature=float(asked.get("temperature", 0.0)),
        top_logprobs=int(asked.get("top_logprobs", 5)) if parser == "logprob_parser" else 0,
    )


def messages(template: str, instruction: str, first: str, second: str) -> tuple[Message, ...]:
    """The conversation of a prompt template in ChatML; a template without such markers is one user turn.

    The template is split before it is filled in, and filled in at once, so neither ChatML markers nor placeholders
    inside an answer can become part of the prompt's structure. (The package fills in first and splits then.)
    """
    given = {"instruction": instruction, "output_1": first, "output_2": second}
    parts = _CHATML.findall(template) or [("user", template)]
    return tuple(
        Message(role=role, content=_PLACE.sub(lambda match: given[match[1]], text.strip())) for role, text in parts
    )


def read(how: Annotator, text: str, tops: Sequence[Mapping[str, float]]) -> tuple[float | None, str]:
    """The preference in what a judge wrote (1: the first shown, 2: the second, between: weighted), or None and why.

    Args:
        how: the annotator.
        text: the judge's text.
        tops: per token of it, the most likely texts with their log-probabilities.
    """
    if how.top_logprobs:
        tops = [_bare(how, top) for top in tops]
        wrong = _unusable(how, tops)
        if wrong is not None:
            return None, wrong
    given: Any = {"logprobs": {"content": [_entry(top) for top in tops]}} if how.top_logprobs else text
    with quiet():
        parse = getattr(importlib.import_module("alpaca_eval.completion_parsers"), how.parser)
        try:
            found = list(parse(given, **_copied(how.options)))
        except (*_FAILURES, ValueError):
            found = []
    if len(found) != 1 or not isinstance(found[0], int | float) or not math.isfinite(found[0]):
        return None, "the verdict cannot be read"
    value = 1.5 if found[0] == 0 else float(found[0])
    return (value, "") if 1 <= value <= 2 else (None, f"the verdict {value:g} is not between 1 and 2")


def discrete(how: Annotator, text: str) -> float | None:
    """The verdict in the text itself, where log-probabilities were to be read: one of the two letters, or None."""
    first, letters = how.options["numerator_token"], how.options["denominator_tokens"]
    said = text.strip()
    return None if said not in letters else 1.0 if said == first else 2.0


def _bare(how: Annotator, top: Mapping[str, float]) -> Mapping[str, float]:
    """The tokens as they are where one is a letter; else without white space around them, equal ones summed.

    Tokenizers of local models often write the first word of a reply with the space before it.
    """
    if _letters(how) & top.keys():
        return top
    summed: dict[str, float] = {}
    for token, value in top.items():
        bare = token.strip()
        summed[bare] = _log_sum(summed[bare], value) if bare in summed else value
    return summed


def _log_sum(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf or math.isnan(low) else high + math.log1p(math.exp(low - high))


def _letters(how: Annotator) -> set[str]:
    return {*how.options["denominator_tokens"], how.options["numerator_token"]}


def _unusable(how: Annotator, tops: Sequence[Mapping[str, float]]) -> str | None:
    """Why there are no weights: none came, they are not numbers, or neither letter is among the most likely tokens."""
    place = how.options.get("log_prob_index", "batch")
    top = tops[place if isinstance(place, int) else 0] if tops else {}
    if not top:
        return "the judge gave no usable log-probabilities"
    letters = dict.fromkeys([*how.options["denominator_tokens"], how.options["numerator_token"]])
    weights = [top[letter] for letter in letters if letter in top]
    if not weights:
        return f"neither {' nor '.join(letters)} is among the judge's most likely tokens"
    if any(math.isnan(weight) or weight > 1e-3 for weight in weights):
        return f"the judge's log-probabilities are no log-probabilities ({', '.join(map(str, weights))})"
    if all(weight == -math.inf for weight in weights):
        return "the judge gave every verdict the probability 0"
    return None


def _entry(top: Mapping[str, float]) -> dict[str, Any]:
    return {"top_logprobs": [{"token": token, "logprob": value} for token, value in top.items()]}


def _copied(options: Mapping[str, Any]) -> dict[str, Any]:
    # The package's regex parser writes compiled patterns into the mapping that it is given.
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()}


def _folder() -> Path:
    found = importlib.util.find_spec("alpaca_eval")
    if found is None or found.origin is None:
        raise UserError("the package alpaca-eval is not installed: `pip install alpaca-eval`")
    return Path(found.origin).parent / "evaluators_configs"
