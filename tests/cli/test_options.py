"""The command line is an interface: a new option or command means changing this list on purpose."""

from __future__ import annotations

import importlib
import subprocess
import sys

from click.testing import CliRunner

from harness.cli.main import COMMANDS, main

OPTIONS = {
    "run": {"--set", "--workers", "--no-tracking", "--profile", "--json"},
    "plan": {"--set", "--stages", "--calibrate", "--json"},
    "status": {"--json"},
    "compare": {"--split", "--json"},
    "claims": {"--json"},
    "gate": {"--recipe", "--baseline", "--margin", "--write", "--json"},
    "rounds": {"--least-gain", "--json"},
    "show": {"--check", "--items", "--json"},
    "apply": {"--data", "--model", "--source", "--set", "--seed", "--output", "--dropped", "--json"},
    "score": {"--outputs", "--verdicts", "--judge", "--split", "--json", "--output"},
    "data": set(),
    "export": {"--data", "--seed", "--iteration", "--output", "--json"},
    "ui": {"--port", "--json"},
    "init": {"--json"},
    "doctor": {"--json"},
}
HEAVY = ("torch", "transformers", "trl", "mlflow", "pandas", "lm_eval", "alpaca_eval", "pydantic", "rich")


def test_commands_and_options_are_as_listed() -> None:
    assert set(COMMANDS) == set(OPTIONS)
    for name, wanted in OPTIONS.items():
        command = getattr(importlib.import_module(f"harness.cli.{name}"), f"{name}_command")
        given = {o for p in command.params for o in p.opts if o.startswith("--")}
        assert given == wanted, name


def test_help_names_every_command_and_exit_code() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    for code in ("0 done or passed", "1 gate failed", "2 usage", "cannot tell", "4 a stage failed", "70", "130/143"):
        assert code in " ".join(result.output.split())


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from harness.cli.main import main
main(["--help"], standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_a_bug_of_ours_is_shown_whole_with_its_own_code(monkeypatch: object) -> None:
    import click

    from harness.cli.main import Commands

    class Broken(Commands):
        def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
            @click.command("run")
            def broken() -> None:
                raise ZeroDivisionError("ours")

            return broken

    result = CliRunner().invoke(Broken(name="loopbench"), ["run"])
    assert result.exit_code == 70
    assert "ZeroDivisionError" in result.output
    assert "this is a bug of ours" in result.output
