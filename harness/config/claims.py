"""`claims:` of an experiment: directional statements of a paper, each measured by the experiment that lists it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.config.checks import fill, nearest
from harness.config.document import Node, Problems

if TYPE_CHECKING:
    from harness.config.model import Experiment, Recipe

UNTUNED = "untuned"
"""Names the student before any training where a recipe may stand."""
Side = Literal["high", "low"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Claim(BaseModel):
    """What every claim says of itself. `text` is the claim in one sentence, `source` where it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    text: Text
    source: str = ""


class RecipeClaim(_Claim):
    """One recipe scores better than another on a suite's metric, by more than `by`.

    `better` and `than` are recipes, `RECIPE@ITERATION`, or `untuned`. What is better follows from the metric. With a
    `margin` the claim is only that it is not worse by more than that (in the metric's unit).
    """

    better: Text
    than: Text
    suite: str | None = None
    """None: the experiment's first."""
    metric: str | None = None
    """None: the suite's headline."""
    categories: tuple[Text, ...] = ()
    """Only the suite's items of these categories; none named: all."""
    by: Annotated[Finite, Field(ge=0)] = 0.0
    margin: Annotated[Finite, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _one_of_two(self) -> RecipeClaim:
        if self.by and self.margin:
            raise ValueError(
                "`by` (better by more than this) and `margin` (worse by no more than that) exclude each other"
            )
        return self


class ScorerClaim(_Claim):
    """A score puts the rows with a planted defect on one side: high or low."""

    scorer: Text
    defect: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    side: Side
    recipe: str | None = None
    """Whose score step is read; None: the first recipe that has the score."""

    @property
    def defects(self) -> tuple[str, ...]:
        """The defects, at least one."""
        return (self.defect,) if isinstance(self.defect, str) else self.defect


class RowsClaim(_Claim):
    """The mean of a score over the rows of one recipe lies on one side of that over another's."""

    score: Text
    better: Text
    than: Text
    step: str | None = None
    """Whose rows are meant; None: those that the last finetune reads."""
    than_step: str | None = None
    """The same for `than`, where it is another step; None: `step`."""
    side: Side = "high"


Claim = RecipeClaim | ScorerClaim | RowsClaim


def claim_class(keys: Collection[str]) -> type[RecipeClaim] | type[ScorerClaim] | type[RowsClaim]:
    """The form of a claim, by the keys that it has."""
    return ScorerClaim if "scorer" in keys else RowsClaim if "score" in keys else RecipeClaim


def claim_of(raw: Mapping[str, Any]) -> Claim:
    """A claim from its JSON values."""
    return claim_class(raw.keys()).model_validate(raw)


def place_of(named: str) -> tuple[str, int | None]:
    """Recipe and iteration of `RECIPE` or `RECIPE@ITERATION` (None: its last).

    Raises:
        ValueError: what stands behind the @ is no whole number from 1 on.
    """
    recipe, at, iteration = named.rpartition("@")
    if not at:
        return named, None
    if not iteration.isdigit() or int(iteration) < 1:
        raise ValueError(f"{named!r}: an iteration is a whole number from 1 on, as in {recipe}@2")
    return recipe, int(iteration)


def read_claims(node: Node | None, problems: Problems) -> tuple[Claim, ...]:
    """The claims of an experiment, in their order."""
    if node is None or node.value is None:
        return ()
    if not isinstance(node.value, list):
        problems.add("claims: should be a list of mappings with `id`, `text` and what is compared", node.mark())
        return ()
    found: list[Claim] = []
    for child in node.values():
        keys = child.value.keys() if isinstance(child.value, dict) else ()
        claim = fill(child, claim_class(keys), problems)
        if claim is not None and any(other.id == claim.id for other in found):
            problems.add(f"claims: two have the id {claim.id!r}", child.mark())
        elif claim is not None:
            found.append(claim)
    return tuple(found)


def check_claims(experiment: Experiment, root: Node, recipes: Collection[str], problems: Problems) -> None:
    """Notes claims about what the experiment does not have. `recipes` are all names, also of those with mistakes."""
    places = {child.value.get("id"): child for child in _entries(root)}
    for claim in experiment.claims:

        def say(text: str, key: str, claim: Claim = claim) -> None:
            node = places.get(claim.id)
            problems.add(f"claims.{claim.id}.{key}: {text}", None if node is None else node.mark(key))

        if isinstance(claim, ScorerClaim):
            _check_scorer(claim, experiment, recipes, say)
        else:
            _check_place(claim.better, "better", experiment, recipes, say)
            _check_place(claim.than, "than", experiment, recipes, say)
        if isinstance(claim, RecipeClaim):
            _check_metric(claim, experiment, say)
        if isinstance(claim, RowsClaim):
            _check_step(claim, experiment, say)


def _entries(root: Node) -> list[Node]:
    node = root.get("claims")
    found = list(node.values()) if node is not None and isinstance(node.value, list) else []
    return [child for child in found if isinstance(child.value, dict)]


Say = Callable[[str, str], None]


def _check_place(named: str, key: str, experiment: Experiment, recipes: Collection[str], say: Say) -> None:
    try:
        name, iteration = place_of(named)
    except ValueError as error:
        say(str(error), key)
        return
    if name == UNTUNED and iteration is None:
        return
    if name not in recipes:
        say(f"there is no recipe {name!r}{nearest(name, [*recipes, UNTUNED])}", key)
        return
    recipe = _recipe(experiment, name)
    if recipe is not None and iteration is not None and iteration > recipe.loop.iterations:
        say(f"{name} has {recipe.loop.iterations} iterations, so there is no {named}", key)


def _check_metric(claim: RecipeClaim, experiment: Experiment, say: Say) -> None:
    suites = {suite.name: suite for suite in experiment.suites}
    if claim.suite is not None and claim.suite not in suites:
        say(f"there is no suite {claim.suite!r}{nearest(claim.suite, suites)}", "suite")
        return
    suite = suites[claim.suite] if claim.suite is not None else next(iter(experiment.suites), None)
    known = [] if suite is None else [metric.name for metric in suite.block.metrics()]
    if claim.metric is not None and known and claim.metric not in known:
        say(f"the suite measures no {claim.metric!r}{nearest(claim.metric, known)}", "metric")


def _check_scorer(claim: ScorerClaim, experiment: Experiment, recipes: Collection[str], say: Say) -> None:
    if claim.recipe is not None and claim.recipe not in recipes:
        say(f"there is no recipe {claim.recipe!r}{nearest(claim.recipe, recipes)}", "recipe")
        return
    asked = [r for r in experiment.recipes if claim.recipe in (None, r.name)]
    blocks = [step.blocks[-1] for r in asked for step in r.steps if step.verb == "score"]
    columns = {name for block in blocks for name in block.columns() if ":" not in name}
    if asked and claim.scorer not in columns:
        say(f"no score step writes {claim.scorer!r}{nearest(claim.scorer, columns)}", "scorer")


def _check_step(claim: RowsClaim, experiment: Experiment, say: Say) -> None:
    for named, step in ((claim.better, claim.step), (claim.than, claim.than_step or claim.step)):
        recipe = _recipe(experiment, named.partition("@")[0])
        names = [] if recipe is None else [one.name for one in recipe.steps]
        if recipe is not None and step is not None and step not in names:
            say(f"{recipe.name} has no step {step!r}{nearest(step, names)}", "step")


def _recipe(experiment: Experiment, name: str) -> Recipe | None:
    return next((recipe for recipe in experiment.recipes if recipe.name == name), None)
