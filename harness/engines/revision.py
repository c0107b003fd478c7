"""The content identity of a model folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from harness.errors import UserError
from harness.records.hashing import file_sha256, sha256
from harness.records.templates import adapter_base

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
IDENTITY = (
    *WEIGHTS,
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.index.json",
    "tokenizer*.json",
    "*.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
"""Files that decide what a model produces. Optimizer states, logs and read-me files are left out."""


def revision_of(path: Path) -> str:
    """SHA-256 over the names and contents of the files that decide what a model produces.

    An adapter's revision includes that of the base model that it names. Reading is linear in the size of the weights;
    a file that did not change (size and time) is read once per process.

    Raises:
        UserError: the folder is missing or holds no weights.
    """
    if not path.is_dir():
        raise UserError(
            f"there is no model folder {path}: name a folder with config.json, weights and tokenizer files."
        )
    files = sorted({file for pattern in IDENTITY for file in path.glob(pattern)})
    if not any(file.match(pattern) for file in files for pattern in WEIGHTS):
        raise UserError(
            f"the folder {path} holds no model weights ({', '.join(WEIGHTS)}): the download may be incomplete."
        )
    parts = [[file.relative_to(path).as_posix(), _digest(file)] for file in files]
    if (path / "adapter_config.json").is_file():
        parts.append(["base", revision_of(adapter_base(path))])
    return sha256(parts)


def _digest(file: Path) -> str:
    stat = file.stat()
    return _cached(file.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached(file: Path, size: int, changed: int) -> str:
    return file_sha256(file)
