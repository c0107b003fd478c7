"""Recorded verdicts instead of new ones: alpaca-eval's annotations, or FastChat's single-answer judgements."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.errors import UserError
from harness.judges._tasks import order_of, source_id
from harness.judges.verdicts import rating
from harness.records import datafile
from harness.records.values import FilePath

_MARKERS = (
    ("[The Start of Assistant's Answer]", "[The End of Assistant's Answer]"),
    ("<|The Start of Assistant A's Conversation with User|>", "<|The End of Assistant A's Conversation with User|>"),
)
"""Around the answer of a first turn, and around the conversation up to a later one."""


class Replay(Judge):
    """Looks the verdict up in a file and checks that it was about this very answer.

    `annotations.json` of alpaca-eval is found by instruction and output; a FastChat judgement file by question id, turn
    and the answers between the markers of the recorded prompt, which must be the same to the letter. The grade of a
    FastChat row is read anew from the judge's text.
    """

    name: ClassVar[str] = "replay"
    label: ClassVar[str] = "REPLAY of recorded verdicts"

    path: FilePath = runtime(description="annotations.json of alpaca-eval or FastChat's judgement JSONL; gzip too.")
    sha256: str | None = runtime(None, description="Expected SHA-256 of the file's unpacked content.")

    any_reference: bool = identity(
        False,
        description="Accept preferences recorded against another reference text (as AlpacaEval 1's published ones).",
    )

    def identity_options(self) -> dict[str, Any]:
        """The file counts by its content, wherever it lies."""
        return super().identity_options() | {"sha256": datafile.checksum(self.path, self.sha256, "path")}

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """The recorded verdict, or one marked as not parsed with the reason why it is missing."""
        yield from ()
        table = _table(self.path, datafile.checksum(self.path, self.sha256, "path"))
        if order_of(item) is not None:
            return _preference(table.get((item.turns[0], answer.outputs[turn])), item, self.any_reference)
        return _score(table.get((source_id(item), turn)), item, answer, turn)


def _preference(row: Mapping[str, Any] | None, item: EvalItem, any_reference: bool) -> Verdict:
    if row is None:
        return _missing("no recorded verdict about this answer")
    if row["output_1"] != item.reference[0] and not any_reference:
        return _missing("the recorded verdict is against another reference")
    completion = row.get("raw_completion") or {}
    raw, tokens = (
        (completion.get("text") or "", completion.get("total_tokens") or 0)
        if isinstance(completion, dict)
        else (str(completion), 0)
    )
    value = row.get("preference")
    if value is None:
        return _missing("the recorded verdict has no preference", raw)
    preference = 1.5 if value == 0 else float(value)  # AlpacaEval 1 wrote a draw as 0
    if not 1 <= preference <= 2:
        return _missing(f"the recorded preference {value} is not between 1 and 2", raw)
    return Verdict(score=None, preference=preference, raw=raw, tokens=int(tokens))


def _score(row: Mapping[str, Any] | None, item: EvalItem, answer: Answer, turn: int) -> Verdict:
    if row is None:
        return _missing("no recorded verdict about this answer")
    raw = str(row.get("judgment", ""))
    if _judged(str(row.get("user_prompt", "")), turn) != _conversation(item, answer, turn):
        return _missing("the recorded verdict is about another answer", raw)
    score = rating(raw)
    return Verdict(score=score, raw=raw, parsed=score is not None)


def _judged(prompt: str, turn: int) -> str | None:
    """What a FastChat prompt showed between its markers: the answer of the first turn, or the conversation so far."""
    start, end = _MARKERS[min(turn, 1)]
    _, found, rest = prompt.partition(start)
    inside, closed, _ = rest.rpartition(end)
    return inside.strip() if found and closed else None


def _conversation(item: EvalItem, answer: Answer, turn: int) -> str:
    """What FastChat would show of an answer between those markers (`llm_judge/data/judge_prompts.jsonl`)."""
    if turn == 0:
        return answer.outputs[0].strip()
    turns = zip(item.turns[: turn + 1], answer.outputs, strict=False)
    return "\n\n".join(f"### User:\n{asked}\n\n### Assistant A:\n{said}" for asked, said in turns).strip()


def _missing(reason: str, raw: str = "") -> Verdict:
    return Verdict(score=None, reason=reason, raw=raw, parsed=False)


@lru_cache(maxsize=8)
def _table(path: str, checksum: str) -> dict[tuple[Any, Any], dict[str, Any]]:
    """Rows by (instruction, output) or by (question id, 0-based turn); `checksum` makes a changed file a new one."""
    rows = datafile.rows(path, "path")
    if rows and {"instruction", "output_1", "output_2"} <= rows[0].keys():
        return {(row["instruction"], row["output_2"]): row for row in rows}
    if rows and {"question_id", "turn", "judgment"} <= rows[0].keys():
        return {(row["question_id"], row["turn"] - 1): row for row in rows}
    raise UserError(
        f"{path} holds no recorded verdicts: alpaca-eval's annotations have instruction, output_1, output_2 and "
        "preference; FastChat's judgements have question_id, turn and judgment"
    )
