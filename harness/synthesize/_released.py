"""Prompts of the released LAB pipelines, from their own YAML files: rendered and read as that code does.

A file has `system`, `introduction`, `principles`, `examples`, `generation` with Jinja variables, joined by line breaks
into one user turn, and pairs of tags between which the reply's parts stand (instructlab/sdg, `blocks/llmblock.py` at
faa84ef). An entry of `datasets_cfg/` names such a file and knows its checksum; its text is nowhere in loopbench.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.errors import UserError
from harness.records import datafile, named
from harness.records.values import DataFile

PARTS = ("system", "introduction", "principles", "examples", "generation")
SERIES = r"\[(?:Question|QUESTION)\]\s*(.*?)\s*\[(?:Answer|ANSWER)\]\s*(.*?)\s*(?=\[(?:Question|QUESTION)\]|$)"
"""How the released pipelines find pairs of a series, which has no pair of tags (`pipelines/full/knowledge.yaml`)."""
_ENDS = re.compile(r"\[(?:END|End)\]")


@dataclass(frozen=True)
class Released:
    """One prompt. `tags` are (start, end) of each part of the reply; the last part is the one that counts."""

    template: Any
    tags: tuple[tuple[str, str], ...]

    def render(self, values: Mapping[str, str]) -> str:
        """The user turn."""
        return str(self.template.render(values)).strip()

    def found(self, text: str) -> list[tuple[str, ...]]:
        """What a reply holds: each value between the last pair of tags, or each question with its answer."""
        if not self.tags:
            pairs = re.findall(SERIES, text, re.DOTALL)
            return [tuple(_ENDS.sub("", part).strip() for part in pair) for pair in pairs]
        if not any(self.tags[-1]):
            return [(text.strip(),)]
        return [(match[1].strip(),) for match in self._matches(text)]

    def end(self, text: str) -> int | None:
        """Where the last whole part ends; None where parts have no end of their own (a series, the whole reply)."""
        if not self.tags or not self.tags[-1][1]:
            return None
        return max((match.end() for match in self._matches(text)), default=0)

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        start, end = self.tags[-1]
        return re.finditer(re.escape(start) + "(.*?)" + re.escape(end), text, re.DOTALL)


def released(file: DataFile, option: str) -> Released:
    """The prompt of a file.

    Raises:
        UserError: the file is missing, is not the one that its checksum names, or is no such prompt.
    """
    named.digest(file, option)
    return _parsed(datafile.text_of(named.local(file, option)), file.name)


@lru_cache(maxsize=32)
def _parsed(text: str, name: str) -> Released:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"released prompt {name} is not YAML: {error}") from error
    if not isinstance(data, dict) or not {"introduction", "generation"} <= data.keys():
        raise UserError(f"released prompt {name}: a mapping with {', '.join(PARTS)} is expected")
    try:
        joined = "\n".join(str(data.get(part) or "") for part in PARTS)
        template = ImmutableSandboxedEnvironment().from_string(joined)
    except TemplateError as error:
        raise UserError(f"released prompt {name} is not a Jinja template: {error}") from error
    tags = tuple(zip(data.get("start_tags") or (), data.get("end_tags") or (), strict=False))
    return Released(template, tags)
