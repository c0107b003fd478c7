"""Small typed values of the YAML files: shares, amounts and counts.

Both the configuration and the blocks read `10%` through this module, so it imports nothing of either.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, model_serializer, model_validator

_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%\s*")
_COUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kMG])\s*")
_SCALE = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


@dataclass(frozen=True)
class Amount:
    """How many rows: a share of those that came in (0 < share ≤ 1) or a count (≥ 1); exactly one of the two is set."""

    share: float | None = None
    count: int | None = None

    def of(self, total: int) -> int:
        """The number of rows out of `total`: a share is rounded down, a count is at most `total`."""
        if self.share is not None:
            return min(total, math.floor(self.share * total + 1e-9))
        return min(total, self.count or 0)

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{self.share * 100:.12g}%"


def amount(value: Any) -> Amount:
    """Reads `10%`, a share such as 0.1, or a count such as 100.

    Raises:
        ValueError: anything else. `1.0` is refused because one row and all rows would both be a fair reading.
    """
    if isinstance(value, Amount):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return Amount(count=value)
    if isinstance(value, float) and 0 < value < 1:
        return Amount(share=value)
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return Amount(share=share(value))
    raise ValueError(f"should be a share such as 10% or a whole number of rows from 1 on, not {value!r}")


def share(value: Any) -> float:
    """Reads a share: `25%`, or a number above 0 and up to 1.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        number = float(match[1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError(f"should be a share such as 25%, not {value!r}")
    if not 0 < number <= 1:
        raise ValueError(f"should be a share above 0% and up to 100%, not {value!r}")
    return number


def count(value: Any) -> int:
    """Reads a positive whole number, with k, M or G for thousands, millions and thousand millions (`2M`).

    Raises:
        ValueError: anything else.
    """
    number: float | None = None
    if isinstance(value, str) and (match := _COUNT.fullmatch(value)):
        number = float(match[1]) * _SCALE[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is None or number < 1 or number != int(number):
        raise ValueError(f"should be a positive whole number such as 2000 or 2M, not {value!r}")
    return int(number)


def _plain(value: Amount) -> str | int:
    return str(value) if value.count is None else value.count


Keep = Annotated[Amount, PlainValidator(amount), PlainSerializer(_plain)]
"""An option for how many rows to keep: `10%` or a count."""
Share = Annotated[float, PlainValidator(share)]
"""An option that is a share of a whole: `25%` or 0.25."""
Count = Annotated[int, PlainValidator(count)]
"""An option that counts things: 2000 or `2M`."""

FILE = "file path"
FilePath = Annotated[str, FILE]
"""A block option that names a file: relative to its YAML file, with `${NAME}` taken from the environment."""


class DataFile(BaseModel):
    """A block option that is a data file, read as it is: an entry of `datasets_cfg/`, a path, or a URL.

    In YAML it is the name of an entry, a path, or a mapping with `path` or `url`; in Python a path alone will do. Where
    it has both, the path counts if the file is there. `sha256` is of the file as it lies or of its unpacked content,
    `sha256_unpacked` of the latter only. Records show the name, never somebody's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    path: str | None = None
    url: str | None = None
    sha256: str | None = None
    sha256_unpacked: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, str | PurePath) else None
        return value if text is None else {"name": PurePath(text).name, "path": text}

    @model_validator(mode="after")
    def _is_somewhere(self) -> DataFile:
        if self.path is None and self.url is None:
            raise ValueError("a data file needs a path or a url")
        if self.path is None and self.sha256 is None:
            raise ValueError("a url needs the sha256 of the file, so that what is downloaded is what was meant")
        return self

    @model_serializer
    def _shown(self) -> str:
        return self.name or self.url or ""
