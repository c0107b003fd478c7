"""What the typed forms of a configuration share: the strict base class, and what it asks of blocks."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

NAME = r"[A-Za-z0-9][A-Za-z0-9_/-]*"
"""Names of recipes, steps, roles and data sources. No dot, `@` or bracket: those address parts of them."""


class BlockLike(Protocol):
    """What the configuration asks of a block instance; `harness.blocks.base.Block` is one."""

    kind: ClassVar[Any]
    name: ClassVar[str]
    version: ClassVar[int]

    def roles(self) -> dict[str, str]: ...
    def sources(self) -> dict[str, str]: ...
    def identity_options(self) -> dict[str, Any]: ...


class Registry(Protocol):
    """Where block classes come from; the module `harness.blocks.registry` is one."""

    def get(self, kind: Any, name: str) -> Any:
        """The pydantic class of a block; raises a UserError that names the nearest for an unknown one."""
        ...


class Strict(BaseModel):
    """Base of the models read from YAML: frozen, unknown keys refused, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    given: ClassVar[tuple[str, ...]] = ()
    """Fields that the loader fills in and a file may not."""
