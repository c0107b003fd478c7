"""`claims:` of an experiment: three forms, and every mistake in them with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.config.claims import RecipeClaim, RowsClaim, ScorerClaim, claim_of

if TYPE_CHECKING:
    from .conftest import Project

TRIAL = "experiments/trial.yaml"
CLAIMS = """claims:
  - {id: one, text: Pick beats chain., source: arXiv 1, better: pick@2, than: chain, metric: accuracy, by: 0.02}
  - {id: two, text: IFD finds wrong answers., scorer: ifd, defect: [wrong, swapped], side: high}
  - {id: three, text: Chain keeps high IFD., score: ifd, better: chain, than: pick, step: top, than_step: ifd}
  - {id: four, text: Training helps., better: pick, than: untuned, suite: world, margin: 0.1}
"""


def with_claims(project: Project, text: str = CLAIMS) -> None:
    project.replace(TRIAL, "baseline: pick\n", f"baseline: pick\n{text}")


def test_the_three_forms_are_read_and_recorded(project: Project) -> None:
    project.replace("experiments/recipes/chain.yaml", "as: kept", "as: top")
    project.replace("experiments/recipes/chain.yaml", "[kept, pool]", "[top, pool]")
    with_claims(project)
    experiment = project.load()
    one, two, three, four = experiment.claims
    assert isinstance(one, RecipeClaim)
    assert (one.better, one.than, one.by, one.margin, one.suite) == ("pick@2", "chain", 0.02, 0.0, None)
    assert isinstance(two, ScorerClaim)
    assert (two.defects, two.side) == (("wrong", "swapped"), "high")
    assert isinstance(three, RowsClaim)
    assert (three.side, three.step, three.than_step) == ("high", "top", "ifd")
    assert isinstance(four, RecipeClaim)
    assert [claim_of(raw) for raw in experiment.resolved["claims"]] == list(experiment.claims)


def test_without_claims_nothing_is_recorded(project: Project) -> None:
    experiment = project.load()
    assert experiment.claims == ()
    assert "claims" not in experiment.resolved


WRONG = {
    "claims: {id: one}": "6: claims: should be a list",
    "claims: [{id: one, better: pick, than: chain}]": "6: text: is required",
    "claims: [{id: one, text: t, better: pick}]": "6: than: is required",
    "claims: [{id: one, text: t, better: pikc, than: chain}]":
        "6: claims.one.better: there is no recipe 'pikc'; did you mean 'pick'?",
    "claims: [{id: one, text: t, better: pick@3, than: chain}]":
        "6: claims.one.better: pick has 2 iterations, so there is no pick@3",
    "claims: [{id: one, text: t, better: pick@x, than: chain}]":
        "6: claims.one.better: 'pick@x': an iteration is a whole number from 1 on",
    "claims: [{id: one, text: t, better: pick, than: chain, suite: wolrd}]":
        "6: claims.one.suite: there is no suite 'wolrd'; did you mean 'world'?",
    "claims: [{id: one, text: t, better: pick, than: chain, metric: acuracy}]":
        "6: claims.one.metric: the suite measures no 'acuracy'; did you mean 'accuracy'?",
    "claims: [{id: one, text: t, better: pick, than: chain, margin: -1}]": "6: margin: should be greater than",
    "claims: [{id: one, text: t, better: pick, than: chain, by: .inf}]": "6: .inf is not a finite number",
    "claims: [{id: one, text: t, better: pick, than: chain, by: 0.1, margin: 0.1}]":
        "6: `by` (better by more than this) and `margin` (worse by no more than that) exclude each other",
    "claims: [{id: one, text: t, scorer: idf, defect: wrong, side: high}]":
        "6: claims.one.scorer: no score step writes 'idf'; did you mean 'ifd'?",
    "claims: [{id: one, text: t, scorer: ifd, defect: wrong, side: hihg}]":
        "6: side: there is no \"hihg\"; did you mean 'high'?",
    "claims: [{id: one, text: t, scorer: ifd, defect: [], side: high}]": "6: defect: ",
    "claims: [{id: one, text: t, scorer: ifd, defect: wrong, side: high, recipe: pikc}]":
        "6: claims.one.recipe: there is no recipe 'pikc'; did you mean 'pick'?",
    "claims: [{id: one, text: t, score: ifd, better: pick, than: chain, step: tpo}]":
        "6: claims.one.step: pick has no step 'tpo'; did you mean 'top'?",
    "claims: [{id: one, text: t, bettr: pick, than: chain}]": "6: unknown key 'bettr'; did you mean 'better'?",
    "claims: [{id: a b, text: t, better: pick, than: chain}]": "6: id: ",
    "claims: [{id: one, text: t, better: pick, than: chain}, {id: one, text: t, better: chain, than: pick}]":
        "6: claims: two have the id 'one'",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_mistakes_are_told_with_their_line(project: Project, text: str) -> None:
    project.replace(TRIAL, "seeds: 3", text)
    found = project.mistakes()
    assert any(line.startswith(f"{TRIAL}:{WRONG[text]}") for line in found), found
