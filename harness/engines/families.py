"""What a model folder holds, by its `config.json`: a language model, a reward model or a text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

Family = Literal["causal", "reward", "encoder"]
_ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining")


def family_of(folder: Path | None) -> Family:
    """The family of a folder; a model that a training will give, an adapter or an unreadable file is `causal`.

    A reward model is one for sequence classification, an encoder one whose head (if any) is no language model's.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder is not None else {}
    except (OSError, ValueError):
        return "causal"
    names = config.get("architectures") if isinstance(config, dict) else None
    name = str(names[0]) if isinstance(names, list) and names else ""
    if name.endswith("ForSequenceClassification"):
        return "reward"
    if name.endswith("LMHeadModel"):  # GPT-2's name for a language model
        return "causal"
    return "encoder" if name.endswith(_ENCODERS) else "causal"
