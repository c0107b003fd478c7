"""A small Llama with random weights and a byte-level tokenizer of its own: a student that needs no download.

Everything about it follows from the arguments and the texts, so building it twice gives the same files.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.records.templates import CHATML

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END, PAD, START_TURN, END_TURN = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, PAD, START_TURN, END_TURN)
BYTES = 256
CONTEXT = 2048


def build(
    out: Path,
    *,
    hidden: int,
    layers: int,
    heads: int,
    vocab: int,
    seed: int,
    texts: Iterable[str],
    context: int = CONTEXT,
) -> None:
    """Writes a model folder: config, float32 safetensors weights, tokenizer and chat template.

    Args:
        out: folder to write; made if missing.
        hidden: width; the feed-forward is 8/3 of it, rounded up to a multiple of 32.
        layers: number of blocks.
        heads: attention heads; each must have an even width.
        vocab: tokens at most, with 256 bytes and 4 special tokens among them; fewer where the texts give fewer merges.
        seed: of the weights.
        texts: what the byte-pair merges are learned from; any text can be encoded afterwards.
        context: longest sequence, in tokens.

    Raises:
        UserError: sizes that make no model.
    """
    from transformers.utils.logging import disable_progress_bar

    _check_sizes(hidden, heads, vocab)
    trained = train_tokenizer(texts, vocab)
    model = _random_llama(trained, hidden=hidden, layers=layers, heads=heads, seed=seed, context=context)
    disable_progress_bar()
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    _fast(trained, context).save_pretrained(out)


def _check_sizes(hidden: int, heads: int, vocab: int) -> None:
    if hidden % heads or hidden // heads % 2:
        raise UserError(
            f"hidden {hidden} over {heads} heads gives no even width per head: choose hidden as heads x 32, say."
        )
    if vocab < BYTES + len(SPECIAL):
        raise UserError(
            f"vocab {vocab} is too small: {BYTES} bytes and {len(SPECIAL)} special tokens are always in it."
        )


def _random_llama(tokenizer: Tokenizer, *, hidden: int, layers: int, heads: int, seed: int, context: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=-(-hidden * 8 // (3 * 32)) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END_TURN),
        pad_token_id=tokenizer.token_to_id(PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _fast(trained: Tokenizer, context: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, eos_token=END_TURN, pad_token=PAD, model_max_length=context
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer; single digits are tokens of their own, so that numbers are read alike.

    Raises:
        UserError: there is no text to learn from.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    stream = iter(texts)
    first = next((text for text in stream if text), None)
    if first is None:
        raise UserError(
            "the scratch model's tokenizer has no text to learn from: the pool that it is trained on is empty."
        )
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain([first], stream), trainer)
    return tokenizer
