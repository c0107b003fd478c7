"""Tokens with the characters that each covers."""

from __future__ import annotations

from typing import Any

Piece = tuple[int, int, int]
"""A token id with the span of characters that it covers."""


def pieces(tokenizer: Any, text: str, bos: int | None, adds_bos: bool) -> list[Piece]:
    """The tokens of a text; a BOS that the tokenizer would add is added once, doubled ones become one."""
    if (backend := _backend(tokenizer)) is not None:
        encoded = backend.encode(text, add_special_tokens=False)
        found = [(token, start, end) for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)]
    elif tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = encoded["offset_mapping"]
        found = [(token, start, end) for token, (start, end) in zip(encoded["input_ids"], spans, strict=True)]
    else:
        found = _grown(tokenizer, text)
    if bos is None:
        return found
    if leading := _leading([piece[0] for piece in found], bos):
        return found[leading - 1 :]
    return [(bos, 0, 0), *found] if adds_bos else found


def rendered_ids(tokenizer: Any, text: str, bos: int | None, adds_bos: bool) -> tuple[int, ...]:
    """The ids of `pieces`, without the time that the characters take."""
    backend = _backend(tokenizer)
    if backend is None:
        return tuple(piece[0] for piece in pieces(tokenizer, text, bos, adds_bos))
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    if bos is None:
        return tuple(ids)
    if leading := _leading(ids, bos):
        return tuple(ids[leading - 1 :])
    return (bos, *ids) if adds_bos else tuple(ids)


def _leading(ids: list[int], bos: int) -> int:
    """How many BOS the ids begin with."""
    return next((at for at, token in enumerate(ids) if token != bos), len(ids))


def ids_of(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    """Ids of a text; with `special`, what the tokenizer adds around it too."""
    backend = _backend(tokenizer)
    if backend is None:
        return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])
    return tuple(backend.encode(text, add_special_tokens=special).ids)


def _backend(tokenizer: Any) -> Any | None:
    """The Rust tokenizer itself, None where it would give other ids.

    What transformers does around each call takes most of the time of a short text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None) if tokenizer.is_fast else None
    if backend is None or backend.truncation is not None or backend.padding is not None:
        return None
    return None if getattr(tokenizer, "split_special_tokens", False) else backend


def _grown(tokenizer: Any, text: str) -> list[Piece]:
    """Spans for a tokenizer that gives none: the growth of the decoded text, token by token."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ends = [len(tokenizer.decode(ids[: count + 1], skip_special_tokens=False)) for count in range(len(ids))]
    return [(token, start, end) for token, start, end in zip(ids, [0, *ends[:-1]], ends, strict=True)]
