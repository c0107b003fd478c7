"""Recorded verdicts instead of new ones: alpaca-eval's annotations, FastChat's or Arena-Hard's judgements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Context, EvalItem, Judge, Reply, Request, Verdict
from harness.errors import UserError
from harness.judges import _games
from harness.judges._tasks import Order, opponent, order_of, random_order, shown, source_id
from harness.judges.verdicts import choice, preference, rating
from harness.records import datafile
from harness.records.values import FilePath

_MARKERS = (
    ("[The Start of Assistant's Answer]", "[The End of Assistant's Answer]"),
    ("<|The Start of Assistant A's Conversation with User|>", "<|The End of Assistant A's Conversation with User|>"),
)
"""Around the answer of a first turn, and around the conversation up to a later one."""
_PAIR_MARKERS = (
    ("[The Start of Assistant {}'s Answer]", "[The End of Assistant {}'s Answer]"),
    ("<|The Start of Assistant {}'s Conversation with User|>", "<|The End of Assistant {}'s Conversation with User|>"),
)
"""The same in a question about two answers, which ends with both of them."""
_GAMES = ("g1", "g2")
"""A FastChat pair was judged in both orders: the first game shows `model_1` first."""
OTHER_REFERENCE = "the recorded verdict is against another reference"
Row = Mapping[str, Any]


class Replay(Judge):
    """Looks the verdict up in a file and checks that it was about this very answer.

    `annotations.json` of alpaca-eval is found by instruction and output; FastChat's judgement files, single or
    pairwise, and Arena-Hard's by question id, turn and the answers between the markers of the recorded prompt, which
    must be the same to the letter: so a file may hold several models, and either may be the answer of a pair. What
    those judges said is read anew from their text; one that names two winners is missing.
    """

    name: ClassVar[str] = "replay"
    label: ClassVar[str] = "REPLAY of recorded verdicts"

    path: FilePath = runtime(
        description="alpaca-eval's annotations.json, FastChat's or Arena-Hard's judgement JSONL; gzip too."
    )
    sha256: str | None = runtime(None, description="Expected SHA-256 of the file's unpacked content.")

    any_reference: bool = identity(
        False,
        description="Accept preferences recorded against another reference text (as AlpacaEval 1's published ones).",
    )

    def identity_options(self) -> dict[str, Any]:
        """The file counts by its content, wherever it lies."""
        return super().identity_options() | {"sha256": datafile.checksum(self.path, self.sha256, "path")}

    def orders(self, item: EvalItem, wanted: tuple[Order, ...]) -> tuple[Order, ...]:
        """The orders in which a pair can be looked up, of those that a suite wants.

        An annotation of alpaca-eval is one verdict in that package's order: read as two, it would agree with itself.
        """
        table = _table(self.path, datafile.checksum(self.path, self.sha256, "path"))
        annotations = isinstance(next(iter(table))[1], str)
        return (random_order(item.turns[0]),) if annotations else wanted

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """The recorded verdict, or one marked as not parsed with the reason why it is missing."""
        yield from ()
        table = _table(self.path, datafile.checksum(self.path, self.sha256, "path"))
        order = order_of(item)
        if order is None:
            return _score(table.get((source_id(item), turn), ()), item, answer, turn)
        games = table.get((source_id(item), turn), ())
        if any(row.keys() >= _games.KEYS for row in games):
            return _games.recorded(games, item, answer, turn, order)
        if any("g1_judgment" in row for row in games):
            return _winner(games, item, answer, turn, order)
        return _preference(table.get((item.turns[0], answer.outputs[turn]), ()), item, self.any_reference)


def _preference(rows: Sequence[Row], item: EvalItem, any_reference: bool) -> Verdict:
    if not rows:
        return _missing("no recorded verdict about this answer")
    same = [row for row in rows if row["output_1"] == opponent(item)[0]]
    if not same and not any_reference:
        return _missing(OTHER_REFERENCE)
    row = (same or rows)[-1]
    completion = row.get("raw_completion") or {}
    raw, tokens = (
        (completion.get("text") or "", completion.get("total_tokens") or 0)
        if isinstance(completion, dict)
        else (str(completion), 0)
    )
    value = row.get("preference")
    if value is None:
        return _missing("the recorded verdict has no preference", raw)
    found = 1.5 if value == 0 else float(value)  # AlpacaEval 1 wrote a draw as 0
    if not 1 <= found <= 2:
        return _missing(f"the recorded preference {value} is not between 1 and 2", raw)
    return Verdict(score=None, preference=found, raw=raw, tokens=int(tokens))


def _score(rows: Sequence[Row], item: EvalItem, answer: Answer, turn: int) -> Verdict:
    if not rows:
        return _missing("no recorded verdict about this answer")
    wanted = _conversation(item, answer.outputs, turn)
    same = [row for row in rows if _judged(str(row.get("user_prompt", "")), turn) == wanted]
    if not same:
        return _missing("the recorded verdict is about another answer", str(rows[-1].get("judgment", "")))
    raw = str(same[-1].get("judgment", ""))
    score = rating(raw, bare=True)
    return Verdict(score=score, raw=raw, parsed=score is not None)


def _winner(rows: Sequence[Row], item: EvalItem, answer: Answer, turn: int, order: Order) -> Verdict:
    """The verdict of the game in which these two answers were shown in this order."""
    wanted = _pair_shown(item, *shown(order, answer.outputs, opponent(item)), turn)
    for row in reversed(rows):
        for game in _GAMES:
            if _games.squeezed(str(row.get(f"{game}_user_prompt", ""))).endswith(wanted):
                raw = str(row.get(f"{game}_judgment", ""))
                letter = choice(raw)
                value = None if letter is None else preference({"A": 1.0, "B": 2.0, "C": 1.5}[letter], order)
                return Verdict(score=None, preference=value, raw=raw, parsed=value is not None)
    return _missing("the recorded verdict is about other answers")


def _pair_shown(item: EvalItem, first: Sequence[str], second: Sequence[str], turn: int) -> str:
    """The end of the prompt that FastChat makes of two answers, without regard to white space."""
    start, end = _PAIR_MARKERS[min(turn, 1)]
    parts = []
    for letter, outputs in (("A", first), ("B", second)):
        inside = outputs[0] if turn == 0 else _conversation(item, outputs, turn, letter)
        parts += [start.format(letter), inside, end.format(letter)]
    return _games.squeezed("\n".join(parts))


def _judged(prompt: str, turn: int) -> str | None:
    """What a FastChat prompt showed between its markers: the answer of the first turn, or the conversation so far."""
    start, end = _MARKERS[min(turn, 1)]
    _, found, rest = prompt.partition(start)
    inside, closed, _ = rest.rpartition(end)
    return inside.strip() if found and closed else None


def _conversation(item: EvalItem, outputs: Sequence[str], turn: int, letter: str = "A") -> str:
    """What FastChat would show of an answer between those markers (`llm_judge/data/judge_prompts.jsonl`)."""
    if turn == 0:
        return outputs[0].strip()
    turns = zip(item.turns[: turn + 1], outputs, strict=False)
    return "\n\n".join(f"### User:\n{asked}\n\n### Assistant {letter}:\n{said}" for asked, said in turns).strip()


def _missing(reason: str, raw: str = "") -> Verdict:
    return Verdict(score=None, reason=reason, raw=raw, parsed=False)


@lru_cache(maxsize=8)
def _table(path: str, checksum: str) -> Mapping[tuple[Any, Any], list[Row]]:
    """Rows by (instruction, output) or by (question id, 0-based turn); `checksum` makes a changed file a new one."""
    rows = datafile.rows(path, "path")
    found: dict[tuple[Any, Any], list[Row]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        found[_key(row, path, number)].append(row)
    if not found:
        raise UserError(f"{path} is empty: it holds no recorded verdicts")
    return dict(found)


def _key(row: Row, path: str, number: int) -> tuple[Any, Any]:
    if not isinstance(row.get("question_id", ""), str | int):
        raise UserError(f"{path}, row {number}: `question_id` should be a number or a text, not {row['question_id']!r}")
    if {"instruction", "output_1", "output_2"} <= row.keys():
        _check_annotation(row, path, number)
        return row["instruction"], row["output_2"]
    if {"question_id", "turn"} <= row.keys() and ("judgment" in row or {"g1_judgment", "g2_judgment"} <= row.keys()):
        if not isinstance(row["turn"], int):
            raise UserError(f"{path}, row {number}: `turn` should be 1 or 2, not {row['turn']!r}")
        return row["question_id"], row["turn"] - 1
    if row.keys() >= _games.KEYS:
        return row["question_id"], 0
    raise UserError(
        f"{path} holds no recorded verdicts (row {number}): alpaca-eval's annotations have instruction, output_1, "
        "output_2 and preference; FastChat's judgements have question_id, turn and judgment, or g1_judgment and "
        "g2_judgment for pairs; Arena-Hard's have question_id and games"
    )


def _check_annotation(row: Row, path: str, number: int) -> None:
    texts = [name for name in ("instruction", "output_1", "output_2") if not isinstance(row[name], str)]
    value = row.get("preference")
    if texts or isinstance(value, bool) or not isinstance(value, int | float | None):
        name, what = (texts[0], "a text") if texts else ("preference", "a number from 1 to 2, or null")
        raise UserError(f"{path}, row {number}: `{name}` should be {what}, not {row[name]!r}")
