"""The usual forms of training data, detected from their columns and turned into examples.

| format            | columns                                                                              |
|-------------------|--------------------------------------------------------------------------------------|
| messages          | `messages` (or `conversations`): a list of {role, content}                           |
| sharegpt          | `conversations`: a list of {from: human or gpt, value}                               |
| alpaca            | `instruction`, `input` (may be empty or missing), `output`                           |
| prompt_completion | `prompt` and `completion`; also prompt/response and question/answer                  |
| preference        | `chosen` and `rejected`, each a text after `prompt` or a whole list of messages      |

Original columns stay in `fields`, because some methods need them (IFD: instruction, input, output).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.records.example import Example, Message, Origin

Row = Mapping[str, Any]
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
_ANSWERS = {"prompt": ("completion", "response"), "question": ("answer",)}
_OURS = ("messages", "conversations", "rejected", "chosen", "tags", "scores")


class BadRow(ValueError):
    """A row that its format cannot be read from; the message says why in a few words."""


def detect(rows: Sequence[Row]) -> str | None:
    """The format of the first rows of a source, or None.

    Every row must have the format's columns and at least one be of its form, so that a single broken row is reported as
    such by `convert` instead of hiding what the file is.
    """
    for name, (has_columns, is_of_form) in _TESTS.items():
        if rows and all(map(has_columns, rows)) and any(map(is_of_form, rows)):
            return name
    return None


def convert(row: Row, form: str, row_id: str, source: str = "") -> Example:
    """One row as an example. An answer may be missing: the caller decides what that means.

    Raises:
        BadRow: the row is not of this format.
    """
    messages, rejected = _READERS[form](row)
    if not messages:
        raise BadRow("no messages")
    return Example(
        id=row_id,
        messages=tuple(messages),
        rejected=rejected,
        fields={name: _json_value(value) for name, value in row.items() if name not in _OURS},
        tags=_tags(row.get("tags")),
        scores=_scores(row.get("scores")),
        origin=Origin(block="source", model=source or None),
    )


# --- one reader per format --------------------------------------------------------------------------------------------
Read = tuple[list[Message], str | None]


def _messages(row: Row) -> Read:
    rejected = row.get("rejected")
    return _turns(row.get("messages", row.get("conversations"))), rejected if isinstance(rejected, str) else None


def _alpaca(row: Row) -> Read:
    instruction, context = _text(row, "instruction"), _text(row, "input", required=False)
    asked = f"{instruction}\n\n{context}" if context.strip() else instruction
    return _system(row) + _pair(asked, _text(row, "output", required=False)), None


def _prompt_completion(row: Row) -> Read:
    asked = next((name for name in _ANSWERS if name in row), "prompt")
    answer = next((name for name in _ANSWERS[asked] if name in row), "")
    prompt, completion = row.get(asked), row.get(answer)
    if isinstance(prompt, list):
        return _turns(prompt) + (_turns(completion) if completion else []), None
    return _system(row) + _pair(_text(row, asked), _text(row, answer, required=False)), None


def _preference(row: Row) -> Read:
    chosen, rejected = _parsed(row.get("chosen")), _parsed(row.get("rejected"))
    if isinstance(chosen, list) and isinstance(rejected, list):
        before = _turns(row["prompt"]) if isinstance(row.get("prompt"), list) else []
        better, worse = _turns(chosen), _turns(rejected)
        if not better or not worse or better[:-1] != worse[:-1] or worse[-1]["role"] != "assistant":
            raise BadRow("chosen and rejected do not answer the same prompt")
        if len(better) == 1 and not before:
            before = _pair(_text(row, "prompt"), "")
        return before + better, worse[-1]["content"]
    prompt = _turns(row["prompt"]) if isinstance(row.get("prompt"), list) else _pair(_text(row, "prompt"), "")
    return _system(row) + prompt + _said("assistant", _text(row, "chosen")), _text(row, "rejected")


_READERS: dict[str, Callable[[Row], Read]] = {
    "messages": _messages,
    "sharegpt": _messages,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "preference": _preference,
}


def _has_turns(row: Row, column: str, keys: set[str]) -> bool:
    turns = _parsed(row.get(column))
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and keys <= turns[0].keys()


Test = Callable[[Row], bool]


def _has(*columns: str) -> Test:
    """True for a row that has one of the columns."""
    return lambda row: any(column in row for column in columns)


_TESTS: dict[str, tuple[Test, Test]] = {
    "preference": (_has("chosen"), _has("rejected")),
    "messages": (
        _has("messages", "conversations"),
        lambda row: any(_has_turns(row, column, {"role", "content"}) for column in ("messages", "conversations")),
    ),
    "sharegpt": (_has("conversations"), lambda row: _has_turns(row, "conversations", {"from", "value"})),
    "alpaca": (_has("instruction"), lambda row: "output" in row or "response" not in row),
    "prompt_completion": (_has("prompt", "question"), _has("prompt", "question")),
}


# --- pieces -----------------------------------------------------------------------------------------------------------
def _turns(value: Any) -> list[Message]:
    turns = _parsed(value)
    if not isinstance(turns, list):
        raise BadRow("the messages are no list")
    return [_turn(turn) for turn in turns]


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise BadRow("a message is no mapping")
    role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if role not in ROLES:
        raise BadRow(f"a message has the role {role!r}; known: {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise BadRow(f"a {ROLES[role]} message has no text")
    return Message(role=ROLES[role], content=text)


def _pair(asked: str, answer: str) -> list[Message]:
    """A question, and its answer unless that is blank."""
    return _said("user", asked) + (_said("assistant", answer) if answer.strip() else [])


def _said(role: str, text: str) -> list[Message]:
    return [Message(role=role, content=text)]


def _system(row: Row) -> list[Message]:
    text = row.get("system")
    return _said("system", text) if isinstance(text, str) and text.strip() else []


def _text(row: Row, column: str, *, required: bool = True) -> str:
    value = row.get(column)
    if isinstance(value, str) and (value.strip() or not required):
        return value
    if value is None and not required:
        return ""
    raise BadRow(f"{column} is empty" if value in (None, "") or isinstance(value, str) else f"{column} is no text")


def _parsed(value: Any) -> Any:
    """A list that a CSV column holds as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _tags(value: Any) -> dict[str, str | None]:
    given = value if isinstance(value, dict) else {}
    return {str(name): None if tag is None else str(tag) for name, tag in given.items()}


def _scores(value: Any) -> dict[str, float | None]:
    given = value if isinstance(value, dict) else {}
    return {str(name): _number(score) for name, score in given.items()}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _json_value(value: Any) -> Any:
    """A column's value as JSON: what has no JSON form (dates, bytes) becomes text, what is not finite is missing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, list | tuple) else str(value)
