"""Two tiny models, GPT-2 and Llama, each with random and with trained weights, and the Alpaca rows that they score.

The released selection scripts were run on them (`benchmarks/released_ifd.py`), so they have to be the same wherever
they are built: tokenizers are trained on the rows, random weights are drawn as whole numbers and scaled, and trained
weights are stored in half precision, which float32 holds exactly.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("gpt2-random", "gpt2-trained", "llama-random", "llama-trained")
DATA = Path(__file__).parent / "select" / "data"
VOCAB, HIDDEN, LAYERS, HEADS, CONTEXT, SEED = 800, 32, 2, 2, 1024, 7
SPREAD = 480
"""Every so many rows of the file, one is scored."""
CHOSEN = (76, 148, 260, 274, 1272, 1302, 1760, 3050, 6054, 17604, 39760, 43539)
"""Added by hand: answers that are empty, of one letter or in other scripts, and the longest prompts and answers."""
HEADERS = ("### Instruction:", "### Response:", "USER:", "ASSISTANT:") * 400
"""Few tokens for GPT-2, many for Llama: the released counts of them are too high for the one, too low for the other."""
POOL = "alpaca/alpaca_data_50002.json.gz"

Row = Mapping[str, str]


def row_numbers(total: int) -> list[int]:
    """Places in the file of 50,002 rows."""
    return sorted({*range(0, total, SPREAD), *CHOSEN})


def rows_of(file: Path) -> tuple[list[int], list[Row]]:
    """The places of the rows and the rows."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        every = json.load(lines)
    numbers = row_numbers(len(every))
    return numbers, [every[number] for number in numbers]


def digest(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def build(name: str, folder: Path, rows: Sequence[Row]) -> Path:
    """Writes a model folder (float32) and returns it."""
    family, weights = name.split("-")
    texts = [text for row in rows for text in row.values()]
    size = _gpt2_tokenizer(folder, [*texts, *HEADERS]) if family == "gpt2" else _llama_tokenizer(folder, texts)
    model = _gpt2(size) if family == "gpt2" else _llama(size)
    _fill(model, _random(model) if weights == "random" else _stored(family))
    model.save_pretrained(folder)
    return folder


def fingerprint(folder: Path) -> str:
    """Hash of the weights, bit by bit, and of the vocabulary and its merges."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    hashed.update(digest([tokens["vocab"], tokens["merges"]]).encode())
    return hashed.hexdigest()


def _gpt2(size: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT}
    return GPT2LMHeadModel(GPT2Config(vocab_size=size, bos_token_id=0, eos_token_id=0, **shape)).eval()


def _llama(size: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def _random(model: Any) -> dict[str, np.ndarray]:
    """Whole numbers from -127 to 127 over 512, so no platform's normal distribution is in it; norms stay near 1."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    found = {}
    for name, tensor in sorted(model.named_parameters()):
        drawn = rng.integers(-127, 128, size=tuple(tensor.shape)).astype(np.float32) / 512
        found[name] = drawn + 1 if tensor.ndim == 1 and name.endswith("weight") else drawn
    return found


def _stored(family: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return {
        name: array.astype(np.float32) for name, array in load_file(DATA / f"released_{family}.safetensors").items()
    }


def _fill(model: Any, weights: Mapping[str, np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.from_numpy(weights[name]))


def _gpt2_tokenizer(folder: Path, texts: Sequence[str]) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab, merges = _merges(tokenizer, trainers, texts, ["<|endoftext|>"], alphabet)
    GPT2Tokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT).save_pretrained(folder)
    return len(vocab)


def _llama_tokenizer(folder: Path, texts: Sequence[str]) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [chr(code) for code in range(33, 127)]
    vocab, merges = _merges(tokenizer, trainers, [_plain(text) for text in texts], special, [*letters, "▁"])
    LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True, model_max_length=CONTEXT).save_pretrained(folder)
    return len(vocab)


def _plain(text: str) -> str:
    """ASCII only: everything else is left to the byte tokens, as are line breaks."""
    return " ".join(text.encode("ascii", "ignore").decode().split())


def _merges(
    tokenizer: Any, trainers: Any, texts: Sequence[str], special: list[str], alphabet: list[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    size = VOCAB + len(special)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]
