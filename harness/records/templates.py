"""Which chat template a model folder has, read from its files alone: no tokenizer is loaded, no torch imported.

A plan needs the template's hash before anything runs, so this module is the only judge of what the template is;
`harness.records.chat` renders with exactly the text found here. A folder without a template (a base model) gets one of
the defaults below: the first whose turn markers its tokenizer knows as single tokens, else plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records.hashing import sha256

RENDERING = 1
"""Raised when the same template and messages would give other ids than before."""

_TURNS = "{% for message in messages %}"
CHATML = (
    _TURNS + "{% if message.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}{% generation %}"
    "{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_MARKED = (
    "{{ bos_token if bos_token }}" + _TURNS + "{{ '<|' + message.role + '|>' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}{% else %}"
    "{{ message.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_PLAIN = (
    "{{ bos_token if bos_token }}" + _TURNS + "{% if message.role == 'assistant' %}{{ 'Assistant:' }}{% generation %}"
    "{{ ' ' + message.content + (eos_token or '') }}{% endgeneration %}{{ '\n\n' }}{% else %}"
    "{{ message.role | capitalize + ': ' + message.content + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_DEFAULTS = (
    (("<|im_start|>", "<|im_end|>"), CHATML),
    (("<|user|>", "<|assistant|>", "<|end|>"), _MARKED),
    ((), _PLAIN),
)


def template_of(folder: Path) -> str:
    """The Jinja text that renders conversations for the model (or adapter) in a folder, a default one if need be.

    Raises:
        UserError: a tokenizer file of the folder is not readable JSON.
    """
    return own_template(folder) or _default(tokenizer_home(folder))


def own_template(folder: Path) -> str | None:
    """The chat template that the model in a folder brings; None where it has none (a base model, mostly).

    Raises:
        UserError: a tokenizer file of the folder is not readable JSON.
    """
    home = tokenizer_home(folder)
    file = home / "chat_template.jinja"
    if file.is_file() and (text := file.read_text(encoding="utf-8")).strip():
        return text
    found = _json(home / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return str(found) if found else None


def template_hash(folder: Path) -> str:
    """SHA-256 of the template and of the way that it is rendered; part of every key whose prompts it makes."""
    return sha256({"rendering": RENDERING, "template": template_of(folder)})


def tokenizer_home(folder: Path) -> Path:
    """The folder itself, or, for an adapter saved without a tokenizer, the folder of its base model."""
    own = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if not (folder / "adapter_config.json").is_file() or any((folder / name).is_file() for name in own):
        return folder
    return adapter_base(folder)


def adapter_base(folder: Path) -> Path:
    """The base model's folder that a LoRA adapter names, absolute or beside the adapter.

    Raises:
        UserError: the adapter names none, or one that is not on this disk (nothing is downloaded).
    """
    name = str(_json(folder / "adapter_config.json").get("base_model_name_or_path") or "")
    places = [Path(name), folder / name, folder.parent / name] if name else []
    for place in places:
        if (place / "config.json").is_file():
            return place
    raise UserError(
        f"{folder / 'adapter_config.json'} is a LoRA adapter of {name!r}, and no model folder is there: download the "
        f"base model and write its folder into base_model_name_or_path, or merge the adapter into its base."
    )


def settings_of(folder: Path, name: str) -> Mapping[str, Any]:
    """A JSON file of a model's folder (of an adapter's base); empty where there is none.

    Raises:
        UserError: it is not readable JSON.
    """
    return _json((adapter_base(folder) if (folder / "adapter_config.json").is_file() else folder) / name)


def _default(home: Path) -> str:
    known = {entry["content"] for entry in _json(home / "tokenizer.json").get("added_tokens", ())}
    return next(template for markers, template in _DEFAULTS if known.issuperset(markers))


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not readable JSON ({error}): copy the model folder again.") from error
    return content
