"""Models that read a text whole: reward models (sequence classification with one logit) and text encoders.

They have no decode loop. Batches are of like length, longest first; a value does not depend on a row's neighbours, up
to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.base import ModelSpec
from harness.engines.families import family_of
from harness.engines.limits import Limits, Room, release
from harness.engines.loading import check_folder, load_model
from harness.engines.scoring import batched
from harness.errors import UserError
from harness.records.example import Message
from harness.records.templates import own_template

_UNLIMITED = 10**18
"""Tokenizers that know no limit say so with a larger number."""
_MODE, _MODES = "pooling_mode", ("mean_tokens", "mean", "cls_token", "cls")
_PARTS = ("Transformer", "Pooling", "Normalize")

if TYPE_CHECKING:
    import numpy as np

    from harness.records.chat import ChatFormat


class _Reader:
    """What both kinds share: the model, its tokenizer, its longest sequence."""

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        import torch

        from harness.records.chat import ChatFormat

        self.spec = spec
        self._folder = check_folder(spec)
        torch.set_num_threads(threads)
        self._chat = ChatFormat.from_folder(self._folder)
        self._model: Any = load_model(self._folder, spec.dtype, spec.device, family_of(self._folder))
        self._room = Room(Limits.of(self._model, spec.options))

    @property
    def context(self) -> int | None:
        """Longest sequence in tokens, None where neither model nor tokenizer states one."""
        # Positions of models of RoBERTa's kind begin behind the padding's, so their tokenizer states less.
        stated = getattr(self._model.config, "max_position_embeddings", None), self._chat.tokenizer.model_max_length
        return min((int(n) for n in stated if n is not None and n < _UNLIMITED), default=None)

    def notes(self) -> list[str]:
        """What happened since the last call that the user should know: memory that ran out. Told once."""
        return self._room.take()

    def close(self) -> None:
        """Gives the model's memory back; the engine cannot be used afterwards."""
        self._model = None
        release()

    def _read(self, ids: Sequence[Sequence[int]], take: Any) -> np.ndarray:
        """`take(inputs, mask)` of right-padded batches, put back into the order of the rows."""
        import numpy as np
        import torch

        found: list[Any] = [None] * len(ids)

        def work(rows: Sequence[int], limits: Limits) -> list[int]:
            batch = [ids[row] for row in rows]
            pad, longest = self._padding(batch), max(map(len, batch))
            tokens = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in batch], device=self._model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=tokens.device)
            with torch.inference_mode():
                values = take(tokens, mask).float().cpu().numpy()
            for row, value in zip(rows, values, strict=True):
                found[row] = value
            return list(rows)

        for _ in batched([len(row) for row in ids], self._room, self._model.device, work):
            pass
        return np.asarray(found, dtype=np.float32)

    def _padding(self, batch: Sequence[Sequence[int]]) -> int:
        """The model's padding id; where it has none, an id that no row of the batch has."""
        known = self._model.config.get_text_config().pad_token_id
        if known is not None:
            return int(known)
        used = {token for row in batch for token in row}
        return next(token for token in range(len(used) + 1) if token not in used)


class RewardEngine(_Reader):
    """A reward model: one number per conversation.

    Conversations are rendered with the model's own chat template, without the opening of a next turn. A folder without
    a template whose tokenizer joins two texts (DeBERTa's kind) reads the pair of prompt and answer instead.
    """

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        """Loads the model.

        Raises:
            UserError: the folder cannot be loaded, or its head has not exactly one logit.
        """
        super().__init__(spec, threads)
        if (labels := self._model.config.num_labels) != 1:
            raise UserError(
                f"{spec.name} in {self._folder} is a classifier with {labels} labels; a reward model has one logit"
            )

    @property
    def chat(self) -> ChatFormat:
        """How conversations become ids."""
        return self._chat

    def rendered(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a conversation.

        Raises:
            UserError: the template refuses it.
        """
        if not self._pairs:
            return self._chat.render(messages)
        *before, last = messages
        return tuple(self._chat.tokenizer("\n".join(m["content"] for m in before), last["content"])["input_ids"])

    def reward(self, ids: Sequence[tuple[int, ...]]) -> np.ndarray:
        """The logit of each sequence: float32, shape (len(ids),).

        Raises:
            Transient: one sequence alone does not fit into memory.
        """
        import numpy as np

        if not ids:
            return np.zeros(0, dtype=np.float32)
        return np.asarray(self._read(ids, self._logits)[:, 0])

    def _logits(self, tokens: Any, mask: Any) -> Any:
        config = self._model.config.get_text_config()
        known = config.pad_token_id
        if known is None:  # the model finds a row's end by its padding, and refuses batches where it knows none
            config.pad_token_id = self._padding(_real(tokens, mask))
        try:
            return self._model(input_ids=tokens, attention_mask=mask).logits
        finally:
            config.pad_token_id = known

    @cached_property
    def _pairs(self) -> bool:
        tokenizer = self._chat.tokenizer
        return own_template(self._folder) is None and tokenizer.cls_token_id is not None


def _real(tokens: Any, mask: Any) -> list[list[int]]:
    """The rows without their padding."""
    return [row[:count] for row, count in zip(tokens.tolist(), mask.sum(1).tolist(), strict=True)]


class EncoderEngine(_Reader):
    """A text encoder: one vector per text, pooled and scaled as its folder says (sentence-transformers' files).

    By default the mean of the last hidden states over all tokens. Texts are read with the tokenizer's special tokens.
    """

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        """Loads the model.

        Raises:
            UserError: the folder cannot be loaded, or asks for a pooling or a part that is not built in.
        """
        super().__init__(spec, threads)
        parts = [str(part.get("type", "")).rpartition(".")[2] for part in _json(self._folder / "modules.json", [])]
        modes = self._modes
        other = [part for part in parts if part not in _PARTS] + [mode for mode in modes if mode not in _MODES]
        if _json(self._folder / "config_sentence_transformers.json", {}).get("default_prompt_name"):
            other.append("a prompt before each text")
        if other or len(modes) > 1:
            raise UserError(
                f"the text encoder {spec.name} in {self._folder} asks for {', '.join(other or modes)}, which would "
                "give other vectors: built in are the pooling by mean or by the first token (cls), and Normalize"
            )

    @property
    def context(self) -> int | None:
        """Longest text in tokens: what the folder says, or fewer where model or tokenizer have fewer."""
        own = _json(self._folder / "sentence_bert_config.json", {}).get("max_seq_length")
        return min((n for n in (own, super().context) if n is not None), default=None)

    @property
    def chat(self) -> None:
        """It reads texts, not conversations."""
        return None

    def embed_texts(self, texts: Sequence[str], max_tokens: Sequence[int | None] = ()) -> np.ndarray:
        """Vectors of texts, each cut at its `max_tokens` and at the context: float32, shape (len(texts), width)."""
        limits = [*max_tokens, *[None] * (len(texts) - len(max_tokens))]
        ids = [self._tokens(text, limit) for text, limit in zip(texts, limits, strict=True)]
        return self._read(ids, self._vectors)

    def _tokens(self, text: str, limit: int | None) -> list[int]:
        ends = [n for n in (limit, self.context) if n is not None]
        cut = {"truncation": True, "max_length": min(ends)} if ends else {}
        found: list[int] = self._chat.tokenizer(text, **cut)["input_ids"]
        return found

    def _vectors(self, tokens: Any, mask: Any) -> Any:
        import torch

        hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        if self._first:
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(pooled) if self._unit else pooled

    @cached_property
    def _first(self) -> bool:
        return any(mode.startswith("cls") for mode in self._modes)

    @cached_property
    def _modes(self) -> list[str]:
        """How tokens become one vector: one name (or several) since sentence-transformers 6, flags by name before."""
        config: dict[str, Any] = _json(self._folder / "1_Pooling" / "config.json", {})
        if stated := config.get(_MODE):
            return [stated] if isinstance(stated, str) else list(stated)
        flag = f"{_MODE}_"
        return [name.removeprefix(flag) for name, on in config.items() if name.startswith(flag) and on]

    @cached_property
    def _unit(self) -> bool:
        return any(str(part.get("type", "")).endswith("Normalize") for part in _json(self._folder / "modules.json", []))


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
