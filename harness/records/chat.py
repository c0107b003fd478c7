"""Conversations to token ids: the one place where a chat template is rendered.

Invariants, whatever the template: at most one BOS, and exactly one where the tokenizer puts one before plain text; one
stop list; the rendering of a conversation does not depend on the day (templates that print today's date get a fixed
one). Special tokens written inside a message's text are read as special tokens, as every engine and trainer does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import timed
from harness.errors import UserError
from harness.records.example import Message
from harness.records.pieces import Piece, ids_of, pieces, rendered_ids
from harness.records.templates import settings_of, template_hash, template_of
from harness.records.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = "26 Jul 2024"
"""The date that templates show which ask for one (Llama 3.1 and later default to it)."""
_USER, _ASSISTANT, _STAND_IN = "What", "Well", "Zq7Stand7In7qZ"
_UNLIMITED = 10**18
"""Tokenizers that know no limit say so with a larger number."""
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class ChatFormat:
    """How one model's conversations become ids.

    Attributes:
        name: the folder, for messages.
        tokenizer: the Hugging Face tokenizer; use the methods here rather than it wherever they serve.
        template: the Jinja text that is rendered.
        template_hash: identity of the rendering, as `harness.records.templates.template_hash` gives it.
        bos: id of the beginning-of-sequence token, None where there is none.
        eos: id of the tokenizer's end token, None where there is none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, template_hash: str, name: str) -> None:
        self.tokenizer: Any = tokenizer
        self.template = template
        self.template_hash = template_hash
        self.name = name
        self.bos: int | None = self.tokenizer.bos_token_id
        self.eos: int | None = self.tokenizer.eos_token_id
        self._prefixes: dict[str | None, tuple[int, ...]] = {}

    @classmethod
    def from_folder(cls, folder: Path | str) -> ChatFormat:
        """Reads a model or adapter folder.

        Raises:
            UserError: no such folder, no tokenizer in it, or a template that cannot render a plain conversation.
        """
        path = Path(folder)
        chat = cls(load_tokenizer(path), template_of(path), template_hash(path), str(path))
        chat.stop_ids  # noqa: B018 a template that cannot be rendered is refused here, not rows later
        return chat

    @timed("tokenizer")
    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> tuple[int, ...]:
        """Ids of a conversation, ready for the assistant's turn with `add_generation_prompt`.

        Raises:
            UserError: the template refuses these roles or their order.
        """
        return self.literal(self._text(messages, add_generation_prompt))

    def text(self, messages: Sequence[Message], generation: bool = False, unfinished: bool = False) -> str:
        """The rendered conversation before it is encoded, ready for the assistant's turn with `generation`.

        With `unfinished`, the last turn is left open, so that the model goes on with it.

        Raises:
            UserError: the template refuses these roles or their order.
        """
        return self._text(messages, generation, unfinished)

    @timed("tokenizer")
    def pre_query(self, system: str | None = None, before: Sequence[Message] = ()) -> tuple[int, ...]:
        """Ids of everything up to where the user's text begins, with the template's own default system turn.

        The model that continues them writes a user's turn (Magpie, arXiv 2406.08464, section 2), the next one after
        the turns of `before`. They are the ids that a rendered conversation really starts with: where a tokenizer joins
        the space before a word to the word, a trailing space of the template is left for the model to write.

        Raises:
            UserError: the template refuses the turns, or what it writes before the user's text cannot be told from it.
        """
        if not before and system in self._prefixes:
            return self._prefixes[system]
        opening: list[Message] = [{"role": "system", "content": system}] if system is not None else []
        text, other = (
            self._text([*opening, *before, {"role": "user", "content": said}], False) for said in (_USER, _STAND_IN)
        )
        cut = text.rfind(_USER)
        if cut < 0 or other[:cut] != text[:cut] or not other.startswith(_STAND_IN, cut):
            raise UserError(
                f"the chat template of {self.name} leaves the user's text out or rewrites it: where it would begin "
                "cannot be told, so no user turn can be sampled from this model."
            )
        pieces = self._pieces(text)
        count = next((at for at, (_, _, end) in enumerate(pieces) if end > cut), len(pieces))
        ids = tuple(piece[0] for piece in pieces[:count])
        if not before:  # thousands of rows begin with one of a few system turns
            self._prefixes[system] = ids
        return ids

    def literal(self, text: str) -> tuple[int, ...]:
        """Ids of a text that is rendered already: special tokens in it are read as such, and one BOS at most."""
        return rendered_ids(self.tokenizer, text, self.bos, self._adds_bos)

    @timed("tokenizer")
    def mask(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of a conversation and, per id, 1 where the assistant wrote it (its end token included), else 0.

        Raises:
            UserError: the template refuses the conversation, or rewrites it so that the turns cannot be told apart.
        """
        text = self._text(messages, False)
        spans = self._marked(messages) if _MARKERS.search(self.template) else self._located(messages, text)
        spans = [(start, self._through_end_token(text, start, end)) for start, end in spans]
        pieces = self._pieces(text)
        flags = [any(start < end and first < end and last > start for first, last in spans) for _, start, end in pieces]
        return tuple(piece[0] for piece in pieces), tuple(map(int, flags))

    @timed("tokenizer")
    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        """Ids of plain text; with `special`, what the tokenizer adds around it (a BOS) too."""
        return ids_of(self.tokenizer, text, special)

    @timed("tokenizer")
    def encode_all(self, texts: Sequence[str], special: bool = False) -> list[tuple[int, ...]]:
        """As `encode` for each text, in one call of the tokenizer."""
        if not texts:
            return []
        return [
            tuple(ids) for ids in self.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end any turn: EOS, and every special token that the template writes around turns (sorted)."""
        user: list[Message] = [{"role": "user", "content": _USER}]
        written = {*self.render([*user, {"role": "assistant", "content": _ASSISTANT}]), *self.render(user, True)}
        with suppress(UserError):  # many templates have no system turn
            written |= {*self.render([{"role": "system", "content": _USER}, *user])}
        stops = written & self._special - {self.bos, self.tokenizer.unk_token_id}
        return tuple(sorted(stops | ({self.eos} if self.eos is not None else set()) | self._configured_eos))

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end a text, whatever template is in use: EOS, and what the model's generation settings call so."""
        return tuple(sorted(self._configured_eos | ({self.eos} if self.eos is not None else set())))

    @cached_property
    def context(self) -> int | None:
        """Longest sequence in tokens, as the model's configuration (else its tokenizer) states it; None: not stated."""
        settings = settings_of(Path(self.name), "config.json")
        settings = settings.get("text_config") or settings
        stated = (settings.get(name) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
        limit = next((value for value in stated if value is not None), None)
        if limit is None and (known := getattr(self.tokenizer, "model_max_length", None)) and known < _UNLIMITED:
            limit = known
        return None if limit is None else int(limit)

    @cached_property
    def user_stops(self) -> tuple[str, ...]:
        """Texts that end a user's turn where the template closes it with no special token (`[/INST]`), else empty."""
        text = self._text([{"role": "user", "content": _USER}], True)
        after = text[text.rfind(_USER) + len(_USER) :]
        if self._end_token.match(after) or not after.strip():
            return ()
        return (after.strip().split("\n")[0],)

    @cached_property
    def _special(self) -> set[int]:
        added = self.tokenizer.added_tokens_decoder
        return {index for index, token in added.items() if token.special} | set(self.tokenizer.all_special_ids)

    @cached_property
    def _end_token(self) -> re.Pattern[str]:
        tokens = self.tokenizer.convert_ids_to_tokens(list(self.stop_ids))
        return re.compile(r"[ \n]*(?:" + "|".join(map(re.escape, tokens)) + ")" if tokens else r"(?!)")

    @cached_property
    def _configured_eos(self) -> set[int]:
        eos = settings_of(Path(self.name), "generation_config.json").get("eos_token_id")
        return set(eos) if isinstance(eos, list) else {eos} if isinstance(eos, int) else set()

    @cached_property
    def _adds_bos(self) -> bool:
        return self.bos is not None and self.encode(_USER, special=True)[:1] == (self.bos,)

    def _text(self, messages: Sequence[Message], generation: bool, unfinished: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=generation,
                    continue_final_message=unfinished,
                    date_string=DATE,
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise UserError(
                f"the chat template of {self.name} refuses a conversation with the roles {roles}: {error}. "
                f"Leave the system turn out or bring the turns into the order that the template wants."
            ) from error

    def _pieces(self, text: str) -> list[Piece]:
        return pieces(self.tokenizer, text, self.bos, self._adds_bos)

    def _marked(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        _, spans = render_jinja_template(
            conversations=[[dict(message) for message in messages]],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            date_string=DATE,
            **self.tokenizer.special_tokens_map,
        )
        return [(start, end) for start, end in spans[0]]

    def _located(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]]:
        """Where each assistant turn stands: a stand-in tells the place, and the turn's own text must be found there."""
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            stand_in: Message = {"role": "assistant", "content": _STAND_IN}
            start = self._text([*messages[:index], stand_in, *messages[index + 1 :]], False).find(_STAND_IN)
            written = (message["content"], message["content"].strip())
            content = next((c for c in written if start >= 0 and text.startswith(c, start)), None)
            if content is None:
                raise UserError(
                    f"the chat template of {self.name} rewrites turn {index + 1}, an assistant's, so its tokens cannot "
                    f"be told from the others: mark them in the template with {{% generation %}}."
                )
            spans.append((start, start + len(content)))
        return spans

    def _through_end_token(self, text: str, start: int, end: int) -> int:
        """The end of a turn's span, moved behind its end token unless that is in it already."""
        if any(not text[start + found.end() : end].strip() for found in self._end_token.finditer(text, start, end)):
            return end
        match = self._end_token.match(text, end)
        return match.end() if match else end
