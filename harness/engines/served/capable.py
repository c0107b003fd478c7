"""What a served model can be asked, told without loading or calling anything."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from harness.engines.base import Capability, ModelSpec
from harness.engines.families import family_of
from harness.engines.served.offer import Offer, Silent, kept, offer_of, told
from harness.engines.served.settings import Served
from harness.engines.served.tokens import check_body
from harness.records.templates import own_template
from harness.store.home import Home

log = logging.getLogger(__name__)
_MESSAGES: frozenset[Capability] = frozenset({"generate"})


def offered(spec: ModelSpec) -> frozenset[Capability]:
    """What can be asked of a served model.

    A server whose model has no known tokenizer only answers conversations. One with `tokenizer:` is taken to have what
    vLLM's have until it was asked once (`ready`). A folder that loopbench serves itself has that, and weights.
    """
    if spec.remote and spec.path is None:
        return _MESSAGES
    if not spec.remote and family_of(spec.path) != "causal":
        return frozenset()
    offer = _known(spec)
    found: set[Capability] = {"generate", "continue"}
    if offer is None or offer.logprobs:
        found.add("logprobs")
    if spec.path is None or own_template(spec.path) is not None:
        found.add("turns")
    if not spec.remote:
        found.add("weights")
    return frozenset(found)


def lacking(spec: ModelSpec) -> str:
    """What a server said to what it lacks, where that is known; empty else."""
    offer = _known(spec)
    return "" if offer is None else "; ".join((offer.lacks or {}).values())


def check(spec: ModelSpec) -> None:
    """Refuses settings that cannot work, without a call.

    Raises:
        UserError: names the setting.
    """
    served = Served.of(spec)
    if spec.path is not None and spec.remote:
        check_body(served)
    if served.local:
        from harness.engines.loading import check_folder
        from harness.engines.served.local import theirs
        from harness.engines.vllm.checks import check as check_vllm

        check_folder(spec)
        check_vllm(theirs(spec))


def ready(spec: ModelSpec) -> None:
    """Refuses a server whose key is not there, or that is found to take no token ids though `tokenizer:` is given.

    It is asked for one token, twice, and once per home. One that does not answer now is asked when it is needed. For a
    folder, vLLM must be here.

    Raises:
        UserError: names the variable, or what the server or this machine lacks.
    """
    if not spec.remote:
        from harness.engines.served.local import ready as ready_local

        ready_local(spec)
        return
    served = Served.of(spec)
    served.key()
    if spec.path is None:
        return
    try:
        offer_of(served, spec.path, Home.find()).require(served)
    except Silent as error:
        log.warning("%s", error)


def facts(spec: ModelSpec) -> dict[str, Any]:
    """What the records of a stage tell of a server that was asked what it offers; empty for all other models."""
    offer = told(Served.of(spec), spec.path, Home.find()) if spec.remote and spec.path is not None else None
    return {} if offer is None else {name: value for name, value in asdict(offer).items() if value is not None}


def _known(spec: ModelSpec) -> Offer | None:
    if not spec.remote or spec.path is None:
        return None
    return kept(Served.of(spec), spec.path, Home.find())
