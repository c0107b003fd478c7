"""Files behind URLs, fetched once, checked by SHA-256, kept under `LOOPBENCH_HOME/downloads`."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import Transient, UserError


def fetch(url: str, sha256: str) -> Path:
    """The local copy of a URL's file, downloaded unless it is there already.

    Raises:
        UserError: what came has another SHA-256, or the URL is of no kind that can be fetched.
        Transient: the server could not be reached; worth another try.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # a command's output is ours
    folder = Path(os.environ.get("LOOPBENCH_HOME") or ".loopbench").absolute() / "downloads"
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    name = f"{sha256[:16]}-{Path(parts.path).name or 'file'}"
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder, progressbar=False))
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise UserError(f"{shown} cannot be fetched: only http, https, ftp and sftp URLs can") from error
        raise UserError(
            f"{shown}: what was downloaded has another SHA-256 than {sha256}: the file behind the URL has changed. "
            "Look at the new one, then write its checksum, or name the file that you mean"
        ) from error
    except OSError as error:
        raise Transient(f"{shown} could not be downloaded ({type(error).__name__}); it is kept once it was") from error
