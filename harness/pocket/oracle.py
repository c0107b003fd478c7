"""The oracle: grades any answer to a pocket question against the known truth.

It is a program, not a model, and everything that it grades must be labelled as oracle-judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from harness.pocket.answers import core
from harness.pocket.tasks.coding import run
from harness.pocket.tasks.writing import rhymes_with

RIGHT, OFF_FORMAT, NEAR, WRONG, NOTHING = 10, 6, 3, 2, 1


@dataclass(frozen=True)
class Grade:
    """A verdict: `score` 1 to 10, whether the answer is right (in any form), and a short stable reason."""

    score: int
    correct: bool
    reason: str


def grade(truth: dict[str, Any], answer: str) -> Grade:
    """Grade `answer` against the truth of its question.

    10: right and in the asked form. 6: right, but not in the asked form. 3: the asked form with a wrong content.
    2: neither. 1: nothing was said.

    Args:
        truth: `Turn.truth` of the question.
        answer: Text of the answer; white space around it does not count.
    """
    text = answer.strip()
    if not text:
        return Grade(NOTHING, False, "empty")
    formed, right = _read(truth, text)
    if right:
        return Grade(RIGHT, True, "right")
    if not formed and _said(truth, text):
        return Grade(OFF_FORMAT, True, "right, not in the asked form")
    if formed:
        return Grade(NEAR, False, "wrong")
    return Grade(WRONG, False, "wrong, not in the asked form")


def in_form(truth: dict[str, Any], answer: str) -> bool:
    """Whether an answer has the asked form, whatever it says."""
    return _read(truth, answer.strip())[0]


def _read(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    """Whether the text has the asked form, and whether what it says in that form is right."""
    readers = {"final": _final, "fields": _fields, "line": _line, "program": _program, "voice": _voice}
    return readers[truth["kind"]](truth, text)


def _final(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    last = text.rsplit("\n", maxsplit=1)[-1]
    marker = truth["marker"] + " "
    return last.startswith(marker), last == marker + truth["answer"]


def _fields(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    said = dict(part.split(" : ", 1) for part in text.split(" ; ") if " : " in part)
    formed = all(re.fullmatch(r"[a-z]+ : [a-z0-9]+", part) for part in text.split(" ; "))
    return formed, formed and said == truth["fields"]


def _line(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    words = text.split(" ")
    one_sentence = words[-1] == "." and words.count(".") == 1 and not {":", "!", "\n"} & set(text)
    formed = one_sentence and words[:2] != ["i", "think"]
    return formed, formed and _fits(truth, words[:-1])


def _fits(truth: dict[str, Any], words: list[str]) -> bool:
    """Whether a line, without its full stop, meets everything that was asked for."""
    held = all(word in words for word in truth["words"])
    rhymed = "rhyme" not in truth or (bool(words) and words[-1] in rhymes_with(truth["rhyme"]))
    return held and rhymed and ("count" not in truth or len(words) == truth["count"])


def _program(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    done = run(text)
    if done is None:
        return False, False
    # The start and the operations are asked for, not only the printed value: 4 + 4 is not 4 * 2.
    return True, done[0] == truth["prints"] and text == truth["program"]


def _voice(truth: dict[str, Any], text: str) -> tuple[bool, bool]:
    formed = text.startswith(truth["opening"] + " ") and text.endswith(" " + truth["closing"])
    return formed, formed and core(truth, text) == truth["answer"]


def _said(truth: dict[str, Any], text: str) -> bool:
    """Whether a text without the asked form still says the right answer as its conclusion."""
    flat = text.replace("\n", " ").removesuffix(" i hope that helps .").removesuffix(" .").strip()
    if truth["kind"] in ("line", "program"):
        inner = re.sub(r"^(?:i think|sure !) ", "", flat)
        if truth["kind"] == "program":
            return inner != text and inner == truth["program"]
        return "." not in inner.split(" ") and _fits(truth, inner.split(" "))
    said = truth["answer"] if truth["kind"] != "fields" else " and ".join(truth["fields"].values())
    said = said.removeprefix("it is ") if truth["kind"] == "voice" else said
    return flat == said or bool(
        re.search(rf"(?:it is|i think|sure !|answer is|answer :|####) {re.escape(said)}$", flat)
    )
