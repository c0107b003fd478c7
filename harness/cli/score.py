"""`loopbench score`: a suite on answers that exist already."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.scoring.scorer import Done

PAIRS = ("pairwise", "arena_hard")
"""Suite blocks whose grades alpaca-eval's annotations can hold."""


@click.command("score")
@click.argument("suite")
@click.option(
    "--outputs",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Answers: id and output, alpaca-eval's, FastChat's or lm-eval's; or EXPERIMENT/RECIPE. Repeat to compare.",
)
@click.option(
    "--verdicts",
    multiple=True,
    metavar="FILE",
    help="Recorded verdicts to replay (alpaca-eval's annotations, FastChat's judgements): one, or one per --outputs.",
)
@click.option("--judge", metavar="MODEL|YAML", help="Who judges: a model's folder, a judge (stand_in), or a YAML file.")
@click.option("--split", default="test", show_default=True, help="Which items the answers are to.")
@json_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write one JSON line per graded item, with its verdict; for *.json and pairs: alpaca-eval's annotations.",
)
def score_command(
    suite: str,
    outputs: tuple[str, ...],
    verdicts: tuple[str, ...],
    judge: str | None,
    split: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Score answers that exist already; no model under test is needed.

    An id is the item's own, or its index in the suite's source order. Items without an answer are missing and widen the
    interval; entries of no item, double ids and unreadable lines are mistakes (exit 2). Nothing graded is exit 3.

    For example: loopbench score gsm8k --outputs answers.jsonl
    """
    from harness import api
    from harness.scoring import print_scoring, scoring_text

    if output is not None:
        _check_output(output, suite)
    done = api.score(suite, outputs, verdicts=verdicts, judge=judge, split=split, progress=_progress)
    if output is not None:
        _write(output, done)
    if as_json:
        print_json(done.scoring.to_json() | ({"written": str(output)} if output is not None else {}))
        return
    if sys.stdout.isatty():
        print_scoring(done.scoring, sys.stdout)
    else:
        click.echo(scoring_text(done.scoring), nl=False)
    if output is not None:
        click.echo(f"{output}: every graded item")


def _progress(name: str, done: int, total: int) -> None:
    """Grades done so far, on a terminal only: a judge may take hours."""
    if sys.stderr.isatty():
        click.echo(f"\r{name}: {done:,} of {total:,} graded", nl=done >= total, err=True)


def _check_output(path: Path, suite: str) -> None:
    """Whether the file can be written, before a judge is asked anything."""
    from harness.blocks import registry
    from harness.config.single import load_suite
    from harness.errors import UserError

    if not path.parent.is_dir():
        raise UserError(f"-o {path}: there is no folder {path.parent}")
    if path.suffix == ".json" and load_suite(suite, registry).block_name not in PAIRS:
        raise UserError(
            f"-o {path}: a name that ends in .json asks for alpaca-eval's annotations, which only suites of pairs "
            f"have; name it {path.stem}.jsonl for one line per graded item"
        )


def _write(path: Path, done: Done) -> None:
    from harness.store.atomic import write_bytes

    if path.suffix == ".json":
        text = json.dumps(_annotations(done), ensure_ascii=False, indent=1)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False, default=dict) + "\n" for row in _graded(done))
    write_bytes(path, text.encode())


def _annotations(done: Done) -> list[dict[str, Any]]:
    """Every pair of all sources in alpaca-eval's form."""
    from harness.evaluate import annotation_rows

    suite = done.scoring.suite
    return [
        row
        for source, runs in done.graded.items()
        for run, graded in runs.items()
        for row in annotation_rows(
            done.items,
            done.answers[source][run],
            graded.grades,
            model=source,
            reference=str(suite.options.get("baseline") or "reference"),
        )
    ]


def _graded(done: Done) -> Iterator[dict[str, Any]]:
    """Every grade of all sources."""
    for source, runs in done.graded.items():
        for (data_seed, seed), graded in runs.items():
            where = {"outputs": source} | ({"seed": seed, "data_seed": data_seed} if len(runs) > 1 else {})
            for grade in graded.grades:
                yield where | {name: value for name, value in vars(grade).items() if value not in (None, "", {})}
