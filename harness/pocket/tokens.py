"""The tokenizer of the pocket models: whole words, numbers as single digits, lossless on text of the world."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from harness.pocket import words
from harness.pocket.chats import chat, prompts
from harness.pocket.documents import document
from harness.pocket.world import CATEGORIES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
NEWLINE = "▁⏎"
_SAMPLES = 6000
_EXTRA = "please question answer : . , ; ! ? = + - * rating problem none yes no better worse same second both fact use"
_TABLES: tuple[Iterable[str], ...] = (
    words.NAMES, words.ITEMS, words.THINGS, words.NOUNS, words.RHYMING, words.KINDS, words.METALS, words.ANIMALS,
    words.RULERS, words.VOICES, words.OPPOSITES, words.FIELDS, *words.FIELDS.values(), *words.ORDERS.values(),
)  # fmt: skip

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def vocabulary() -> list[str]:
    """Every entry of the tokenizer in order: special tokens, newline, digits (with and without a space), then words."""
    rng = Random("pocket vocabulary")
    texts = [_EXTRA, *(p for pack in prompts().values() for key, p in pack.items() if key != "parse"), *CATEGORIES]
    texts += [document(rng, None) for _ in range(_SAMPLES)]
    texts += [m["content"] for _ in range(_SAMPLES) for m in chat(rng, None).messages]
    texts += [" ".join(table) for table in _TABLES]
    found = {word for text in texts for word in text.split() if not word[0].isdigit() and word[0] != "{"}
    digits = [f"{space}{digit}" for space in ("▁", "") for digit in range(10)]
    return [*SPECIAL, NEWLINE, *digits, *(f"▁{word}" for word in sorted(found))]


def build() -> PreTrainedTokenizerFast:
    """Build the tokenizer with its chat template.

    A leading space is part of a word's token and is added at the start of a text, so `encode(decode(encode(x)))` gives
    `encode(x)`, and `decode` gives `x`, for every text of the world. A newline is a token of its own.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    entries = {entry: i for i, entry in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(entries, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(" ?\n ?"), " ⏎ ")])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex("▁?[0-9]|▁?[^▁0-9]+"), "isolated"),
        ]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace("▁", " "),
            decoders.Replace(Regex(" ?⏎ ?"), "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", entries["<s>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]),
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
