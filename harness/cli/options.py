"""Options and output that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def experiment_argument(command: F) -> F:
    """The experiment: a name (beside you, in the project's folders or among the presets) or a path."""
    return click.argument("experiment", metavar="EXPERIMENT")(command)


def set_option(command: F) -> F:
    """`--set recipe.step.field=value`."""
    return click.option(
        "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change one field: ifd-10.top.keep=5%, seeds=1."
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: Any) -> None:
    """Prints a document to standard output."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=1, default=str))
