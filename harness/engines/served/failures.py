"""What a failed call means: try again, this request cannot be served, or nothing more can be asked.

| what happened                                                     | what is done                                  |
| ----------------------------------------------------------------- | --------------------------------------------- |
| no connection, cut off, no answer in time, 408 409 425 429, 5xx   | again, until the deadline                     |
| an answer that is no chat completion (cut-off JSON, a web page)   | again, a few times                            |
| 413, 400 403 422 that name the context's length or a filter       | this request is unanswered, the others go on  |
| 401, 402, 403, 404, an exhausted quota, any other 4xx             | stop: a sentence for the user                 |

Texts of a server are shown without the key that it may echo. An error of the client library never leaves this package:
its text and its chain of causes could hold a request's headers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from harness.engines.served.settings import Served
from harness.engines.served.wire import Malformed
from harness.errors import LoopbenchError, UserError

_AGAIN = frozenset({408, 409, 425, 429})
_ITS_OWN_FAULT = re.compile(
    r"context[ _-]?(length|window)|maximum.{0,20}length|too (long|many tokens|large)|content.?(filter|polic|management)"
    r"|moderation|flagged",
    re.IGNORECASE,
)
_LONG_ENOUGH = 8
"""Shorter keys are dummies (`EMPTY`, `x`) of local servers, and words of answers."""
_SHOWN = 300
KEPT = "Finished replies are kept: the same command asks only for the rest"


class Again(LoopbenchError):
    """Worth another try. `wait`: seconds that the server asked for; `unsure`: it may have been billed."""

    def __init__(self, why: str, wait: float | None = None, unsure: bool = False, malformed: bool = False) -> None:
        super().__init__(why)
        self.wait, self.unsure, self.malformed = wait, unsure, malformed


class Refused(LoopbenchError):
    """This request will not be answered whatever is tried."""


def meaning(error: Exception, served: Served, key: str | None) -> Exception:
    """What a failed call means, as one of our own errors; an error that no server causes comes back as it is."""
    import openai

    if isinstance(error, Malformed):
        return Again(hidden(f"it answered {error}", key), unsure=True, malformed=True)
    if isinstance(error, openai.APITimeoutError):
        return Again(f"no answer within {served.timeout:g} s", unsure=True)
    if isinstance(error, openai.APIStatusError):
        return _status(error.status_code, _said(error, key), error.response.headers, served)
    if isinstance(error, openai.APIConnectionError):
        refused = type(error.__cause__).__name__.startswith("Connect")
        why = str(error.__cause__ or "").strip() or "it was closed"
        text = "no connection" if refused else "the connection broke"
        return Again(hidden(f"{text} ({why})", key), unsure=not refused)
    return error


def hidden(text: str, key: str | None) -> str:
    """A text without the key."""
    return text if key is None or len(key) < _LONG_ENOUGH else text.replace(key, "***")


def _status(code: int, said: str, headers: Mapping[str, str], served: Served) -> Exception:
    if code == 429 and "insufficient_quota" in said:
        return UserError(f"{served.where} answers no more: the account's quota is used up. {KEPT}")
    if code in _AGAIN or code >= 500:
        return Again(f"status {code}: {said}" if said else f"status {code}", wait=retry_after(headers))
    if code == 413 or (code in (400, 403, 422) and _ITS_OWN_FAULT.search(said)):
        return Refused(f"the server refused it (status {code}): {said}")
    if code in (401, 403):
        env = served.api_key_env
        how = f"the key in {env} is wrong, expired or may not use it" if env else "it wants a key: set `api_key_env`"
        return UserError(f"{served.where} refuses us (status {code}): {how}. {KEPT}")
    if code == 402:
        return UserError(f"{served.where} wants to be paid first (status 402). {KEPT}")
    return UserError(f"{served.where} cannot be asked so (status {code}): {said}. {KEPT}")


def _said(error: Any, key: str | None) -> str:
    """The server's own sentence, on one line, cut, without the key."""
    body = error.body if isinstance(error.body, dict) else {}
    text = body.get("message") or (error.body if isinstance(error.body, str) else "") or error.response.text
    code = body.get("code")
    text = hidden(" ".join(f"{text}{f' ({code})' if code else ''}".split()), key)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds in Retry-After (a number or a date) or retry-after-ms; None without, or for what is neither."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
        if (seconds := headers.get("retry-after")) is None:
            return None
        try:
            return max(0.0, float(seconds))
        except ValueError:
            return max(0.0, parsedate_to_datetime(seconds).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
