"""Whether a server answers, asked without paying for anything: its list of models."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.engines.served.failures import hidden
from harness.engines.served.settings import sendable

_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    """What was found, as the end of a sentence that begins with the server."""

    ok: bool
    text: str


def health(url: str, model: str | None, api_key_env: str | None) -> Health:
    """Asks a server for its models. Never raises for what a server does."""
    import openai

    key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
    if api_key_env and not key:
        return Health(False, f"was not asked: its key is not there, export {api_key_env}")
    if not sendable(key):
        return Health(False, f"was not asked: what {api_key_env} holds cannot be a key")
    client = openai.OpenAI(api_key=key or "none", base_url=url, max_retries=0, timeout=_SECONDS)
    client.organization = client.project = None
    try:
        listed = client.models.with_raw_response.list().http_response.json()
        names = [str(entry["id"]) for entry in listed["data"]]
    except openai.APIStatusError as error:
        if error.status_code in (401, 403):
            return Health(False, f"refuses the key in {api_key_env}" if api_key_env else "wants a key: set api_key_env")
        return Health(False, f"answers with status {error.status_code}; the URL usually ends in /v1")
    except openai.APIConnectionError as error:
        why = str(error.__cause__ or error) or type(error).__name__
        return Health(False, f"does not answer ({hidden(why, key)}); start it before a run")
    except (ValueError, KeyError, TypeError):
        return Health(False, "answers, but not as a chat server; the URL usually ends in /v1")
    finally:
        client.close()
    if model is not None and names and model not in names:
        return Health(False, f"answers, but serves {', '.join(names[:8])}")
    return Health(True, "answers")
