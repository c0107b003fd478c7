"""Files below a folder or inside an archive, by their paths."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import UserError


@dataclass(frozen=True)
class Tree:
    """Files below a place, read when asked for. `names` are paths with slashes, sorted."""

    place: str
    files: Mapping[str, Callable[[], bytes]]

    def text(self, name: str) -> str:
        """The text of a file.

        Raises:
            UserError: it is no UTF-8 text.
        """
        try:
            return self.files[name]().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.place}/{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def tree_of(path: Path, wanted: Callable[[str], bool]) -> Tree:
    """The files of a folder, or of a zip or tar archive: of what is not wanted, the name alone.

    Raises:
        UserError: it is neither.
    """
    if path.is_dir():
        inside = ((p, p.relative_to(path)) for p in path.rglob("*") if p.is_file())
        files = sorted(p for p, inner in inside if not any(part.startswith(".") for part in inner.parts))
        return Tree(str(path), {p.relative_to(path).as_posix(): p.read_bytes for p in files})
    try:
        if zipfile.is_zipfile(path):
            return Tree(str(path), _zipped(path, wanted))
        if tarfile.is_tarfile(path):
            return Tree(str(path), _tarred(path, wanted))
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as an archive: {error}") from error
    raise UserError(f"{path} is no folder, zip or tar archive")


def _zipped(path: Path, wanted: Callable[[str], bool]) -> dict[str, Callable[[], bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = [i for i in archive.infolist() if not i.is_dir()]
        texts = {i.filename: archive.read(i) if wanted(i.filename) else b"" for i in members}
    return {name: partial(bytes, data) for name, data in sorted(texts.items())}


def _tarred(path: Path, wanted: Callable[[str], bool]) -> dict[str, Callable[[], bytes]]:
    texts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                texts[member.name] = file.read() if wanted(member.name) else b""
    return {name: partial(bytes, data) for name, data in sorted(texts.items())}
