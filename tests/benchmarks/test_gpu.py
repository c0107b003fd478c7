"""`benchmarks/gpu.py` runs where there is only torch and transformers, and says of the rest why it is empty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = (
    "accelerate", "alpaca_eval", "datasets", "lm_eval", "mlflow", "openai", "pandas", "peft", "pooch", "psutil",
    "pyarrow", "pydantic", "pydantic_core", "rensa", "ruamel", "scipy", "sklearn", "statsmodels", "trl", "vllm",
)  # fmt: skip
"""What loopbench needs and transformers does not."""
RUN = """
import runpy, sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
absent = lambda name, *more: None if name.partition(".")[0] in {absent} else find(name, *more)
PathFinder.find_spec = staticmethod(absent)
sys.argv = ["gpu.py", *{arguments}]
runpy.run_path({script}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a small run on the CPU without any package that need not be there."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    arguments = ["--device", "cpu", "--small", "--minutes", "0.5", "--only", "scoring,training,memory", "-o", str(out)]
    code = RUN.format(absent=set(ABSENT), arguments=arguments, script=repr(str(ROOT / "benchmarks" / "gpu.py")))
    there = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=out.parent, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_values_are_compared_and_times_are_there(result: dict[str, Any]) -> None:
    scoring = result["scoring"]
    assert scoring["values"]["float32"]["largest_difference"] <= 1e-4
    assert scoring["ratio"] > 0
    assert scoring["share_of_matmul"] > 0
    assert result["ceilings"]["copy"]["bytes_per_s"] > 0
    assert result["ceilings"]["matmul_bf16"]["flop_per_s"] > 0


def test_what_could_not_be_measured_is_null_and_says_why(result: dict[str, Any]) -> None:
    assert result["training"]["ours"] is None
    assert "pydantic" in result["training"]["why"]
    assert "trl" in result["training"]["why"]
    assert result["training"]["bare_step"]["mfu"] > 0
    assert result["memory"]["value"] is None
    assert {one["what"] for one in result["empty"]} == {"training", "memory"}


def test_hardware_and_versions_are_there(result: dict[str, Any]) -> None:
    assert result["versions"]["torch"]
    assert result["machine"]["cores"]
    assert result["gpu"] is None
