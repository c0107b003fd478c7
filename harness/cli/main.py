"""The `loopbench` command: a table of sub-commands, imported only when they run, so that `--help` answers at once.

Here is the one border where errors become exit codes: a mistake by the user prints one paragraph, a bug of ours its
traceback. See `harness.errors` for the codes.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import click

from harness import __version__
from harness.errors import EXIT_INTERNAL, LoopbenchError

COMMANDS: dict[str, str] = {
    "run": "Run an experiment, or go on with it.",
    "plan": "Show the stages of an experiment and what they will cost, without running them.",
    "status": "Show how far an experiment is.",
    "compare": "Which recipe is better, and is the difference real?",
    "claims": "Which claims of an experiment hold?",
    "rounds": "What each iteration of a loop did, and whether another one pays.",
    "gate": "Pass, fail or cannot tell: a verdict for CI.",
    "show": "List what there is; with a name, explain it.",
    "apply": "Run one block on a file.",
    "score": "Score answers that exist already with a suite.",
    "data": "Look at a source of rows: what is in it, and which test items are.",
    "export": "Copy a recipe's model or data out of the store.",
    "ui": "Open MLflow on this machine.",
    "init": "Copy the preset experiments, recipes, suites and data sources into a folder.",
    "doctor": "Check this machine and installation.",
}


class Commands(click.Group):
    """Finds a sub-command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"harness.cli.{name}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        try:
            code: Any = super().main(*args, standalone_mode=False, **kwargs)  # type: ignore[call-overload]
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted; finished work is kept, the same command goes on", err=True)
            code = 130
        except LoopbenchError as error:
            click.echo(f"loopbench: {error}", err=True)
            code = error.exit_code
        except Exception:  # noqa: BLE001 - the command border: our bug, shown whole
            click.echo(traceback.format_exc(), err=True)
            click.echo("loopbench: this is a bug of ours; finished work is kept", err=True)
            code = EXIT_INTERNAL
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="loopbench")
def main() -> None:
    """Which data recipe makes the better model, and is the difference real?

    Start with `loopbench run quickstart`: four recipes compete on this machine, with nothing else needed.

    Exit codes: 0 done or passed, 1 gate failed, 2 usage or configuration, 3 cannot tell, 4 a stage failed (finished
    work is kept), 70 internal error, 130/143 interrupted.
    """
