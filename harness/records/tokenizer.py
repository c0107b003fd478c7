"""Loads the tokenizer of a model folder, and makes sure that it is the one its files describe."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.records.templates import tokenizer_home

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

PROBE = "Two  words, a (x_1)\n\n\tdef: café 12"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model (or adapter) folder; nothing is downloaded and no code of the folder is run.

    transformers 5 rebuilds some tokenizer classes from parts: `LlamaTokenizer` on a byte-level `tokenizer.json` drops
    every space (huggingface/transformers issue 45488). Where the loaded tokenizer and the file disagree, the file wins.

    Raises:
        UserError: the folder is missing or holds no tokenizer that loads.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    home = tokenizer_home(folder)
    if not home.is_dir():
        raise UserError(
            f"there is no model folder {home}: name a folder with config.json, weights and tokenizer files."
        )
    try:
        loaded = AutoTokenizer.from_pretrained(str(home), trust_remote_code=False, local_files_only=True)
        if _agrees(loaded, home / "tokenizer.json"):
            return loaded
        log.warning("%s: %s does not do what tokenizer.json says; the file is used", home, type(loaded).__name__)
        return PreTrainedTokenizerFast.from_pretrained(str(home), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise UserError(f"the tokenizer in {home} cannot be loaded: {error}") from error


def _agrees(loaded: Any, file: Path) -> bool:
    if not file.is_file():
        return True
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(file))
    raw.no_padding()
    raw.no_truncation()
    return bool(raw.encode(PROBE, add_special_tokens=False).ids == loaded(PROBE, add_special_tokens=False)["input_ids"])
