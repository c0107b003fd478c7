"""Programs that tell a right answer from a wrong one, without a judge: for suites whose rows have a reference."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.errors import UserError
from harness.records.numbers import final_number

Kind = Literal["exact", "contains", "regex", "numeric", "json_schema", "block"]
_EXPONENT = re.compile(r"\d[eE][+-]?\d")
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class Check(BaseModel):
    """How answers are checked; in YAML its kind alone (`check: numeric`) or a mapping with options.

    `exact`: the answer is the reference, white space at the ends apart. `contains`: the reference occurs in it.
    `regex`: the reference is a pattern that matches somewhere in it. `numeric`: both end in the same number.
    `json_schema`: the answer is JSON (alone, or the first fenced block) that fits a schema. `block`: a judge block that
    asks no model, such as one of a package of your own; its grade 1..10 counts as a share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    ignore_case: bool = False
    extract: str | None = None
    """A pattern: what its first group (or all of it) matched last is compared, instead of the whole answer."""
    tolerance: float = Field(0.0, ge=0)
    """`numeric`: numbers that differ by no more are the same."""
    form: dict[str, Any] | None = None
    """`json_schema`: the schema of all rows; without it each row's reference is its schema."""
    block: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("extract")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        if value is not None and (reason := bad_pattern(value)):
            raise ValueError(reason)
        return value

    @model_validator(mode="after")
    def _options_fit(self) -> Check:
        owners = {"tolerance": "numeric", "form": "json_schema", "block": "block", "options": "block"}
        for name, kind in owners.items():
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default and self.kind != kind:
                raise ValueError(f"`{name}` is an option of `kind: {kind}`, not of {self.kind}")
        if self.kind == "block" and self.block is None:
            raise ValueError("`kind: block` needs `block: <name of a judge block>`")
        if self.form is not None and (reason := bad_schema(self.form)):
            raise ValueError(reason)
        return self


@dataclass(frozen=True)
class Outcome:
    """Whether an answer is right, and why not."""

    right: bool
    reason: str = ""


def bad_reference(check: Check, reference: Any) -> str | None:
    """Why a row's reference cannot be checked against; None where it can."""
    if check.kind == "json_schema":
        return bad_schema(reference) if isinstance(reference, Mapping) else "the reference should be a JSON schema"
    if not isinstance(reference, str):
        return f"the reference should be text, not {type(reference).__name__}"
    if not reference.strip():
        return "the reference is empty: every answer would fit it, or only an empty one"
    if check.kind == "regex":
        return bad_pattern(reference)
    if check.kind == "numeric" and _EXPONENT.search(reference):
        return f"the reference {reference[:40]!r} has an exponent, which is not read: write the number out"
    if check.kind == "numeric" and final_number(reference) is None:
        return f"the reference {reference[:40]!r} has no number"
    return None


def written(number: int | float) -> str:
    """A reference that is a number, as text without an exponent: 1e-7 is 0.0000001 and does not end in 7."""
    return format(Decimal(str(number)), "f")


def run(check: Check, answer: str, accepted: Sequence[Any]) -> Outcome:
    """Whether an answer is right by any of the references that are accepted.

    Args:
        check: of any kind but `block`.
        answer: the model's text.
        accepted: references that `bad_reference` has no objection to.
    """
    if check.extract is not None:
        found = list(re.finditer(check.extract, answer))
        if not found:
            return Outcome(False, "`extract` matches nothing in the answer")
        answer = found[-1][1 if found[-1].re.groups else 0] or ""
    outcomes = [_ONE[check.kind](check, answer, reference) for reference in accepted]
    return next((o for o in outcomes if o.right), outcomes[0])


def bad_pattern(pattern: str) -> str | None:
    """Why a regular expression cannot be used."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{pattern!r} is no regular expression: {error}"
    return None


def bad_schema(schema: Mapping[str, Any]) -> str | None:
    """Why a JSON schema cannot be used."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"this is no JSON schema: {error.message} (at {error.json_path})"
    away = [name for name in _references(schema) if not name.startswith("#")]
    return f"the schema refers to {away[0]}, and nothing is fetched: put it under $defs" if away else None


def _references(schema: Any) -> Iterator[str]:
    """Where the schema and its parts refer to."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        yield from (name for part in schema.values() for name in _references(part))
    elif isinstance(schema, list):
        yield from (name for part in schema for name in _references(part))


def _exact(check: Check, answer: str, reference: str) -> Outcome:
    same = _case(check, answer).strip() == _case(check, reference).strip()
    return Outcome(same, "" if same else "not the reference")


def _contains(check: Check, answer: str, reference: str) -> Outcome:
    there = _case(check, reference) in _case(check, answer)
    return Outcome(there, "" if there else "the reference does not occur")


def _regex(check: Check, answer: str, reference: str) -> Outcome:
    found = re.search(reference, answer, re.IGNORECASE if check.ignore_case else 0)
    return Outcome(found is not None, "" if found else "the pattern matches nothing")


def _numeric(check: Check, answer: str, reference: str) -> Outcome:
    said, wanted = final_number(answer), final_number(reference)
    if said is None or wanted is None:
        return Outcome(False, "no number in the answer")
    same = abs(said - wanted) <= Decimal(str(check.tolerance))
    return Outcome(same, "" if same else f"{said} is not {wanted}")


def _json_schema(check: Check, answer: str, reference: Any) -> Outcome:
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    fenced = _FENCE.search(answer)
    try:
        value = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError) as reason:  # also a number of 5,000 digits
        return Outcome(False, f"the answer is not JSON: {str(reason)[:80]}")
    try:
        # A registry of its own: nothing that a schema refers to may be fetched from the network.
        error = best_match(validator_for(reference)(reference, registry=Registry()).iter_errors(value))
    except Unresolvable as lost:
        raise UserError(f"a JSON schema of this suite refers to {lost.ref}, which it does not hold") from lost
    except RecursionError:
        return Outcome(False, "the answer is nested too deeply for the schema")
    return Outcome(error is None, "" if error is None else f"{error.json_path}: {error.message[:200]}")


def _case(check: Check, text: str) -> str:
    return text.casefold() if check.ignore_case else text


_ONE: Mapping[str, Callable[[Check, str, Any], Outcome]] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "numeric": _numeric,
    "json_schema": _json_schema,
}
