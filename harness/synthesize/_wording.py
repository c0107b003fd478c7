"""What a rewriter is told and how its reply is read: by the model's prompt pack, or by ReAlign's released prompts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.blocks.prompts import fill
from harness.errors import UserError
from harness.records import named
from harness.records.example import Message
from harness.records.values import DataFile

UNREADABLE, EMPTY = "reply not readable", "empty rewrite"
_RELEASED = {
    "system": "REWRITING_SYSTEM_PROMPT",
    "forced": "NON_ADAPTIVITTY_REWRITING_SYSTEM_PROMPT",
    "user": "REWRITING_USER_PROMPT",
    "system_evidence": "REWRITING_RETRIEVAL_SYSTEM_PROMPT",
    "forced_evidence": "NON_ADAPTIVITTY_REWRITING_RETRIEVAL_SYSTEM_PROMPT",
    "user_evidence": "REWRITING_RETRIEVAL_USER_PROMPT",
}
_FORMATS = "STRUCTURE"
# Both labels, the first `Revised response:` counts: `reformat.py` splits there, then wants `Reasoning:` before it.
_RELEASED_REPLY = r"(?s)\A(?:(?!Revised response:).)*?Reasoning:(?:(?!Revised response:).)*Revised response:(.*)"


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a prompt may show. `passages` are numbered and put in a block of their own."""

    question: str
    answer: str
    format: str = ""
    task: str = ""
    passages: tuple[str, ...] = ()
    critique: str = ""

    def texts(self) -> dict[str, str]:
        """Placeholder to text."""
        listed = "\n\n".join(f"{number}. {text}" for number, text in enumerate(self.passages, start=1))
        return {
            "question": self.question,
            "answer": self.answer,
            "format": self.format,
            "task": self.task,
            "critique": self.critique,
            "passages": listed,
        }


@dataclass(frozen=True)
class Reading:
    """A reply as it was read: the new text, or why there is none."""

    text: str = ""
    problem: str | None = None


def from_pack(
    prompts: Mapping[str, str], entry: str, material: Material, *, forced: bool = False
) -> tuple[Message, ...]:
    """The conversation that an entry of the pack makes.

    The system turn is `<entry>.system`, with `forced` `<entry>.forced` where there is one; `{evidence_rule}` in it and
    `{evidence}` in the user turn stand for `<entry>.evidence_rule` and `<entry>.evidence` where there are passages.

    Raises:
        UserError: the pack has no such entry, or names a placeholder that is not known.
    """
    needed, texts = f"rewrite (its prompt {entry})", material.texts()
    for part in ("evidence_rule", "evidence"):
        has = material.passages and f"{entry}.{part}" in prompts
        texts[part] = fill(prompts, f"{entry}.{part}", needed, **texts) if has else ""
    system = next((s for s in (f"{entry}.forced" if forced else "", f"{entry}.system") if s in prompts), None)
    turns = [] if system is None else [Message(role="system", content=fill(prompts, system, needed, **texts))]
    return (*turns, Message(role="user", content=fill(prompts, entry, needed, **texts)))


def read(reply: str, pattern: str | None) -> Reading:
    """The new text in a reply: the first group of the pattern, or all of it without one."""
    match = re.search(pattern, reply) if pattern else None
    if pattern and match is None:
        return Reading(problem=UNREADABLE)
    text = (match[1] if match is not None else reply).strip()
    return Reading(text) if text else Reading(problem=EMPTY)


@dataclass(frozen=True)
class Released:
    """ReAlign's own prompts and formats, from the file `constant.py` of its code."""

    prompts: Mapping[str, str]
    formats: Mapping[str, str]
    pattern: str = _RELEASED_REPLY

    def conversation(self, material: Material, *, forced: bool) -> tuple[Message, ...]:
        """System and user turn as `reformat.py` sends them."""
        with_evidence = "_evidence" if material.passages else ""
        texts = material.texts()
        shown = {
            "question": texts["question"],
            "response": texts["answer"],
            "structure": texts["format"],
            "evidence": texts["passages"],
        }
        system = self.prompts[("forced" if forced else "system") + with_evidence]
        return (
            Message(role="system", content=system.strip()),
            Message(role="user", content=self.prompts["user" + with_evidence].format(**shown).strip()),
        )


def released(file: DataFile) -> Released:
    """The prompts in a Python file of constants. It is read as text: nothing in it is run.

    Raises:
        UserError: the file is missing, has another checksum, or lacks a constant.
    """
    return _released(named.digest(file, "released"), str(named.local(file, "released")))


@lru_cache(maxsize=4)
def _released(digest: str, path: str) -> Released:  # digest: a file that was changed is read again
    from harness.records.datafile import locate, text_of

    try:
        body = ast.parse(text_of(locate(path, "released"))).body
    except SyntaxError as error:
        raise UserError(f"{path} (option `released`) is no Python file of constants: {error}") from error
    values: dict[str, Any] = dict(_constants(body))
    lacking = [name for name in (*_RELEASED.values(), _FORMATS) if name not in values]
    formats = values.get(_FORMATS)
    if lacking or not isinstance(formats, dict):
        raise UserError(
            f"{path} (option `released`) lacks {', '.join(lacking) or _FORMATS + ' as a mapping'}: it should be "
            "`constant.py` of ReAlign's released code"
        )
    prompts = {part: str(values[name]) for part, name in _RELEASED.items()}
    return Released(prompts, {str(task): str(text).strip() for task, text in formats.items()})


def _constants(body: Sequence[ast.stmt]) -> Iterator[tuple[str, Any]]:
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        yield from ((target.id, _literal(value)) for target in targets if isinstance(target, ast.Name))


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None
