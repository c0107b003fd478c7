"""docs/judges.md: its example is a configuration, and its table holds every setting of a served model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.blocks import registry
from harness.config.document import Mark, Problems, parse
from harness.config.models import SERVED, read_models
from harness.engines.served.settings import CONCURRENCY, DEADLINE, TIMEOUT

PAGE = Path(__file__).parents[2] / "docs" / "judges.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="docs/ is not beside the tests (an installed package)")


def test_the_example_binds_a_served_judge(tmp_path: Path) -> None:
    block = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    problems = Problems()
    document = parse(block, Mark("judges.md", None, tmp_path), problems)
    assert document is not None
    models = read_models(document.root().child("models"), registry, problems)
    assert models["judge"].engine == "openai"
    assert models["judge"].prices is not None
    assert all("models/small" in str(problem) for problem in problems._found), "only its folder is missing"


def test_the_table_holds_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() | {"model", "api_key_env"} >= SERVED
    assert (rows["concurrency"], rows["deadline"], rows["timeout"]) == (
        str(CONCURRENCY),
        f"{DEADLINE:g}",
        f"{TIMEOUT:g}",
    )
