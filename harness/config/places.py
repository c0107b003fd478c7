"""Where named files are found: beside the file that names them, in the project's folders, in the shipped presets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from harness.config.checks import nearest
from harness.errors import UserError

Kind = Literal["experiment", "recipe", "dataset", "suite"]
Kinds = Literal["experiments", "recipes", "datasets", "suites"]
FOLDERS: dict[Kind, str] = {
    "experiment": "experiments",
    "recipe": "experiments/recipes",
    "dataset": "datasets_cfg",
    "suite": "evalsuites",
}
TOPS = ("datasets_cfg", "evalsuites", "experiments")
_SUFFIXES = (".yaml", ".yml")


def preset_root() -> Path:
    """The folder that holds the shipped presets: inside an installed package, at the root of a clone otherwise."""
    package = Path(__file__).resolve().parent.parent
    return package / "_presets" if (package / "_presets").is_dir() else package.parent


def find(kind: Kind, name: str, folder: Path | None = None) -> Path | None:
    """The file of a name or path, or None. `folder` is where the file that names it lies (None: the command line)."""
    if name.endswith(_SUFFIXES):
        options = [base / Path(name).expanduser() for base in (folder, Path.cwd()) if base is not None]
        return next((path for path in options if path.is_file()), None)
    for base in _places(kind, folder):
        for suffix in _SUFFIXES:
            path = base / f"{name}{suffix}"
            if path.is_file() and _is(kind, path):
                return path
    return None


def found(kind: Kind, folder: Path | None = None) -> dict[str, Path]:
    """Every file of a kind by name; where several places have a name, the one that `find` would give."""
    result: dict[str, Path] = {}
    for base in _places(kind, folder):
        for path in sorted(base.rglob("*")) if base.is_dir() and base.name in _FOLDER_NAMES else ():
            if path.suffix in _SUFFIXES and _is(kind, path):
                result.setdefault(path.relative_to(base).with_suffix("").as_posix(), path)
    return dict(sorted(result.items()))


def names(kind: Kind | Kinds) -> list[str]:
    """Names of all files of a kind that the working folder and the presets offer."""
    return list(found(_singular(kind)))


def preset_path(kind: Kind | Kinds, name: str) -> Path:
    """The file of a name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    one = _singular(kind)
    path = find(one, name)
    if path is None:
        raise UserError(unknown(one, name))
    return path


def _singular(kind: Kind | Kinds) -> Kind:
    return next(one for one in FOLDERS if kind in (one, f"{one}s"))


def summary(path: Path) -> str:
    """The first line of the comment that opens a file: what it is."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def unknown(kind: Kind, name: str, folder: Path | None = None) -> str:
    """The sentence for a name that has no file."""
    if name.endswith(_SUFFIXES):
        return f"there is no file {name}"
    return f"there is no {kind} named {name!r}{nearest(name, found(kind, folder))}"


def copy_presets(target: Path) -> list[Path]:
    """Copies the shipped YAML files into a folder, for a project of one's own.

    A file that is there already is left as it is.

    Returns:
        The files that were written.
    """
    root = preset_root()
    written = []
    for path in (p for top in TOPS for p in sorted((root / top).rglob("*")) if p.is_file()):
        copy = target / path.relative_to(root)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            written.append(copy)
    return written


_FOLDER_NAMES = {Path(folder).name for folder in FOLDERS.values()}


def _places(kind: Kind, folder: Path | None) -> Iterator[Path]:
    inner = Path(FOLDERS[kind]).name
    if folder is not None:
        yield folder / inner
        yield folder
        project = next((p.parent for p in (folder, *folder.parents) if p.name in TOPS), None)
        if project is not None:
            yield project / FOLDERS[kind]
    yield Path.cwd() / FOLDERS[kind]
    yield preset_root() / FOLDERS[kind]


def _is(kind: Kind, path: Path) -> bool:
    """True where the file says that it is of this kind: `experiments/smoke.yaml` must not pass for a recipe `smoke`.

    A dataset or suite file may also begin with `use: <another>` alone.
    """
    keys = f"{kind}|use" if kind in ("dataset", "suite") else kind
    try:
        return re.search(rf"^({keys})\s*:", path.read_text(encoding="utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False
