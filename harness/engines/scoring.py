"""Log-probabilities and embeddings of given ids, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from harness.engines.base import LogprobRequest, Logprobs
from harness.engines.batch import padded
from harness.engines.lengths import check_scored
from harness.engines.limits import Limits, Room, out_of_memory
from harness.errors import Transient

if TYPE_CHECKING:
    from harness.engines.forward import Forward

Result = TypeVar("Result")


def logprobs(forward: Forward, room: Room, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
    """One result per request, longest first. Right padding needs no mask: no real token sees what stands behind it.

    The last id of a request is scored but not read, so it may stand one place beyond the context; and requests that
    differ in their last id only (the letters of a multiple choice) are read once.

    Raises:
        Unservable: a request without tokens, longer than the context, or scored from beyond its end.
        Transient: one request alone does not fit into memory.
    """
    starts = {r.id: r.start for r in requests}
    check_scored({r.id: r.ids for r in requests}, starts, forward.context, forward.size, unread=1)
    alike: dict[tuple[int, ...], list[LogprobRequest]] = {}
    for request in requests:
        alike.setdefault(request.ids[:-1] or request.ids, []).append(request)
    inputs = list(alike)

    def score(rows: Sequence[int], limits: Limits) -> list[Logprobs]:
        read = [inputs[row] for row in rows]
        return _scored(forward, read, [alike[ids] for ids in read], limits)

    for results in batched([len(ids) for ids in inputs], room, forward.device, score):
        yield from results


def embed(forward: Forward, room: Room, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Mean of the last hidden states over all tokens of each sequence: float32, shape (len(ids), hidden).

    Raises:
        Unservable: a sequence without tokens or longer than the context.
        Transient: one sequence alone does not fit into memory.
    """
    names = {str(number): sequence for number, sequence in enumerate(ids)}
    check_scored(names, {}, forward.context, forward.size)
    width = forward.model.config.get_text_config().hidden_size
    found = np.zeros((len(ids), width), dtype=np.float32)

    def mean(rows: Sequence[int], limits: Limits) -> list[tuple[int, np.ndarray]]:
        return list(zip(rows, _means(forward, [ids[row] for row in rows]), strict=True))

    for results in batched([len(sequence) for sequence in ids], room, forward.device, mean):
        for row, vector in results:
            found[row] = vector
    return found


def batched(
    lengths: Sequence[int], room: Room, device: object, work: Callable[[Sequence[int], Limits], list[Result]]
) -> Iterator[list[Result]]:
    """Runs `work` on row numbers, longest first, with as many at once as the token budget takes (`Limits.batch`).

    Raises:
        Transient: one row alone does not fit into memory.
    """
    waiting = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    ordered = [lengths[row] for row in waiting]
    done = 0
    while done < len(waiting):
        limits = room.limits
        count = limits.batch(ordered[done : done + limits.tokens])
        rows = waiting[done : done + count]
        try:
            results = work(rows, limits)
        except (RuntimeError, MemoryError) as error:
            less = _less(error, count, ordered[done], limits, device)
        else:
            yield results
            done += count
            continue
        room.shrink(*less)  # out of `except`, whose traceback holds tensors too


def _less(error: Exception, count: int, longest: int, limits: Limits, device: object) -> tuple[Limits, str]:
    """Smaller limits after memory ran out with `count` rows of up to `longest` tokens, and what to say."""
    if not out_of_memory(error):
        raise error
    if count == 1:
        raise Transient(f"{longest} tokens alone do not fit into the memory of {device}: {error}") from error
    less = replace(limits, tokens=count // 2 * longest)
    what = f"out of memory on {device} reading {count} rows of up to {longest} tokens at once"
    return less, f"{what}; going on with {count // 2}"


def _scored(
    forward: Forward, read: Sequence[tuple[int, ...]], alike: Sequence[Sequence[LogprobRequest]], limits: Limits
) -> list[Logprobs]:
    """Vocabulary logits exist only at scored positions, and only for `limits.cells` of them at a time.

    `alike` are, per row of ids that is read, the requests that it serves.
    """
    import torch

    requests = [request for group in alike for request in group]
    row_of = np.repeat(np.arange(len(read)), [len(group) for group in alike])
    spans = [range(max(1, request.start), len(request.ids)) for request in requests]
    rows = np.repeat(row_of, [len(span) for span in spans])
    at = np.concatenate([np.arange(span.start - 1, max(span.start, span.stop) - 1) for span in spans])
    targets = np.concatenate([_ids(request, span) for request, span in zip(requests, spans, strict=True)])
    if len(targets) == 0:
        empty = np.zeros(0, dtype=np.float32)
        return [Logprobs(request_id=r.id, values=empty, greedy=empty.astype(bool)) for r in requests]
    with torch.inference_mode():
        values, greedy = _gathered(forward, read, rows, at, targets, limits)
    ends = np.cumsum([len(span) for span in spans])[:-1]
    parts = zip(requests, np.split(values, ends), np.split(greedy, ends), strict=True)
    return [Logprobs(request_id=r.id, values=v, greedy=g) for r, v, g in parts]


def _ids(request: LogprobRequest, span: range) -> np.ndarray:
    return np.asarray(request.ids[span.start : span.stop], dtype=np.int64)


def _gathered(
    forward: Forward,
    ids: Sequence[Sequence[int]],
    rows: np.ndarray,
    at: np.ndarray,
    targets: np.ndarray,
    limits: Limits,
) -> tuple[np.ndarray, np.ndarray]:
    import torch

    before = forward.beginning(ids, limits.spared, min(int(at.min()), min(map(len, ids)) - 1))
    begun = 0 if before is None else before.tokens
    batch, _ = padded([row[begun:] for row in ids], forward.device)
    where, position, target = (torch.from_numpy(x).to(forward.device) for x in (rows, at - begun, targets))
    size = max(1, limits.cells // forward.size)
    values, greedy = [], []
    for logits, chosen in forward.logits_in_parts(batch, where, position, target, size, before):
        greedy.append(logits.argmax(-1) == chosen)
        # One pass that reads the model's own format and adds up in float32.
        values.append(logits.log_softmax(-1, dtype=torch.float32).gather(1, chosen[:, None]).squeeze(1))
    return torch.cat(values).cpu().numpy(), torch.cat(greedy).cpu().numpy()


def _means(forward: Forward, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        batch, lengths = padded(ids, forward.device)
        hidden = forward.hidden(batch).float()
        real = torch.arange(batch.shape[1], device=forward.device) < lengths[:, None]
        means = (hidden * real[:, :, None]).sum(1) / lengths[:, None]
        return np.asarray(means.cpu().numpy(), dtype=np.float32)
