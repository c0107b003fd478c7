"""Clean-up of a user turn that a model wrote: labels in front of it, quotes around it, an answer behind it.

After the idea of Magpie's sanitiser (2406.08464, code `exp/str_utils.py`), without its cut at the first question mark
or line end, which loses code and tables, and with answer markers that do match `Answer:` and `Solution:`.
"""

from __future__ import annotations

import re

_NOUN = r"(?:task|question|prompt|problem|query|instruction|scenario|request|exercise|user)"
_LABEL = re.compile(
    rf"\s*[#*_>\s]*(?:{_NOUN}\s*#?\d*\s*[*_]*\s*[:.)–-][*_]*\s+|\d{{1,3}}[.)]\s+|[-•]\s+)", re.IGNORECASE
)
_ANSWER = re.compile(
    r"^[#*_>\s]*(?:(?:the\s+)?(?:correct\s+|final\s+)?(?:answer|solution|response)\b(?:\s+is)?\s*[*_]*:|step\s+1\b)",
    re.IGNORECASE | re.MULTILINE,
)
_BOLD = (("**", "**"), ("__", "__"), ("<b>", "</b>"))
_QUOTES = {'"': '"', "“": "”", "'": "'", "«": "»"}


def sanitise(text: str) -> tuple[str, tuple[str, ...]]:
    """The cleaned text and the names of the rules that changed it: `label`, `answer`, `bold`, `quotes`."""
    rules: list[str] = []
    clean = text.strip()
    for name, rule in (
        ("label", _without_label),
        ("answer", _without_answer),
        ("bold", _without_bold),
        ("quotes", _without_quotes),
    ):
        shorter = rule(clean)
        if shorter != clean:
            clean = shorter
            rules.append(name)
    return clean, tuple(rules)


def _without_label(text: str) -> str:
    match = _LABEL.match(text)
    return text[match.end() :].lstrip() if match else text


def _without_answer(text: str) -> str:
    match = _ANSWER.search(text)
    return text[: match.start()].rstrip() if match else text


def _without_bold(text: str) -> str:
    """The text without marks that make all of it bold."""
    for start, end in _BOLD:
        inner = text.removeprefix(start).removesuffix(end)
        if len(inner) == len(text) - len(start) - len(end) and start not in inner and end not in inner:
            return inner.strip()
    return text


def _without_quotes(text: str) -> str:
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1]:
        return text
    inner = text[1:-1]
    return text if text[0] in inner or text[-1] in inner else inner.strip()
