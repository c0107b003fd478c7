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
    while len(found) > 1 and found[0][0] == found[1][0] == bos:
        del found[0]
    if adds_bos and (not found or found[0][0] != bos):
        found.insert(0, (bos, 0, 0))
    return found


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
