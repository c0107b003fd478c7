"""The base of every block: typed options, one name, one version.

A block is a frozen pydantic class in one file. Its options are its fields, each declared with `identity(...)` (it
changes what is produced, so it is part of the stage key) or `runtime(...)` (it changes only how). An unclassified
field is an error when the class is created. Fields of type `ModelRole` name a model by its role in the experiment;
the model's own identity enters the key instead of the role's name. So it is with `SourceRole` and rows.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from harness.engines.base import Capability

Kind = Literal["synthesize", "score", "select", "pair", "finetune", "suite", "judge"]

_ROLE = "model role"
ModelRole = Annotated[str, _ROLE]
"""A role bound by the experiment (`student`, `teacher`, ...), a finetune's name, `start` or `current`."""
OptionalRole = Annotated[str | None, _ROLE]
"""A role that may be left out."""

_SOURCE = "source role"
SourceRole = Annotated[str, _SOURCE]
"""Rows besides those that flow in: a name under `data:`, or an earlier step's `as` name (its rows of this iteration).

The block reads them as `context.sources[self.<option>]`, as often as it likes, one batch in memory at a time.
"""
OptionalSource = Annotated[str | None, _SOURCE]
"""Rows that may be left out."""


def identity(
    default: Any = ..., *, description: str, unit: str | None = None, source: str | None = None, **kw: Any
) -> Any:
    """An option that changes what the block produces. `source` names the paper and section of the default."""
    return _option("identity", default, description, unit, source, kw)


def runtime(
    default: Any = ..., *, description: str, unit: str | None = None, source: str | None = None, **kw: Any
) -> Any:
    """An option that changes how the block runs, not what it produces."""
    return _option("runtime", default, description, unit, source, kw)


def _option(role: str, default: Any, description: str, unit: str | None, source: str | None, kw: dict[str, Any]) -> Any:
    extra: JsonDict = {"class": role, "unit": unit, "source": source}
    return Field(default, description=description, json_schema_extra=extra, **kw)


class Block(BaseModel):
    """Base of all blocks. Subclass one of the kinds in `harness.blocks.kinds`, not this."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    kind: ClassVar[Kind]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same options would give other rows than before."""
    random: ClassVar[bool] = False
    """True where the result depends on the data seed."""
    reads_prompts: ClassVar[bool] = False
    """True where the block fills in templates of a prompt pack; others are not given one, nor keyed by it."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        loose = [name for name, info in cls.model_fields.items() if option_class(info) is None]
        if loose:
            raise TypeError(f"{cls.__name__}: declare {', '.join(loose)} with identity(...) or runtime(...)")

    @classmethod
    def model_role_fields(cls) -> tuple[str, ...]:
        """Names of the options that hold a model role."""
        return _fields_of(cls, _ROLE)

    @classmethod
    def source_role_fields(cls) -> tuple[str, ...]:
        """Names of the options that hold a source role."""
        return _fields_of(cls, _SOURCE)

    def is_random(self) -> bool:
        """True where these options make the result depend on the seed."""
        return type(self).random

    def roles(self) -> dict[str, str]:
        """Option name to model role, for every role that is set."""
        return {name: role for name in self.model_role_fields() if (role := getattr(self, name)) is not None}

    def sources(self) -> dict[str, str]:
        """Option name to source role, for every one that is set."""
        return {name: role for name in self.source_role_fields() if (role := getattr(self, name)) is not None}

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Role option (`model` for the model that a suite measures) to what its model must be capable of.

        What is not named here must answer conversations (`generate`), which every model does.
        """
        return {}

    def check_ready(self) -> None:
        """Refuses what is missing around the block (a key in the environment, say) before anything of a run starts.

        Raises:
            UserError: says what is missing.
        """

    def identity_options(self) -> dict[str, Any]:
        """The options that enter the stage key, as JSON values; roles are left out (their models and rows enter)."""
        roles = {*self.model_role_fields(), *self.source_role_fields()}
        names = {
            n for n, info in type(self).model_fields.items() if option_class(info) == "identity" and n not in roles
        }
        return self.model_dump(mode="json", include=names)


def _fields_of(cls: type[Block], marker: str) -> tuple[str, ...]:
    return tuple(name for name, info in cls.model_fields.items() if marker in info.metadata)


def option_class(info: FieldInfo) -> str | None:
    """`identity`, `runtime`, or None for a field that was declared with neither."""
    extra = info.json_schema_extra
    return str(extra["class"]) if isinstance(extra, dict) and "class" in extra else None
