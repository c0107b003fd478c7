"""What the installed package promises: it is the wheel, it is whole, and it starts without the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "mlflow",
    "pandas",
    "lm_eval",
    "alpaca_eval",
    "scipy",
    "ray",
)
IN_WHEEL = pytest.mark.skipif("LOOPBENCH_TEST_WHEEL" not in os.environ, reason="only tox tests the built wheel")


def loaded_after(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has imported after `code`."""
    probe = f"{code}\nimport sys\nprint('loaded:', *[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].split()


@pytest.mark.parametrize(
    "code",
    [
        "import harness",
        "import harness.cli.main",
        "import harness.loop",
        "import harness.tracking",
        "import harness.analysis",
        "import harness.stats",
        "from harness.blocks import registry\nfor kind in registry.kinds():\n    registry.names(kind)",
        "from harness import config\nfrom harness.blocks import registry\nconfig.load('quickstart', registry)",
    ],
    ids=["package", "cli", "loop", "tracking", "analysis", "stats", "all blocks", "config"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert loaded_after(code) == []


@IN_WHEEL
def test_the_wheel_is_what_is_tested() -> None:
    import harness

    assert "site-packages" in Path(harness.__file__).parts


@IN_WHEEL
@pytest.mark.parametrize("folder", ["datasets_cfg", "evalsuites", "experiments", "experiments/recipes"])
def test_the_wheel_carries_the_presets(folder: str) -> None:
    names = [p.name for p in resources.files("harness").joinpath("_presets", folder).iterdir()]
    assert [n for n in names if n.endswith(".yaml")]


@pytest.mark.parametrize("name", ["base", "chat"])
def test_the_pocket_models_are_there(name: str) -> None:
    folder = resources.files("harness").joinpath("pocket", "models", name)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}


def test_the_types_are_announced() -> None:
    assert resources.files("harness").joinpath("py.typed").is_file()


@IN_WHEEL
def test_the_command_and_its_version() -> None:
    import harness

    (command,) = (e for e in metadata.entry_points(group="console_scripts") if e.name == "loopbench")
    assert command.value == "harness.cli.main:main"
    assert metadata.version("loopbench") == harness.__version__
