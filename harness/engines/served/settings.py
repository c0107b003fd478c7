"""How a served model is reached and what it costs, read from the options of its spec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from harness.engines.base import ModelSpec
from harness.errors import UserError

CONCURRENCY = 32
DEADLINE = 600.0
TIMEOUT = 120.0
MILLION = 1_000_000
LOCAL = ("concurrency", "deadline", "timeout", "experiment", "usd_limit")
"""Options of a model that loopbench serves itself which are not its server's."""
LOCAL_NAME = "served"
LOCAL_CONCURRENCY = 128
LOCAL_DEADLINE = 3600.0
"""Seconds. Requests queue in the server, and its end is seen at once: this is for one that hangs."""


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of one reply."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / MILLION


@dataclass(frozen=True, kw_only=True)
class Served:
    """One served model. Only `identity` (from URL, name and extra fields) and `body` decide what it answers."""

    name: str
    """For messages."""
    identity: str
    url: str
    model: str
    api_key_env: str | None = None
    prices: Prices | None = None
    concurrency: int = CONCURRENCY
    """Calls under way at once, of all processes that use one home together."""
    deadline: float = DEADLINE
    """Seconds that one request may take, all its tries and waits together."""
    timeout: float = TIMEOUT
    """Seconds that one try may take."""
    length_field: str = "max_tokens"
    """What the server calls the length limit (newer models of OpenAI: `max_completion_tokens`)."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request; null takes a field out."""
    experiment: str = ""
    """Whose ledger counts the money."""
    usd_limit: float | None = None
    local: bool = False
    """Whether loopbench starts the server; `url` is then known once it runs."""

    @classmethod
    def of(cls, spec: ModelSpec) -> Served:
        """The settings in a spec: a server's at `url`, or, for a folder, those of one that loopbench starts.

        Raises:
            UserError: no URL, no model name, or an option that a served model does not have.
        """
        if spec.path is not None and not spec.remote:
            return cls.of_folder(spec)
        options = {name: value for name, value in spec.options.items() if value is not None}
        known = {f.name for f in fields(cls)} - {"name", "identity", "local"}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise UserError(
                f"the served model {spec.name} has no option {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        for name, what in (("url", "the server's URL"), ("model", "the name under which the server knows it")):
            if not options.get(name):
                raise UserError(f"the served model {spec.name} needs `{name}:`, {what}")
        if isinstance(prices := options.get("prices"), Mapping):
            options["prices"] = Prices(float(prices["prompt"]), float(prices["completion"]))
        options["url"] = str(options["url"]).rstrip("/")
        return cls(name=spec.name, identity=spec.revision, **options)

    @classmethod
    def of_folder(cls, spec: ModelSpec) -> Served:
        """The settings of a model that loopbench serves itself; its address comes when its server is started.

        Its options are those of the server, but for the ones of `LOCAL`, which are ours.
        """
        own = {name: value for name, value in spec.options.items() if name in LOCAL and value is not None}
        patient = {"concurrency": LOCAL_CONCURRENCY, "deadline": LOCAL_DEADLINE, "timeout": LOCAL_DEADLINE}
        return cls(name=spec.name, identity=spec.revision, url="", model=LOCAL_NAME, local=True, **(patient | own))

    @property
    def where(self) -> str:
        """The model and its server, as messages name them."""
        return f"the server of {self.name}" if self.local else f"{self.model} at {self.url}"

    @property
    def server(self) -> str:
        """Host and port: who shares a limit of concurrency."""
        return urlsplit(self.url).netloc

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What a reply costs, in US dollars; 0 where no price is known."""
        return 0.0 if self.prices is None else self.prices.usd(prompt_tokens, completion_tokens)

    def key(self) -> str | None:
        """The key from the environment; None for a server that wants none.

        Raises:
            UserError: `api_key_env` names a variable that is not set, or whose value no header can hold.
        """
        if self.api_key_env is None:
            return None
        if not (key := os.environ.get(self.api_key_env, "").strip()):
            raise UserError(
                f"the key for {self.where} is not there: export {self.api_key_env} (named by `api_key_env`), then run "
                "the same command again"
            )
        if not sendable(key):
            raise UserError(
                f"the key in {self.api_key_env} cannot be sent: it holds a space, a line break or a letter that is not "
                "ASCII. Export the key alone, then run the same command again"
            )
        return key


def sendable(key: str) -> bool:
    """Whether a header can hold a key. Else the client library's error would quote the header, and thereby the key."""
    return key.isascii() and key.isprintable() and " " not in key
