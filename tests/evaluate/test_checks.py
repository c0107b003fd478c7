"""Checks: what each kind calls right, and which references and options it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import UserError
from harness.evaluate._checks import Check, bad_reference, run

NESTED = {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}}
PERSON = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(("check", "answer", "reference", "right"), [
    ("exact", " Paris\n", "Paris", True),
    ("exact", "paris", "Paris", False),
    ({"kind": "exact", "ignore_case": True}, "STRASSE", "straße", True),
    ({"kind": "exact", "extract": r"Answer: (\w+)"}, "Answer: Rome. No, Answer: Paris!", "Paris", True),
    ({"kind": "exact", "extract": r"Answer: (\w+)"}, "Paris", "Paris", False),
    ("contains", "It is Paris.", "Paris", True),
    ("contains", "", "Paris", False),
    ("regex", "a 42 b", r"\b4\d\b", True),
    ({"kind": "regex", "ignore_case": True}, "YES", "^yes$", True),
    ("regex", "142", r"\b4\d\b", False),
    ("numeric", "so it is 2,125.00", "2125", True),
    ("numeric", "so it is 2126", "2125", False),
    ({"kind": "numeric", "tolerance": 0.5}, "2.4", "2", True),
    ({"kind": "numeric", "tolerance": 0.1}, "0.3", "0.2", True),
    ("numeric", "none", "2", False),
    ("json_schema", '{"name": "x"}', PERSON, True),
    ("json_schema", 'Here:\n```json\n{"name": "x"}\n```\nDone.', PERSON, True),
    ("json_schema", '{"name": 1}', PERSON, False),
    ("json_schema", "name: x", PERSON, False),
    ("json_schema", "[" * 100_000, PERSON, False),
    ("json_schema", '{"name": "x", "n": ' + "9" * 5000 + "}", PERSON, False),
    ("json_schema", "[" * 600 + "]" * 600, NESTED, False),
])  # fmt: skip
def test_what_is_right(check: Any, answer: str, reference: Any, right: bool) -> None:
    made = Check.model_validate(check)
    assert bad_reference(made, reference) is None
    outcome = run(made, answer, [reference])
    assert outcome.right is right
    assert bool(outcome.reason) is not right


def test_any_of_several_references_will_do() -> None:
    assert run(Check(kind="exact"), "Tōkyō", ["Tokyo", "Tōkyō"]).right


@pytest.mark.parametrize(("kind", "reference", "reason"), [
    ("numeric", "four", "has no number"),
    ("numeric", "2e-5", "has an exponent"),
    ("contains", " ", "the reference is empty"),
    ("regex", "", "the reference is empty"),
    ("regex", "(", "no regular expression"),
    ("json_schema", "x", "should be a JSON schema"),
    ("json_schema", {"type": "strnig"}, "this is no JSON schema"),
    ("exact", {"a": 1}, "should be text, not dict"),
])  # fmt: skip
def test_references_that_cannot_be_checked(kind: Any, reference: Any, reason: str) -> None:
    assert reason in str(bad_reference(Check(kind=kind), reference))


@pytest.mark.parametrize(("options", "reason"), [
    ({"kind": "exact", "tolerance": 1}, "`tolerance` is an option of `kind: numeric`"),
    ({"kind": "block"}, "needs `block:"),
    ({"kind": "exact", "extract": "("}, "no regular expression"),
    ({"kind": "json_schema", "form": {"type": 5}}, "no JSON schema"),
])  # fmt: skip
def test_options_that_do_not_fit(options: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Check.model_validate(options)


def test_a_schema_fetches_nothing() -> None:
    check = Check(kind="json_schema")
    remote = {"allOf": [{"$ref": "http://127.0.0.1:9/schema.json"}]}
    assert "nothing is fetched" in str(bad_reference(check, remote))
    with pytest.raises(UserError, match="refers to .*nowhere, which it does not hold"):
        run(check, "{}", [{"$ref": "#/nowhere"}])
