"""`loopbench claims`: which claims of an experiment hold."""

from __future__ import annotations

import sys

import click

from harness.cli.options import json_option, print_json


@click.command("claims")
@click.argument("experiment")
@json_option
def claims_command(experiment: str, as_json: bool) -> None:
    """Which claims hold: measured difference with interval, verdict, and what would settle an open one.

    Claims stand in the experiment's file under `claims:`. Exit code 3 where nothing was measured, 2 where the
    experiment makes none.
    """
    from harness import api
    from harness.errors import UserError

    claims = api.claims(experiment)
    if claims is None:
        raise UserError(f"{experiment} makes no claims: list them under `claims:` in its file, and run it")
    if as_json:
        print_json(claims.to_json())
        return
    from harness.analysis.claim_text import print_claims

    print_claims(claims, sys.stdout)
