"""Blocks: every option classified, names found without imports, foreign packages may join but not override."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest
from pydantic import Field

from harness.blocks import registry
from harness.blocks.base import Block, Kind, ModelRole, identity, option_class, runtime
from harness.blocks.kinds import Selector
from harness.errors import UserError


class Foreign(Selector):
    """A block of another package."""

    name: ClassVar[str] = "foreign"
    level: int = identity(1, description="How much.")
    model: ModelRole = identity("student", description="Whose.")
    batch: int = runtime(8, description="How many at once.")

    def select(self, table: Any, context: Any) -> list[str | None]:
        return [None] * len(table)


class Unfinished(Selector):
    """A block of another package that lacks its method."""

    name: ClassVar[str] = "unfinished"


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=registry.GROUP)


@pytest.mark.parametrize("kind", registry.kinds())
def test_every_option_of_every_block_is_classified_and_described(kind: Kind) -> None:
    for name in registry.names(kind):
        block = registry.get(kind, name)
        for option, info in block.model_fields.items():
            assert option_class(info) in ("identity", "runtime"), f"{name}.{option}"
            assert info.description, f"{name}.{option} has no description"


def test_an_unclassified_option_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Loose: declare size with identity\(\.\.\.\) or runtime\(\.\.\.\)"):

        class Loose(Selector):
            name: ClassVar[str] = "loose"
            size: int = Field(3, description="Forgotten.")


def test_roles_and_runtime_options_stay_out_of_the_key() -> None:
    block = Foreign(level=2, model="teacher", batch=64)
    assert block.identity_options() == {"level": 2}
    assert block.roles() == {"model": "teacher"}


def test_an_unknown_block_names_the_nearest() -> None:
    with pytest.raises(registry.UnknownBlock, match=r"no select block named 'tpo'; did you mean 'top'\?"):
        registry.get("select", "tpo")


def test_a_package_may_add_a_block_but_not_override_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{Foreign.__module__}:Foreign"
    sys.modules.setdefault(Foreign.__module__, sys.modules[__name__])
    found = {"select.foreign": entry("select.foreign", here), "select.top": entry("select.top", here)}
    monkeypatch.setattr(registry, "_foreign", lambda: found)
    assert registry.get("select", "foreign") is Foreign
    assert "foreign" in registry.names("select")
    with pytest.raises(UserError, match="claims select block 'top', which is built in"):
        registry.get("select", "top")


def test_a_block_without_its_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules.setdefault(Unfinished.__module__, sys.modules[__name__])
    found = {"select.unfinished": entry("select.unfinished", f"{Unfinished.__module__}:Unfinished")}
    monkeypatch.setattr(registry, "_foreign", lambda: found)
    with pytest.raises(UserError, match="select block 'unfinished' of .* cannot be used: it has no select"):
        registry.get("select", "unfinished")
    with pytest.raises(TypeError, match="abstract"):
        Unfinished()  # type: ignore[abstract]


def test_looking_a_block_up_imports_no_other_and_nothing_heavy() -> None:
    code = """
import sys
from harness.blocks import registry
registry.get("select", "top")
print([n for n in ("torch", "pandas", "harness.select.dedup", "harness.synthesize.magpie") if n in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_blocks_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Foreign().level = 3  # type: ignore[misc]
    assert isinstance(Foreign(), Block)
