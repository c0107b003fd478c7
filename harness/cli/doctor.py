"""`loopbench doctor`: is this machine fit, and if not, what to do."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import click

from harness.cli.options import json_option, print_json

_TORCH = "import torch; print(torch.__version__, torch.cuda.device_count(), torch.version.cuda)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state`: ok, note (works, but worth knowing) or bad (will not work)."""

    what: str
    state: str
    text: str


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> int:
    """Check this machine and installation; exit code 2 where something will not work."""
    findings = [_python(), *_packages(), _torch(), _cores(), *_home(), _presets(), _models(), _tracking(), *_servers()]
    if as_json:
        print_json([asdict(f) for f in findings])
    else:
        for f in findings:
            click.echo(f"{f.state:<5} {f.what:<12} {f.text}")
    return 2 if any(f.state == "bad" for f in findings) else 0


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", "ok" if ok else "bad", sys.version.split()[0] + ("" if ok else ": needs 3.11 or newer"))


def _packages() -> list[Finding]:
    from packaging.requirements import Requirement

    findings = []
    for text in requires("loopbench") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            findings.append(Finding("package", "bad", f"{need} is not installed: pip install '{need}'"))
            continue
        if not need.specifier.contains(have, prereleases=True):
            findings.append(Finding("package", "bad", f"{need.name} {have} is installed, {need.specifier} is needed"))
    return findings or [Finding("packages", "ok", "all requirements are met")]


def _torch() -> Finding:
    done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return Finding("torch", "bad", (done.stderr.strip().splitlines() or ["it does not import"])[-1])
    torch, devices, cuda = done.stdout.split()
    where = f"{devices} CUDA devices" if devices != "0" else "CPU only"
    return Finding("torch", "ok", f"{torch} (CUDA {cuda}), {where}")


def _cores() -> Finding:
    from harness.loop.devices import cores, default_workers, visible_devices

    places = f"{len(visible_devices())} CUDA devices" if visible_devices() else "no CUDA device"
    return Finding("cores", "ok", f"{cores()} cores, {places}: {default_workers()} workers, one thread each")


def _home() -> list[Finding]:
    from harness.errors import UserError
    from harness.store.home import Home

    home = Home.find()
    try:
        home.prepare()
    except UserError as error:
        return [Finding("home", "bad", str(error))]
    free = shutil.disk_usage(home.path).free / 2**30
    space = Finding(
        "disk", "ok" if free > 2 else "note", f"{free:.0f} GiB free" + ("" if free > 2 else ": models may not fit")
    )
    return [Finding("home", "ok", str(home.path)), space]


def _presets() -> Finding:
    from harness import config

    names = config.names("experiment")
    return Finding("presets", "ok" if names else "bad", ", ".join(names) or "none found: reinstall loopbench")


def _models() -> Finding:
    pocket = importlib.import_module("harness.pocket")  # by name only: nothing depends on the embedded world
    missing = [name for name in pocket.MODELS if not (pocket.model_path(name) / "model.safetensors").exists()]
    return Finding(
        "pocket",
        "bad" if missing else "ok",
        f"models missing: {missing}; reinstall loopbench" if missing else "models present",
    )


def _tracking() -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return Finding("mlflow", "ok", "a SQLite file in the home (MLFLOW_TRACKING_URI is not set)")
    if not uri.startswith("http"):
        return Finding("mlflow", "ok", uri.split("@")[-1])
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
            return Finding("mlflow", "ok", f"{uri.split('@')[-1]} answers")
    except (OSError, urllib.error.URLError) as error:
        return Finding(
            "mlflow", "note", f"{uri.split('@')[-1]} does not answer ({error}); runs go on and are tracked later"
        )


def _servers() -> list[Finding]:
    """The served models of the experiments that are found by name here, and whether their servers answer."""
    from harness.config.single import served_models
    from harness.engines.served.health import health

    findings = []
    for served, where in served_models():
        answer = health(served.url or "", served.model, served.api_key_env)
        text = f"{served.model} at {served.url} ({where}) {answer.text}"
        findings.append(Finding("server", "ok" if answer.ok else "note", text))
    return findings
