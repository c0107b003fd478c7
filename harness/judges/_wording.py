"""What a judge model is shown: FastChat's prompts where they are offered, else the entries of the prompt pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.blocks.kinds import EvalItem
from harness.errors import UserError
from harness.judges import _fastchat
from harness.judges._tasks import before, guide, scheme
from harness.records.example import Message

Messages = tuple[Message, ...]


def single(
    item: EvalItem, outputs: Sequence[str], turn: int, prompts: Mapping[str, str]
) -> tuple[Messages, str | None]:
    """The question about one turn of an answer, and the pattern that reads the grade (None: `[[n]]`)."""
    own = scheme(item)
    if own is None and _fastchat.offered(prompts):
        return _fastchat.single(item, outputs, turn, prompts), None
    right = guide(item)
    reference = right[turn] if turn < len(right) else ""
    entry = "judge_single" if own is None else "judge_rubric"
    entry += "_reference" if reference else ""
    if own is None and entry not in prompts and "rate" in prompts:
        entry = "rate"
    shown = {
        "question": item.turns[turn],
        "answer": outputs[turn],
        "reference": reference,
        "conversation": _conversation(item, outputs, turn),
        "rubric": "" if own is None else own.text,
        "best": "" if own is None else str(own.best),
    }
    return _filled(entry, shown, prompts), prompts.get(f"{entry}.parse")


def pair(
    item: EvalItem, first: Sequence[str], second: Sequence[str], turn: int, prompts: Mapping[str, str]
) -> Messages:
    """The question which of two answers is better on one turn; `first` is shown first."""
    if _fastchat.offered(prompts):
        return _fastchat.pair(item, first, second, turn, prompts)
    right = guide(item)
    reference = right[turn] if turn < len(right) else ""
    entry = "judge_pair_conversation" if turn or before(item) else "judge_pair"
    entry += "_reference" if reference else ""
    shown = {
        "question": item.turns[turn],
        "answer_a": first[turn],
        "answer_b": second[turn],
        "reference": reference,
        "conversation_a": _conversation(item, first, turn),
        "conversation_b": _conversation(item, second, turn),
    }
    return _filled(entry, shown, prompts)


def _filled(entry: str, shown: Mapping[str, str], prompts: Mapping[str, str]) -> Messages:
    template = prompts.get(entry, "")
    if not template:
        raise UserError(
            f"the judge's prompt pack has no entry {entry!r}, which the rubric judge asks with: use the pack "
            "`general` for the judge (`prompts: general`), or add the entry"
        )
    try:
        user = Message(role="user", content=template.format_map(shown))
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"the judge prompt {entry!r} has a placeholder that is not known: {error}") from error
    system = prompts.get("judge_system", "")
    return (Message(role="system", content=system), user) if system else (user,)


def _conversation(item: EvalItem, outputs: Sequence[str], turn: int) -> str:
    said = [(message["role"].capitalize(), message["content"]) for message in before(item)]
    for number in range(turn + 1):
        said += [("User", item.turns[number]), ("Assistant", outputs[number])]
    return "\n\n".join(f"{who}: {text}" for who, text in said)
