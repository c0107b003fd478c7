"""`docs/performance.md` says what `benchmarks/results` hold, and what they do not hold is not measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """`benchmarks/table.py` as a module."""
    spec = importlib.util.spec_from_file_location("performance_table", ROOT / "benchmarks" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_results_give(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.rendered(page) == page, "run python benchmarks/table.py"


def cells(script: ModuleType, folder: Path, start: str) -> list[str]:
    line = next(line for line in script.table(folder).splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(result))


def test_a_figure_without_a_result_is_not_measured(script: ModuleType, tmp_path: Path) -> None:
    assert all("not measured: no result yet" in line for line in script.table(tmp_path).splitlines()[2:])
    write(tmp_path, "vllm_overhead.json", {"small": True, "ratio": 1.0})
    assert "smoke run" in cells(script, tmp_path, "generation tokens/s, our vLLM engine")[3]


def test_a_null_says_why(script: ModuleType, tmp_path: Path) -> None:
    training = {"bare_step": {"mfu": 0.4}, "ours": None, "why": "trl is not here"}
    gpu = {"gpu": {"name": "One GPU"}, "training": training, "scoring": {"value": None, "why": "losses differ"}}
    write(tmp_path, "gpu.json", gpu)
    assert cells(script, tmp_path, "SFT on a GPU")[3] == "not measured: trl is not here"
    assert cells(script, tmp_path, "IFD scoring rows/s, GPU")[3] == "not measured: losses differ"
    bare = cells(script, tmp_path, "the same, a bare PyTorch step")
    assert (bare[3], bare[5]) == ("40.0 %", "One GPU")


def test_every_model_is_shown_and_a_miss_is_marked(script: ModuleType, tmp_path: Path) -> None:
    machine = {"cores": 2, "processor": "Some CPU"}
    models = {"random": {"ratio_wall": 1.7}, "pocket/chat": {"ratio_wall": 1.4}}
    write(tmp_path, "decode_speed.json", {"machine": machine, "models": models})
    found = cells(script, tmp_path, "generation tokens/s, transformers engine, CPU")
    assert found[3] == "**1.70 × (random), 1.40 × (pocket/chat), missed**"
    assert found[5] == "2 cores, Some CPU"
    write(tmp_path, "sft_speed.json", {"machine": machine, "models": [{"model": "pocket/base", "ratio": 1.01}]})
    assert cells(script, tmp_path, "SFT tokens/s")[3] == "1.01 × (pocket/base)"
