"""`loopbench apply`: one block on a file, without an experiment."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option, print_json


@click.command("apply")
@click.argument("block")
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Rows: messages, Alpaca, ShareGPT, ... (detected). Only a block that makes rows from nothing needs none.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[ROLE=]MODEL",
    help="A model folder or a bundled model (pocket/chat), for blocks that need one; with ROLE= for that role alone.",
)
@click.option(
    "--source", "sources", multiple=True, metavar="ROLE=FILE", help="Rows that the block reads besides, by their name."
)
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the block.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="JSONL of the rows that come out.",
)
@click.option(
    "--dropped",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSONL of the rows that were dropped, with reasons.",
)
@json_option
def apply_command(
    block: str,
    data: Path | None,
    models: tuple[str, ...],
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    seed: int,
    output: Path,
    dropped: Path | None,
    as_json: bool,
) -> None:
    """Run one synthesizer, scorer, selector or pair builder on a file.

    For example: loopbench apply ifd --data rows.json --model PATH -o out.jsonl
    """
    from harness import config
    from harness.blocks import registry
    from harness.loop.apply import apply

    found = _class(registry, block)
    made = config.load_block(found.kind, found.name, list(settings), registry)
    model, by_role = _models(models, made, registry)
    with tempfile.TemporaryDirectory(prefix="loopbench-") as folder:
        result = apply(
            made,
            _rows_of(config.load_dataset(data, registry), made) if data is not None else None,
            model,
            seed,
            Path(folder),
            sources={role: config.load_dataset(place, registry) for role, place in _pairs(sources).items()},
            models=by_role,
        )
        _write(output, _with_vectors([_row(row) for row in result.rows], result.vectors))
        if dropped is not None:
            _write(dropped, [_row(d.example) | {"reason": d.reason} for d in result.dropped])
    counts = {"rows": len(result.rows), "dropped": result.reasons}
    if as_json:
        print_json(counts | {"output": str(output)})
    else:
        why = ", ".join(f"{n:,} {reason}" for reason, n in result.reasons.items())
        click.echo(f"{output}: {counts['rows']:,} rows" + (f"; dropped: {why}" if why else ""))


def _rows_of(data: Any, block: Any) -> Any:
    """All rows for a scorer: one without an answer comes out with its scores missing, it does not stop the reading."""
    return data.model_copy(update={"require_answer": False}) if block.kind == "score" else data


def _models(texts: tuple[str, ...], block: Any, registry: Any) -> tuple[Any, dict[str, Any]]:
    """The model of all roles, if any, and those of single roles; what begins with no role of the block is a path."""
    from harness import config
    from harness.errors import UserError

    roles = {*block.roles().values()}
    own = {text: text.partition("=") for text in texts}
    named = [(role, place) for role, _, place in own.values() if role in roles and place]
    others = [text for text, (role, _, place) in own.items() if not (role in roles and place)]
    if len(others) > 1 or len({role for role, _ in named}) < len(named):
        known = ", ".join(sorted(roles)) or "none"
        raise UserError(
            f"--model {texts[-1]}: give one model for all roles, or one for each as ROLE=PATH (roles: {known})"
        )
    model = config.load_model(others[0], registry) if others else None
    return model, {role: config.load_model(place, registry) for role, place in named}


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    from harness.errors import UserError

    bad = next((text for text in texts if not all(text.partition("="))), None)
    if bad is not None:
        raise UserError(f"--source {bad}: write ROLE=FILE, such as documents=docs.jsonl")
    return {role: place for role, _, place in (text.partition("=") for text in texts)}


def _class(registry: Any, name: str) -> Any:
    from harness.errors import UserError

    kind, _, short = name.rpartition(".")
    kinds = [k for k in ("synthesize", "score", "select", "pair") if kind in ("", k) and short in registry.names(k)]
    if len(kinds) > 1:
        raise UserError(f"{name!r} is the name of several blocks: write {' or '.join(f'{k}.{short}' for k in kinds)}")
    if not kinds:
        raise UserError(registry.unknown(kind or "select", short))
    return registry.get(kinds[0], short)


def _row(row: Any) -> dict[str, Any]:
    from dataclasses import asdict

    whole = asdict(row) | {"tags": {name: tag for name, tag in row.tags.items() if tag is not None}}
    return {name: value for name, value in whole.items() if value not in (None, (), [], {})} | {
        "scores": dict(row.scores)
    }


def _with_vectors(rows: list[dict[str, Any]], vectors: Any) -> list[dict[str, Any]]:
    for name, found in vectors.items():
        for row, vector in zip(rows, found, strict=True):
            row.setdefault("vectors", {})[name] = None if vector[0] != vector[0] else vector.tolist()
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from harness.store.atomic import write_bytes

    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
