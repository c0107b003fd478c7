"""Documents in chunks of so many tokens, cut where a text itself has its joints: headings, paragraphs, sentences."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.records.chat import ChatFormat


def chunks(text: str, chat: ChatFormat, tokens: int, overlap: int = 0, markdown: bool = True) -> list[str]:
    """The chunks of a text, each of at most `tokens` tokens of the model's tokenizer.

    The splitter is the library `semantic-text-splitter`; each text is tokenised by the levels that it needs, once.

    Raises:
        UserError: the model's tokenizer is not one of the `tokenizers` library.
    """
    if not text.strip():
        return []
    found: list[str] = _splitter(chat, tokens, overlap, markdown).chunks(text)
    return found


@lru_cache(maxsize=8)
def _splitter(chat: ChatFormat, tokens: int, overlap: int, markdown: bool) -> Any:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    backend = getattr(chat.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"the tokenizer of {chat.name} is not a fast one, so chunks cannot be counted with it")
    kind = MarkdownSplitter if markdown else TextSplitter
    return kind.from_huggingface_tokenizer(_bare(backend), tokens, overlap)


def _bare(backend: Any) -> Any:
    """The tokenizer without truncation and padding, which would make every count the same."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy
