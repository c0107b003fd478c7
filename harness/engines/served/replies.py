"""The cache of replies: what a server answered once is never paid for again, in any stage or experiment of a home.

One file per reply, named by the hash of the call, renamed into place whole: a process that is killed loses no reply
that it had received. Files are not flushed to the disk one by one, which would cost more time than the calls: after a
power cut the last ones may be damaged. So the first line of a file is the hash of the second, which holds the reply,
and a damaged file counts as absent. Only answers are kept, never errors.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.served.wire import Reply
from harness.errors import UserError
from harness.store.atomic import write_bytes
from harness.store.home import Home

log = logging.getLogger(__name__)
_TOPS = ("top", "top_ids")


@dataclass(frozen=True)
class Replies:
    """The replies of a home."""

    home: Home

    def get(self, key: str) -> Reply | None:
        """The reply to a call, if there is one."""
        path = self._path(key)
        try:
            digest, _, kept = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError:
            digest, kept = b"", b"{}"
        if digest != _digest(kept):
            log.warning("%s is damaged: the call is made again", path)
            return None
        return _reply(json.loads(kept))

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply.

        Raises:
            UserError: the disk is full or read-only.
        """
        path = self._path(key)
        if not path.parent.is_dir():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"{path.parent} could not be made ({error.strerror}): free or unlock the disk, then run the same "
                    "command again"
                ) from error
        # As pairs: JSON tools may sort the keys of a mapping, and the order says which text is likelier.
        tops = {name: [list(place.items()) for place in getattr(reply, name)] for name in _TOPS}
        kept = json.dumps({**vars(reply), **tops}, ensure_ascii=False).encode()
        write_bytes(path, _digest(kept) + b"\n" + kept, flush=False)

    def _path(self, key: str) -> Path:
        return self.home.replies / key[:2] / f"{key}.json"


def _reply(kept: dict[str, Any]) -> Reply:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    return Reply(**values | {name: tuple(dict(place) for place in kept.get(name, ())) for name in _TOPS})


def _digest(kept: bytes) -> bytes:
    return hashlib.sha256(kept).hexdigest().encode()
