"""`rewrite`: each row's answer said anew by a model: brought into its task's form, criticised and revised, restyled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import ModelRole, OptionalRole, identity
from harness.blocks.kinds import Context, Drop, Item, Synthesizer
from harness.engines.base import Capability
from harness.errors import UserError
from harness.judges.textrules import TextRules
from harness.records import named
from harness.records.example import Example, Origin
from harness.records.tasks import SHIPPED, Task, load_tasks, named_tasks
from harness.records.values import Count, DataFile, FilePath, Share
from harness.synthesize._rewriter import Asking, Rewriter
from harness.synthesize._rewriting import (
    NO_ANSWER,
    NO_TASK,
    OUTSIDE,
    SELF_COPY,
    UNKNOWN,
    UNTOUCHED,
    Said,
    outcomes,
    place_of,
    rewritten,
    unchanged,
)


class Rewrite(Synthesizer):
    """Every row comes out once, with a new answer or with its own; nothing is dropped but rows without a prompt.

    A new answer that cannot be read, is empty, cut, or breaks one of `rules` is given up, and the row passes unchanged.
    `tag:rewritten` says `yes` or `no` and `tag:rewritten.why` the reason of a no; the score `edit_rate` is the share of
    words that differ (0 for unchanged rows; above 0.2 counts as rewritten in 2402.12219). A rewritten row has its
    parent's group, the old answer in `fields.parent_answer`, and all readable answers as candidates.

    `how` names the prompts `rewrite_<how>` of the model's pack:

    * `format`: into the form of the row's task (ReAlign, 2402.12219), with passages where `fields.evidence` has some.
    * `plain`: in other words, without a form: the control that tells the form's effect from the rewriter's.
    * `explain`: with each step explained in running text: the paper's control for math.
    * `own`: as the model itself would put it, with the same content.
    * `minimal`: with as few changes as mend it.
    * `critique`: criticised first (`rewrite_critique`), then revised by that (`rewrite_revise`).
    * `copy`: nothing is asked and every row passes: the self-copy control.
    """

    name: ClassVar[str] = "rewrite"
    shipped: ClassVar[tuple[str, ...]] = SHIPPED
    reads_prompts: ClassVar[bool] = True

    model: ModelRole = identity("teacher", description="The rewriter.", source="2402.12219: gpt-3.5-turbo-1106")
    how: Literal["format", "plain", "explain", "own", "minimal", "critique", "copy"] = identity(
        "format", description="What is asked for."
    )
    adaptive: bool = identity(
        True,
        description="The rewriter may leave an answer as it is where the form does not suit. False: forced rewriting, "
        "which the paper uses for GSM8K and MATH and its code cannot reach.",
        source="2402.12219 §3.3.1",
    )
    task: str | None = identity(
        "task", description="The tag that names a row's task; none: all rows are rewritten, without a task's form."
    )
    taxonomy: FilePath = identity("realign", description="Tasks and their forms: realign, pocket or a path.")
    tasks: tuple[str, ...] | None = identity(
        None, description="The tasks that are rewritten, instead of those that the taxonomy marks."
    )
    assume: str | None = identity(None, description="The task of rows without one, such as math_puzzles for GSM8K.")
    released: DataFile | None = identity(
        None, description="ReAlign's `constant.py`: its prompts and forms instead of ours, for `how: format`."
    )
    evidence: bool = identity(True, description="Show the passages that a step `retrieve` has found.")
    turn: Literal["first", "last"] = identity(
        "first", description="The answer that is rewritten in a longer conversation.", source="released reformat.py"
    )
    n: Count = identity(2, description="New answers per row, of which one is taken.", source="2402.12219 §3.3.1")
    pick: Literal["longest", "first"] = identity(
        "longest", description="Which; equally long: the first.", source="2402.12219 §3.3.1"
    )
    temperature: float = identity(0.3, ge=0, description="Of the new answers.", source="2402.12219 App. A")
    top_p: float = identity(0.1, gt=0, le=1, description="Of the new answers.", source="2402.12219 App. A; code: 1")
    max_tokens: Count = identity(2048, description="Cap on a reply.", unit="tokens", source="2402.12219 App. A")
    retries: int = identity(
        1, ge=0, description="Further tries for a row of which no reply is readable. The released code tries for ever."
    )
    counter: OptionalRole = identity(
        None, description="The model whose tokenizer counts lengths; without one they are counted in words."
    )
    rules: TextRules = identity(
        TextRules(preset="paper"), description="Rules that a new answer must keep, see `rules`."
    )
    share: Share = identity(
        1.0,
        description="Share of the rows that may be rewritten, by their ids; the others pass.",
        source="after 2402.12219 Fig. 5, whose 20 % of all rows are 67 % of those that its rewriter changes",
    )
    keep_tags: tuple[str, ...] = identity(
        ("category", "leaf", "task", "retrieved"), description="Tags that hold for another answer too."
    )
    keep_scores: tuple[str, ...] = identity(
        ("task_confidence", "evidence"),
        description="Scores that hold for another answer too, since they are of the question; all others go.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.released is not None and self.how != "format":
            raise ValueError(f"`released` has prompts for `how: format` only, not for {self.how}")
        if self.task is None and (self.tasks is not None or self.assume is not None):
            raise ValueError("`tasks` and `assume` need `task`, the tag that names a row's task")
        unknown = sorted(
            {*(self.tasks or ()), *filter(None, [self.assume])} - named_tasks(self.taxonomy).by_name.keys()
        )
        if unknown:
            raise ValueError(f"the taxonomy {self.taxonomy} has no task {unknown[0]!r}")
        return self

    def roles(self) -> dict[str, str]:
        """Copying needs no model."""
        return {} if self.how == "copy" else super().roles()

    def asks(self) -> dict[str, frozenset[Capability]]:
        """Answers, and a tokenizer for counting."""
        return {"counter": frozenset({"continue"})}

    def identity_options(self) -> dict[str, Any]:
        """Files count by their content."""
        options = super().identity_options() | {"taxonomy": load_tasks(self.taxonomy).digest}
        if self.released is not None:
            options["released"] = named.digest(self.released, "released")
        return options

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per row."""
        for row in rows:
            yield Item(id=row.id, row=row)

    def make(self, item: Item, context: Context) -> Asking:
        """Asks for new answers where the row is to be rewritten."""
        row = item.row
        if row is None or not row.prompt:
            return Drop("no prompt")
        place = place_of(row, self.turn)
        task = load_tasks(self.taxonomy).get(self._task_of(row))
        why = self._left_alone(row, place, task, context)
        asking = Rewriter(self, context, task)
        said = Said(why=why) if why is not None else (yield from asking.rewritten(row, place or 0))
        made = unchanged(row, said)
        if said.text is not None and place is not None:
            origin = Origin(block=self.name, parents=(row.id,), model=self.model, iteration=context.iteration)
            name, scores = f"{row.id}/{context.block}/{context.iteration}", _some(row.scores, self.keep_scores)
            kept = replace(row, tags=_some(row.tags, self.keep_tags), scores=scores)
            made = rewritten(kept, place, said, name, origin)
        for name in outcomes(made, task):
            context.count(name)
        return [made]

    def _left_alone(self, row: Example, place: int | None, task: Task | None, context: Context) -> str | None:
        """Why nothing is asked about a row."""
        if place is None or not row.messages[place]["content"].strip():
            return NO_ANSWER
        if self.task is not None and task is None:
            return NO_TASK if self._task_of(row) is None else UNKNOWN
        if task is not None and not (task.rewrite if self.tasks is None else task.name in self.tasks):
            return UNTOUCHED
        if self.share < 1 and context.rng(row.id).random() >= self.share:
            return OUTSIDE
        return SELF_COPY if self.how == "copy" else None

    def _task_of(self, row: Example) -> str | None:
        if self.task is None:
            return None
        if self.task not in row.tags and self.assume is None:
            raise UserError(
                f"rewrite: the rows have no tag {self.task!r} that names their task: put a step `score: task` or "
                "`score: classify` before it, say `assume: TASK` if all are of one, or `task: null` for no tasks at all"
            )
        return row.tags.get(self.task) or self.assume


def _some(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
