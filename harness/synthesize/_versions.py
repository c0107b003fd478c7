"""Versions of a chunk: as it is, and rewritten by the model, once per chunk."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.blocks.kinds import Reply, Request, Sampling, Tolerant
from harness.errors import UserError
from harness.records.example import Dropped, Example, Message, Origin
from harness.synthesize._drafts import CUT, DUPLICATE, NOTHING, Draft, alive, at
from harness.synthesize._lab import Bench

Rewrite = Literal["spelling", "detailed_summary", "extractive_summary", "atomic_facts"]
BASE = "base_document"
NO_PAIR = "auxiliary: no pair of the rewrite was kept"


@dataclass(frozen=True)
class Version:
    """One text of a chunk. `kind` is `base_document` or the rewrite's name."""

    kind: str
    text: str


def versions(
    bench: Bench, rewrites: Sequence[Rewrite], max_tokens: int, drafts: list[Draft]
) -> Generator[Sequence[Request], Sequence[Reply], list[Version]]:
    """The chunk and its rewrites; one that cannot be used joins the drafts with its reason."""
    data = bench.item.data
    made = [Version(BASE, str(data["text"]))]
    if not rewrites:
        return made
    about = {name: str(data[name]) for name in ("leaf", "domain", "document_outline")}
    values = {**about, "document": str(data["text"])}
    sampling = Sampling(max_tokens=max_tokens)
    replies = yield Tolerant(bench.ask(kind, values, sampling, at(kind, bench.block.stages, 0)) for kind in rewrites)
    for kind, reply in zip(rewrites, replies, strict=True):
        text, why = _text(bench, kind, reply)
        if why is None:
            made.append(Version(kind, text))
        else:
            draft = Draft(len(drafts), {**values, "dataset_type": kind})
            draft.drop("rewrite", why, text)
            drafts.append(draft)
    return made


def _text(bench: Bench, kind: str, reply: Any) -> tuple[str, str | None]:
    if isinstance(reply, Exception):
        return str(reply), f"failed ({type(reply).__name__})"
    completion = reply[0]
    if completion.finish == "length":
        return completion.text, CUT
    found = bench.found(kind, completion.text)
    return (found[0][0], None) if found else (completion.text, NOTHING)


def auxiliary(bench: Bench, made: Sequence[Version], drafts: Sequence[Draft]) -> list[Example | Dropped]:
    """Rows that ask for a rewrite of the chunk, in a wording drawn for each.

    As in the released data mixing (`_create_auxiliary_dataset`), which works on the pairs that the judges left: a
    rewrite without such a pair gives no row, and one text gives one row.

    Raises:
        UserError: the pack has no wording for a rewrite.
    """
    used = {(draft.values.get("dataset_type"), draft.values.get("document")) for draft in alive(drafts)}
    rows: list[Example | Dropped] = []
    seen: set[str] = set()
    for number, version in enumerate(made[1:], start=len(drafts)):
        row = _auxiliary(bench, version, number)
        kept = (version.kind, version.text) in used
        why = f"auxiliary: {DUPLICATE}" if version.text in seen else NO_PAIR
        rows.append(row if kept and version.text not in seen else Dropped(row, why))
        seen.update([version.text] if kept else [])
    return rows


def _auxiliary(bench: Bench, version: Version, number: int) -> Example:
    context, data = bench.context, bench.item.data
    entry = f"lab_auxiliary_{version.kind}"
    wordings = [line.strip() for line in context.prompts.get(entry, "").splitlines() if line.strip()]
    if not wordings:
        raise UserError(f"lab_knowledge with `auxiliary: true` needs the prompt {entry!r}, one wording per line")
    wording = context.rng(bench.item.id, version.kind).choice(wordings)
    name = f"{bench.item.id}/{context.block}/{context.iteration}.{number}"
    return Example(
        id=name,
        group=name,
        messages=(
            Message(role="user", content=f"{data['text']}\n\n{wording}"),
            Message(role="assistant", content=version.text),
        ),
        fields={"dataset_type": version.kind, "chunk": bench.item.id, "domain": data["domain"]},
        tags={
            "leaf": str(data["leaf"]),
            "leaf_kind": "knowledge",
            "category": str(data["category"]),
            "part": "auxiliary",
        },
        origin=Origin(
            block=bench.block.name,
            parents=(str(data["parent"]),),
            model=bench.block.model,
            iteration=context.iteration,
        ),
    )
