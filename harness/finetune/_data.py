"""Examples to token ids, what is trained in them, and what could not be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.errors import StageFailed
from harness.finetune._mask import mask_problem
from harness.records.cut import CUT_ANSWER, CUT_REJECTED, is_cut
from harness.records.example import Example, LossOn
from harness.records.turns import answer_ids, common

if TYPE_CHECKING:
    import numpy as np

    from harness.records.chat import ChatFormat

NO_ANSWER = "no answer"
NO_ROOM = "no answer token within max_length"
NO_REJECTED = "no rejected answer"
NO_WEIGHT = "weight 0"
CUT_BEFORE = "cut before, without an end token"
SHOWN = 8


@dataclass(frozen=True)
class Row:
    """One training row. `ids`: int32, shape (length,). `train`: bool, same shape, where the loss counts.

    The first token has no predecessor, so `train[0]` is never set.
    """

    id: str
    ids: np.ndarray
    train: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse completion; ids as int32 vectors."""

    id: str
    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray


T = TypeVar("T", Row, Pair)


@dataclass
class Encoded(Generic[T]):
    """The rows that train, and counts of the others by reason."""

    rows: list[T] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def digest(self) -> str:
        """Hash of everything that enters training, in order."""
        digest = hashlib.sha256()
        for row in self.rows:
            for part in vars(row).values():
                digest.update(part.encode() if isinstance(part, str) else _bytes(part))
                digest.update(b"\0")
        return digest.hexdigest()


def encode_rows(examples: Iterable[Example], chat: ChatFormat, max_length: int, loss_on: LossOn | None) -> Encoded[Row]:
    """Rows for SFT. `loss_on` overrides the rows' own. An answer that a length cap cut trains without its end token.

    Raises:
        StageFailed: nothing is left to train on, or the template's mask trains words of another role.
    """
    encoded: Encoded[Row] = Encoded()
    bad: dict[str, list[str]] = {}
    for example in examples:
        on = loss_on or example.loss_on
        if example.weight <= 0 or (on == "assistant" and not any(m["role"] == "assistant" for m in example.messages)):
            encoded.dropped[NO_WEIGHT if example.weight <= 0 else NO_ANSWER] += 1
            continue
        ids, mask = chat.mask(example.messages) if on == "assistant" else _all(chat, example)
        problem = mask_problem(example, ids, mask, chat) if on == "assistant" else None
        if problem is not None:
            bad.setdefault(problem, []).append(example.id)
            continue
        if is_cut(example) and on == "assistant":
            mask = _without_end(ids, mask, chat)
            encoded.counts[CUT_BEFORE] += 1
        _add(encoded, example, ids, mask, max_length)
    _refuse_masks(bad, chat)
    return _not_empty(encoded)


def encode_pairs(
    examples: Iterable[Example], chat: ChatFormat, max_length: int, max_answer: int | None = None
) -> Encoded[Pair]:
    """Pairs for preference training: the prompt up to the assistant's turn, and both turns with their end tokens.

    A side that was cut by a length cap, when it was written or here by `max_answer`, has no end token.

    Raises:
        StageFailed: nothing is left, or a row has a weight.
    """
    encoded: Encoded[Pair] = Encoded()
    for example in examples:
        if example.weight != 1.0:
            raise StageFailed(
                f"row {example.id} has the weight {example.weight}: dpo trains all pairs alike; drop weights"
            )
        if example.answer is None or example.rejected is None:
            encoded.dropped[NO_ANSWER if example.answer is None else NO_REJECTED] += 1
            continue
        _add_pair(encoded, example, example.rejected, chat, max_length, max_answer)
    return _not_empty(encoded)


def named(ids: Sequence[str]) -> str:
    """Row ids for a message: the first few, and how many more."""
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def _all(chat: ChatFormat, example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ids = chat.render(example.messages)
    return ids, (1,) * len(ids)


def _add(encoded: Encoded[Row], example: Example, ids: Sequence[int], mask: Sequence[int], max_length: int) -> None:
    import numpy as np

    kept = np.asarray(ids[:max_length], dtype=np.int32)
    train = np.asarray(mask[:max_length], dtype=np.bool_)
    train[:1] = False
    if not train.any():
        encoded.dropped[NO_ROOM] += 1
        return
    if any(mask[max_length:]):
        encoded.counts["truncated"] += 1
    end = int(np.flatnonzero(train)[-1]) + 1  # what follows the last trained token can influence nothing
    encoded.rows.append(Row(example.id, kept[:end], train[:end], example.weight))


def _add_pair(
    encoded: Encoded[Pair], example: Example, rejected: str, chat: ChatFormat, max_length: int, max_answer: int | None
) -> None:
    import numpy as np

    cut = (is_cut(example, CUT_ANSWER), is_cut(example, CUT_REJECTED))
    sides = [
        answer_ids(chat, example.prompt, answer or "", open_end)
        for answer, open_end in zip((example.answer, rejected), cut, strict=True)
    ]
    asked = chat.render(example.prompt, add_generation_prompt=True)
    start = min(common(asked, side) for side in sides)
    max_length = min(max_length, start + max_answer) if max_answer is not None else max_length
    if start >= max_length or any(len(side) <= start for side in sides):
        encoded.dropped[NO_ROOM if start >= max_length else NO_ANSWER] += 1
        return
    encoded.counts["truncated"] += any(len(side) > max_length for side in sides)
    encoded.counts[CUT_BEFORE] += any(cut)
    encoded.counts["identical pairs"] += sides[0] == sides[1]
    encoded.counts["answer joins the prompt's last token"] += start < len(asked)
    parts = (asked[:start], *(side[start:max_length] for side in sides))
    encoded.rows.append(Pair(example.id, *(np.asarray(part, dtype=np.int32) for part in parts)))


def _without_end(ids: Sequence[int], mask: Sequence[int], chat: ChatFormat) -> tuple[int, ...]:
    """The mask without the end token of the last trained turn."""
    kept = list(mask)
    last = max((at for at, flag in enumerate(kept) if flag), default=-1)
    while last >= 0 and kept[last] and ids[last] in chat.stop_ids:
        kept[last] = 0
        last -= 1
    return tuple(kept)


def _refuse_masks(bad: dict[str, list[str]], chat: ChatFormat) -> None:
    if bad:
        problem, rows = max(bad.items(), key=lambda item: len(item[1]))
        raise StageFailed(
            f"the chat template of {chat.name} {problem}, in {len(rows):,} rows: {named(rows)}. Nothing was trained. "
            f"Mark the assistant's part in the template with {{% generation %}} … {{% endgeneration %}}, or set "
            f"`loss_on: all`."
        )


def _not_empty(encoded: Encoded[T]) -> Encoded[T]:
    if not encoded.rows:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in encoded.dropped.items())
        raise StageFailed(
            f"no row is left to train on ({reasons or 'the steps before gave none'}): loosen the selection, or raise "
            f"max_length where answers did not fit."
        )
    return encoded


def _bytes(part: object) -> bytes:
    import numpy as np

    return np.ascontiguousarray(part).tobytes()
