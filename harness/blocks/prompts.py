"""Prompt packs: versioned templates that blocks fill in. Prompts are data, so a user changes one without touching code.

A pack is a YAML file `{version: 1, prompts: {rate: "...", ...}}`. An entry may also be a mapping (`{user: ..., parse:
...}`): then `rate` is its user (or system) turn, and `rate.parse` and so on are its parts. `general` serves real
models, `pocket` the embedded ones; any other name is a path to a file whose entries override those of `general`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import UserError
from harness.records.hashing import sha256

_ROOT = Path(__file__).parent.parent
BUNDLED = {"general": _ROOT / "judges" / "prompts.yaml", "pocket": _ROOT / "pocket" / "prompts.yaml"}


@dataclass(frozen=True)
class Pack:
    """Entry name to template, with the pack's version and content hash."""

    name: str
    version: str
    entries: Mapping[str, str]

    @property
    def digest(self) -> str:
        return sha256([self.version, dict(self.entries)])


@cache
def load_pack(name: str) -> Pack:
    """Reads a bundled pack or a file.

    Raises:
        UserError: no such pack or file, or it is not of the form above.
    """
    if name in BUNDLED:
        return _read(name, BUNDLED[name])
    pack, base = _read(name, Path(name)), load_pack("general")
    return Pack(name, pack.version, {**base.entries, **pack.entries})


def _read(name: str, path: Path) -> Pack:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"prompt pack {name!r}: {path} cannot be read ({error.strerror}); bundled packs are {', '.join(BUNDLED)}"
        ) from error
    except YAMLError as error:
        raise UserError(f"prompt pack {path} is not YAML: {error}") from error
    prompts = data.get("prompts") if isinstance(data, dict) else None
    if not isinstance(prompts, dict) or "version" not in data:
        raise UserError(f"prompt pack {path}: it needs `version:` and `prompts:` with one text per entry")
    return Pack(name, str(data["version"]), {k: v for entry, value in prompts.items() for k, v in _flat(entry, value)})


def _flat(entry: str, value: object) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(entry, str(value))]
    turn = value.get("user", value.get("system", ""))
    return [(entry, str(turn)), *((f"{entry}.{part}", str(text)) for part, text in value.items())]


def fill(prompts: Mapping[str, str], entry: str, needed_by: str, **values: str) -> str:
    """The entry of a pack with its placeholders filled in.

    Raises:
        UserError: the pack has no such entry, or its text names a placeholder that this use does not have.
    """
    if entry not in prompts:
        raise UserError(
            f"{needed_by} needs the prompt {entry!r}, which the model's prompt pack does not have: add the entry to a "
            "pack of your own and name that file as `prompts:` of the model"
        )
    try:
        return prompts[entry].format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"the prompt {entry!r} cannot be filled in ({type(error).__name__}: {error}): its placeholders may be "
            f"{', '.join('{' + name + '}' for name in values)}, and braces that are text are written {{{{ and }}}}"
        ) from error
