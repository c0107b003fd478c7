"""`loopbench show`: what there is, and what each thing is."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal

import click

from harness.cli.explain import choices, print_document
from harness.cli.options import json_option, print_json

Kinds = Literal["experiments", "recipes", "suites", "datasets"]
_ENGINES = ("vllm",)
"""Engines whose options are explained."""
PRESETS: tuple[Kinds, ...] = ("experiments", "recipes", "suites", "datasets")


@click.command("show")
@click.argument("name", required=False)
@click.option(
    "--check",
    is_flag=True,
    help="Prove a suite on itself: gold answers full marks, others near zero; for `pocket` also the models' targets.",
)
@click.option(
    "--items",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Items per family for `show pocket --check`.",
)
@json_option
def show_command(name: str | None, check: bool, items: int, as_json: bool) -> int:
    """List recipes, suites, datasets, blocks and models; with a NAME, explain that one."""
    if check:
        return _check(name, items, as_json)
    document = _list() if name is None else _explain(name)
    if as_json:
        print_json(document)
    elif name is None:
        for heading, names in document.items():
            click.echo(f"{heading:<12} {', '.join(names)}")
        click.echo("\nloopbench show NAME explains one; a block as KIND.NAME (select.top) where two kinds share a name")
    else:
        print_document(document)
    return 0


def _list() -> dict[str, list[str]]:
    from harness import config
    from harness.blocks import registry

    models = importlib.import_module("harness.pocket").MODELS

    listing: dict[str, list[str]] = {kind: list(config.names(kind)) for kind in PRESETS}
    listing |= {kind: registry.names(kind) for kind in registry.kinds()}
    return listing | {"models": [*models, "pocket/oracle"], "engines": list(_ENGINES)}


def _explain(name: str) -> dict[str, Any]:
    import difflib

    from harness import config
    from harness.blocks import registry
    from harness.errors import UserError

    found: dict[str, Any] = {}
    for kind in PRESETS:
        if name in config.names(kind):
            path = config.preset_path(kind, name)
            found[kind] = {"file": str(path), "text": path.read_text(encoding="utf-8")}
    wanted, _, short = name.rpartition(".")
    for block_kind in registry.kinds():
        if short in registry.names(block_kind) and wanted in ("", block_kind):
            found[f"{block_kind} block"] = _block(registry.get(block_kind, short))
    if "recipes" in found:
        found |= _steps(found["recipes"]["text"])
    if name.startswith("pocket/"):
        found |= _model(name)
    if name in _ENGINES:
        found["engine"] = _engine(name)
    if not found:
        known = sorted({n for names in _list().values() for n in names})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"there is nothing named {name!r}{hint} `loopbench show` lists all names")
    return {"name": name} | found


def _steps(text: str) -> dict[str, Any]:
    """The blocks of a recipe's steps, each with what the recipe sets of its options."""
    from ruamel.yaml import YAML

    from harness.blocks import registry

    found: dict[str, Any] = {}
    for step in YAML(typ="safe", pure=True).load(text).get("steps") or ():
        verb = next((kind for kind in registry.kinds() if kind in step), None)
        if verb is None or step[verb] not in registry.names(verb):
            continue
        heading = f"step {step.get('as', step[verb])}: {verb} {step[verb]}"
        again = sum(one == heading or one.startswith(f"{heading}, ") for one in found)
        found[f"{heading}, {again + 1}" if again else heading] = _block(registry.get(verb, step[verb]), step)
    return found


def _block(block: Any, step: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a block is, and its options; `step` is a recipe's, which sets some of them."""
    options = {}
    for option, info in block.model_fields.items():
        extra = info.json_schema_extra or {}
        default = "required" if info.is_required() else info.get_default(call_default_factory=True)
        options[option] = {
            "default": _default(default),
            "unit": extra.get("unit"),
            "what": info.description,
            "source": extra.get("source"),
            "choices": choices(info.annotation),
            "changes": "the result (part of the stage key)" if extra.get("class") == "identity" else "only how it runs",
        }
        if step is not None:
            options[option]["here"] = _written(step[option]) if option in step else None
    what = inspect.cleandoc(block.__doc__ or "")
    return {"block": f"{block.kind} {block.name}", "version": block.version, "what": what, "options": options}


def _written(value: Any) -> str:
    """A value on one line, as a recipe may write it."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_written(one)}' for name, one in value.items())}}}"
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_written(one) for one in value)}]"
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def _default(value: Any) -> int | float | str | bool | None:
    """A default as a configuration would say it."""
    return value if isinstance(value, int | float | str | bool | None) else _written(value)


def _engine(name: str) -> dict[str, Any]:
    """The options of an engine, as a model's `options:` gives them."""
    from harness.engines.vllm.options import VllmOptions

    options = {}
    for option, info in VllmOptions.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        options[option] = {
            "default": info.default,
            "unit": extra.get("unit"),
            "what": info.description,
            "source": None,
            "changes": "the result (part of the stage key)" if extra.get("class") == "identity" else "only how it runs",
        }
    return {"version": "0.32", "what": (VllmOptions.__doc__ or "").strip(), "options": options}


def _model(name: str) -> dict[str, Any]:
    pocket = importlib.import_module("harness.pocket")  # by name only: nothing depends on the embedded world
    if name not in pocket.MODELS:
        return {}
    folder = pocket.model_path(name)
    return {"model": {"folder": str(folder), "text": (folder / "README.md").read_text(encoding="utf-8")}}


def _check(name: str | None, items: int, as_json: bool) -> int:
    from harness.errors import UserError

    if name is None:
        raise UserError(
            "--check needs a name: a suite's (`loopbench show gsm8k --check`), or `pocket` for the models too"
        )
    rows = _check_suite(name) + (_check_models(items) if name == "pocket" else [])
    if as_json:
        print_json({"name": name, "checks": rows})
    else:
        for row in rows:
            interval = f"[{row['low']:.3f} {row['high']:.3f}]" if row["low"] is not None else ""
            missing = f" missing={row['missing']}" if row["missing"] else ""
            word = "ok  " if row["passed"] else "MISS"
            value = "nothing graded" if row["value"] is None else f"{row['value']:.3f}"
            judge = "" if row["judge"] in (None, "none") else f"   ({row['judge']})"
            click.echo(
                f"{word} {row['target']:<44} {value} {interval} n={row['n']}{missing} wanted {row['wanted']}{judge}"
            )
    return 0 if all(row["passed"] for row in rows) else 1


def _check_models(items: int) -> list[dict[str, Any]]:
    """The pocket models' targets."""
    targets = importlib.import_module("harness.pocket.check").check(items_per_family=items)
    return [
        {
            "target": t.name,
            "value": t.value,
            "low": t.low,
            "high": t.high,
            "n": t.n,
            "missing": 0,
            "wanted": t.target,
            "passed": t.passed,
            "judge": None,
        }
        for t in targets
    ]


def _check_suite(name: str) -> list[dict[str, Any]]:
    """What a suite proves about itself."""
    from harness.blocks import registry
    from harness.config.single import load_suite
    from harness.evaluate._selfcheck import selfcheck

    suite = load_suite(name, registry)
    return [
        {
            "target": f"{c.name} answers, {c.metric}",
            "value": c.value,
            "low": c.low,
            "high": c.high,
            "n": c.n,
            "missing": c.missing,
            "wanted": c.wanted,
            "passed": c.passed,
            "judge": c.judge,
        }
        for c in selfcheck(suite.block, suite.judge)
    ]
