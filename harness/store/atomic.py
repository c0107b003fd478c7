"""Files that exist whole or not at all.

Pattern: a temporary file beside the target, exclusively created, written, flushed to disk, renamed over the target,
and the folder flushed. A crash leaves the old file or the new one, never a part. Local and shared POSIX folders only:
a rename across file systems is not atomic, which is why the temporary file is always a neighbour.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from harness.errors import UserError


def write_bytes(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Replaces `path` by `data` in one step.

    With `flush` false nothing waits for the disk: safe against a kill, not against a power cut, and for files only
    whose readers notice damage.

    Raises:
        UserError: the disk is full or read-only; names the path and the bytes needed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if flush:
            sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: {len(data):,} bytes could not be written ({error.strerror}): free or unlock the disk, "
            "then run the same command again"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Replaces `path` by a JSON document in one step."""
    write_bytes(path, json.dumps(value, ensure_ascii=False, indent=1).encode())


def sync_folder(path: Path) -> None:
    """Flushes a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
