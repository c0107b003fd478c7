"""`loopbench apply ifd` on a file: every row in order, with its three scores or the reason why there are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.apply import apply_command

ROWS = [
    {"instruction": "Say it again.", "input": "the quick brown fox", "output": "the quick brown fox jumps"},
    {"instruction": "Say nothing.", "input": "", "output": ""},
    {"instruction": "the lazy dog", "input": "", "output": "seven small birds sing {here}"},
    {"instruction": "word " * 600, "input": "", "output": "the answer has no room"},
    {"instruction": "the lazy dog", "output": "sing\n\nin old trees"},
    {"instruction": "the lazy dog", "input": "", "output": "seven small birds sing {here}"},
]


def apply(rows: list[Any], model: Path, folder: Path, *settings: str) -> list[dict[str, Any]]:
    data, out = folder / "rows.json", folder / "out.jsonl"
    data.write_text(json.dumps(rows), encoding="utf-8")
    options = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(
        apply_command, ["ifd", "--data", str(data), "--model", str(model), *options, "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_every_row_in_order_with_its_scores(tiny: Path, tmp_path: Path) -> None:
    found = apply(ROWS, tiny, tmp_path, "variant=superfiltering", "max_length=512")
    assert [row["fields"]["output"] for row in found] == [row["output"] for row in ROWS]
    assert all(set(row["scores"]) == {"ifd", "ca", "da"} for row in found)
    missing = [row["scores"]["ifd"] is None for row in found]
    assert missing == [False, True, False, True, False, False]
    assert [row.get("tags", {}).get("ifd.problem") for row in found] == [
        None,
        "no answer",
        None,
        "no room for the answer",
        None,
        None,
    ]
    for row in found:
        if row["scores"]["ifd"] is not None:
            assert row["scores"]["ifd"] == pytest.approx(math.exp(row["scores"]["ca"] - row["scores"]["da"]))
    assert found[2]["scores"] == found[5]["scores"], "equal rows, equal scores"


def test_released_names_of_prompts_are_understood(tiny: Path, tmp_path: Path) -> None:
    plain = apply(ROWS[:1], tiny, tmp_path, "variant=none")
    assert plain[0]["scores"] == apply(ROWS[:1], tiny, tmp_path, "variant=superfiltering")[0]["scores"]
    assert apply(ROWS[:1], tiny, tmp_path, "variant=alpaca")[0]["scores"] != plain[0]["scores"]


def test_an_unknown_variant_is_named_with_those_that_exist(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    words = ["ifd", "--data", str(tmp_path / "rows.json"), "--model", str(tiny), "--set", "variant=cherry"]
    result = CliRunner().invoke(apply_command, [*words, "-o", str(tmp_path / "out.jsonl")])
    assert result.exit_code != 0
    assert "superfiltering" in str(result.output) + str(result.exception)
