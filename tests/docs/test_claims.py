"""`docs/claims.md`: its example is in the form that is read, and its table names every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.config.claims import RecipeClaim, RowsClaim, ScorerClaim, claim_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "claims.md"


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.is_file():
        pytest.skip(f"{PAGE} is not part of this installation")
    return PAGE.read_text(encoding="utf-8")


def test_the_example_has_one_claim_of_each_form(page: str) -> None:
    from ruamel.yaml import YAML

    block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert block is not None
    data: Any = YAML(typ="safe").load(block[1])
    assert [type(claim_of(raw)) for raw in data["claims"]] == [RecipeClaim, ScorerClaim, RowsClaim]


def test_the_table_names_every_key(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[2])}
    assert named == {*RecipeClaim.model_fields, *ScorerClaim.model_fields, *RowsClaim.model_fields}
