"""`loopbench export`: a recipe's model or training data as ordinary files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option, print_json


@click.command("export")
@click.argument("what", metavar="EXPERIMENT/RECIPE")
@click.option("--data", "only_data", is_flag=True, help="The rows that trained the model (JSONL), not the model.")
@click.option("--seed", type=int, default=None, help="Training seed (default: the first).")
@click.option("--iteration", type=click.IntRange(min=1), default=None, help="Iteration (default: the last).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for a model, file for data; must not exist.",
)
@json_option
def export_command(
    what: str, only_data: bool, seed: int | None, iteration: int | None, output: Path, as_json: bool
) -> None:
    """Copy a recipe's model or data out of the store, with a note of where it came from."""
    from harness.errors import UserError
    from harness.store.artifacts import Store
    from harness.store.home import Home

    if output.exists():
        raise UserError(f"{output} exists already: name another place, so that nothing is overwritten")
    store = Store(Home.find())
    grid, turn, name = _find(store, what, seed, iteration)
    key = turn["model"]
    if key is None or not store.done("model", key):
        raise UserError(f"{name} has no finished model: `loopbench status {grid['experiment']}` says what is missing")
    count = _data(store, grid, turn, output) if only_data else _model(store, key, name, output)
    if as_json:
        print_json(
            {"exported": "data" if only_data else "model", "from": name, "key": key, "path": str(output), "rows": count}
        )
    else:
        click.echo(f"{output}: {f'{count:,} rows' if only_data else 'the model'} of {name}")


def _find(store: Any, what: str, seed: int | None, iteration: int | None) -> tuple[dict[str, Any], dict[str, Any], str]:
    from harness.errors import UserError

    experiment, _, recipe = what.partition("/")
    path = store.home.grid_file(experiment)
    if not path.exists():
        raise UserError(
            f"{experiment!r} was never run in {store.home.path}; write EXPERIMENT/RECIPE, such as quickstart/magpie"
        )
    grid = json.loads(path.read_text())
    cells = [c for c in grid["cells"] if c["recipe"] == recipe and seed in (None, c["seed"])]
    if not cells:
        known = ", ".join(sorted({f"{c['recipe']} s{c['seed']}" for c in grid["cells"]}))
        raise UserError(f"{experiment} has no recipe {recipe!r} with that seed; it has {known}")
    if len({(c["student"], c["data_seed"]) for c in cells}) > 1:
        raise UserError(
            f"{what} was run for several students or data seeds, so it is not clear which is meant: its "
            f"models are under {store.home.runs / experiment / recipe}"
        )
    turns = cells[0]["iterations"]
    if iteration is not None and iteration > len(turns):
        raise UserError(f"{what} has {len(turns)} iterations, not {iteration}")
    turn = turns[(iteration or len(turns)) - 1]
    return grid, turn, f"{what} s{cells[0]['seed']} i{turn['iteration']}"


def _model(store: Any, key: str, name: str, output: Path) -> int:
    folder = store.open("model", key)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "model", partial)
    (partial / "loopbench.json").write_text(json.dumps({"from": name} | store.manifest("model", key), indent=1))
    partial.rename(output)
    return 0


def _data(store: Any, grid: dict[str, Any], turn: dict[str, Any], output: Path) -> int:
    from dataclasses import asdict

    from harness.loop.inputs import load
    from harness.loop.stage import Input
    from harness.store.atomic import write_bytes

    stage = grid["stages"][turn["train"][-1]]
    rows = load(store, [Input(**reads) for reads in stage["reads"]])
    lines = [json.dumps(asdict(row), ensure_ascii=False) for row in rows]
    write_bytes(output, ("\n".join(lines) + "\n").encode())
    return len(lines)
