"""FastChat's judge prompts, filled in to the letter as FastChat fills them.

The texts come from its `judge_prompts.jsonl`, a data file with a checksum; none of them stands here. A file becomes
entries of the prompt pack (`fastchat/<name>` and `fastchat/<name>.system`), so a suite can hand them to any judge.
Source: lm-sys/FastChat, fastchat/llm_judge/common.py; arXiv 2306.05685.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from harness.blocks.kinds import Context, EvalItem
from harness.errors import UserError
from harness.judges._tasks import before, guide
from harness.records import named
from harness.records.example import Message
from harness.records.values import DataFile

_PREFIX = "fastchat/"


def with_prompts(context: Context, file: DataFile | None, option: str) -> Context:
    """The context with the prompts of a file among its entries.

    Raises:
        UserError: the file is not there, or is not FastChat's.
    """
    if file is None:
        return context
    return replace(context, prompts={**context.prompts, **_entries(file, named.digest(file, option), option)})


def offered(prompts: Mapping[str, str]) -> bool:
    """True where the entries hold FastChat's prompts."""
    return any(name.startswith(_PREFIX) for name in prompts)


def single(item: EvalItem, outputs: Sequence[str], turn: int, prompts: Mapping[str, str]) -> tuple[Message, ...]:
    """What the judge is shown to grade one turn of an answer."""
    if turn == 0:
        shown = {"question": item.turns[0], "answer": outputs[0]}
    else:
        shown = _numbered("question", item.turns) | _numbered("answer", outputs)
    return _messages("single-math-v1" if guide(item) else "single-v1", item, turn, shown, prompts)


def pair(
    item: EvalItem, first: Sequence[str], second: Sequence[str], turn: int, prompts: Mapping[str, str]
) -> tuple[Message, ...]:
    """What the judge is shown to compare one turn of two answers, in this order."""
    if turn == 0:
        shown = {"question": item.turns[0], "answer_a": first[0], "answer_b": second[0]}
    else:
        shown = _numbered("question", item.turns) | _numbered("answer_a", first) | _numbered("answer_b", second)
    return _messages("pair-math-v1" if guide(item) else "pair-v2", item, turn, shown, prompts)


def _messages(
    name: str, item: EvalItem, turn: int, shown: Mapping[str, str], prompts: Mapping[str, str]
) -> tuple[Message, ...]:
    if turn > 1 or before(item):
        raise UserError(
            f"FastChat's judge prompts know one question and its follow-up, but {item.id} has a longer conversation: "
            "judge it with a prompt pack instead (leave `prompts` out)"
        )
    name = _PREFIX + name + ("-multi-turn" if turn else "")
    if name not in prompts:
        raise UserError(
            f"the judge prompts have none named {name.removeprefix(_PREFIX)!r}: this is not FastChat's whole "
            "judge_prompts.jsonl"
        )
    try:
        user = prompts[name].format_map({**shown, **_numbered("ref_answer", guide(item))})
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"the judge prompt {name!r} has a placeholder that is not known: {error}") from error
    system = prompts.get(f"{name}.system", "")
    turns = [Message(role="system", content=system)] if system else []
    return (*turns, Message(role="user", content=user))


def _numbered(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, start=1)}


@lru_cache(maxsize=8)
def _entries(file: DataFile, digest: str, option: str) -> Mapping[str, str]:
    """The prompts by name; `digest` makes a changed file a new one."""
    entries: dict[str, str] = {}
    for row in named.rows(file, option):
        if not isinstance(row.get("name"), str) or not isinstance(row.get("prompt_template"), str):
            raise UserError(
                f"{named.place(file)} (option `{option}`) is not in the form of FastChat's judge_prompts.jsonl: each "
                "row needs `name` and `prompt_template`"
            )
        entries[_PREFIX + row["name"]] = row["prompt_template"]
        entries[f"{_PREFIX}{row['name']}.system"] = str(row.get("system_prompt") or "")
    return entries
