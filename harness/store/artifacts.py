"""Artifacts: the immutable outputs of stages, addressed by stage key.

A stage writes into `<kind>/<key>.work`, puts `manifest.json` there last and the folder is renamed to `<kind>/<key>`.
So a folder without the suffix is whole. The manifest holds the hash of every file; they are checked when another stage
reads the artifact, and a damaged one is moved aside, not deleted, so that the same command makes it again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.clock import timed
from harness.errors import StageFailed
from harness.records.hashing import file_sha256
from harness.store.atomic import sync_folder, write_json
from harness.store.home import Home

ArtifactKind = Literal["data", "rows", "model", "answers", "grades", "leaks"]
MANIFEST = "manifest.json"


@dataclass
class Store:
    """The artifacts of one home."""

    home: Home
    _verified: set[str] = field(default_factory=set)

    def path(self, kind: ArtifactKind, key: str) -> Path:
        """Where the finished artifact is, or will be."""
        return self.home.store / kind / key

    def work(self, kind: ArtifactKind, key: str) -> Path:
        """The folder in which an unfinished stage collects its output; kept across kills."""
        folder = self.home.store / kind / f"{key}.work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def done(self, kind: ArtifactKind, key: str) -> bool:
        return (self.path(kind, key) / MANIFEST).exists()

    def manifest(self, kind: ArtifactKind, key: str) -> dict[str, Any]:
        """The manifest of a finished artifact.

        Raises:
            StageFailed: it is missing or unreadable; the artifact was moved aside.
        """
        path = self.path(kind, key) / MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise self._damaged(kind, key, f"{path} cannot be read ({error})") from error
        return manifest

    def commit(self, kind: ArtifactKind, key: str, keep: tuple[str, ...], manifest: dict[str, Any]) -> dict[str, Any]:
        """Finishes a stage: keeps the files and folders named in `keep`, hashes them, writes the manifest, renames."""
        manifest = self.prepare(kind, key, keep, manifest)
        self._finish(kind, key, manifest)
        return manifest

    @timed("io")
    def prepare(self, kind: ArtifactKind, key: str, keep: tuple[str, ...], manifest: dict[str, Any]) -> dict[str, Any]:
        """The first half of `commit`: all but the rename, which `recover` makes up for. The work folder stays."""
        work = self.work(kind, key)
        kept = [f for name in keep for f in (work / name, *(work / name).rglob("*")) if f.is_file()]
        files = {str(f.relative_to(work)): file_sha256(f) for f in sorted(kept)}
        for file in files:
            _flush(work / file)
        manifest = manifest | {"key": key, "kind": kind, "files": files, "created": time.time()}
        write_json(work / MANIFEST, manifest)
        return manifest

    def prepared(self, kind: ArtifactKind, key: str) -> bool:
        """True where only the rename is missing."""
        return (self.home.store / kind / f"{key}.work" / MANIFEST).exists()

    @timed("io")
    def recover(self, kind: ArtifactKind, key: str) -> bool:
        """Finishes a stage that was killed between its manifest and the rename; False where there is none."""
        if not self.prepared(kind, key):
            return False
        path = self.home.store / kind / f"{key}.work" / MANIFEST
        self._finish(kind, key, json.loads(path.read_text()))
        return True

    def _finish(self, kind: ArtifactKind, key: str, manifest: dict[str, Any]) -> None:
        """Renames first and clears checkpoints and shards afterwards: until the rename they are what a kill leaves."""
        work = self.home.store / kind / f"{key}.work"
        final = self.path(kind, key)
        if final.exists():
            self._aside(final)
        os.replace(work, final)
        sync_folder(final.parent)
        top = {Path(name).parts[0] for name in manifest["files"]} | {MANIFEST}
        for entry in final.iterdir():
            if entry.name not in top:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self._verified.add(key)

    @timed("io")
    def open(self, kind: ArtifactKind, key: str) -> Path:
        """The folder of a finished artifact, its files checked against the manifest (once per process).

        Raises:
            StageFailed: a file is missing or changed; the artifact was moved aside.
        """
        folder = self.path(kind, key)
        if key not in self._verified:
            for name, digest in self.manifest(kind, key)["files"].items():
                file = folder / name
                if not file.exists() or file_sha256(file) != digest:
                    raise self._damaged(kind, key, f"{file} is not what was written")
            self._verified.add(key)
        return folder

    def _damaged(self, kind: ArtifactKind, key: str, why: str) -> StageFailed:
        folder = self.path(kind, key)
        where = self._aside(folder)
        moved = f" It was moved to {where}." if where else ""
        return StageFailed(f"{why}: the artifact is damaged.{moved} Run the same command again to make it anew")

    def _aside(self, folder: Path) -> Path | None:
        """Moves a folder out of the way; None where another process was faster."""
        target = self.home.path / "invalid" / f"{folder.parent.name}-{folder.name}-{time.time_ns()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(folder, target)
        except FileNotFoundError:
            return None
        return target


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
