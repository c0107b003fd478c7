"""What becomes of one answer in the block `rewrite`: replies read, one picked, or the reason why the old one stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.blocks.kinds import Completion
from harness.records.example import Candidate, Example, Message, Origin
from harness.records.tasks import Task
from harness.synthesize._wording import EMPTY, read

CUT, COPIED, FINE, REFUSED = "cut by the length cap", "copied", "nothing to mend", "refused"
UNTOUCHED, UNKNOWN, NO_TASK = "task is left alone", "unknown task", "no task"
OUTSIDE, SELF_COPY, NO_ANSWER, TOO_LONG = "outside the share", "self-copy", "no answer", "too long for the rewriter"
CHANGED = 0.2
"""Share of words from which on an answer counts as rewritten (2402.12219 §4.5.1)."""


@dataclass(frozen=True)
class Said:
    """What became of a row's answer: the new text with all candidates, or why the old one stays."""

    text: str | None = None
    why: str | None = None
    candidates: tuple[Candidate, ...] = ()
    replies: tuple[str, ...] = ()


def unchanged(row: Example, said: Said) -> Example:
    """The row with its old answer, and why."""
    fields = dict(row.fields) | ({"replies": list(said.replies)} if said.replies else {})
    tags = {**row.tags, "rewritten": "no", "rewritten.why": said.why}
    return replace(row, fields=fields, tags=tags, scores={**row.scores, "edit_rate": 0.0})


def rewritten(row: Example, place: int, said: Said, name: str, origin: Origin) -> Example:
    """The row with the new answer at `place` among its messages."""
    before, text = row.messages[place]["content"], said.text or ""
    old = "parent_answer" if place == len(row.messages) - 1 else "parent_first_answer"
    return replace(
        row,
        id=name,
        messages=(*row.messages[:place], Message(role="assistant", content=text), *row.messages[place + 1 :]),
        group=row.group or row.id,
        rejected=None,
        candidates=said.candidates,
        fields={**row.fields, "replies": list(said.replies), old: before},
        tags={**row.tags, "rewritten": "yes", "rewritten.why": None},
        scores={**row.scores, "edit_rate": edit_rate(before, text)},
        origin=origin,
    )


def outcomes(made: Example, task: Task | None) -> Iterator[str]:
    """What is counted of a row: its outcome, its outcome within its task, and whether it changed by enough."""
    why = made.tags["rewritten.why"]
    yield "rewritten" if why is None else f"kept: {why}"
    if task is not None:
        yield f"{task.name}: {'rewritten' if why is None else 'kept'}"
    if (made.scores["edit_rate"] or 0.0) > CHANGED:
        yield f"more than {CHANGED:.0%} of the words changed"


def edit_rate(before: str, after: str) -> float:
    """Words to insert, delete or replace, as a share of the longer text's words (2402.12219 §4.5.1)."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_distance(before.split(), after.split()))


def place_of(row: Example, turn: str) -> int | None:
    """Where the answer to rewrite stands among the messages."""
    places = [index for index, message in enumerate(row.messages) if message["role"] == "assistant"]
    return None if not places else places[0 if turn == "first" else -1]


def refused(error: Exception) -> Said:
    """A question that was not answered; what was said instead stands among the replies."""
    return Said(why=TOO_LONG if "exceeds the context" in str(error) else REFUSED, replies=(str(error),))


def readable(completions: Sequence[Completion], pattern: str | None, length: Callable[[str], int]) -> Said:
    """The replies that give a text; where none does, why the first does not."""
    found, problems = [], []
    for completion in completions:
        reading = read(completion.text, pattern)
        if completion.finish == "length":
            problems.append(CUT)
        elif reading.problem is not None:
            problems.append(reading.problem)
        else:
            found.append(Candidate(text=reading.text, score=float(length(reading.text))))
    replies = tuple(completion.text for completion in completions)
    return Said(candidates=tuple(found), replies=replies, why=None if found else next(iter(problems), EMPTY))


def matches(prompts: Mapping[str, str], entry: str, text: str) -> bool:
    """Whether a pattern of the pack is found in a text; never where the pack has none."""
    pattern = prompts.get(entry)
    return pattern is not None and re.search(pattern, text.strip()) is not None
