"""`rules`: keeps the rows whose answers keep to rules that a program can check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import OptionalRole, identity
from harness.blocks.kinds import Context, Selector
from harness.engines.base import Capability
from harness.judges.textrules import Case, TextRules, lengths
from harness.records.tasks import SHIPPED, Tasks, load_tasks
from harness.records.values import FilePath

if TYPE_CHECKING:
    import pandas as pd

ORIGINAL = "field:parent_answer"


class Rules(TextRules, Selector):
    """Drops rows whose answer breaks a rule; the rule is the reason.

    Reasons: `no answer`, `too short`, `too long`, `keyword missing`, `banned text`, `pattern not found`, `no json`, `no
    python`, `no number`. Of rewritten answers, whose `fields.parent_answer` is the original, also: `result missing`,
    `no plan asked for`, `code in one only`, `much shorter than the original`, `much longer than the original`, `numbers
    lost`, `another result`. To fall back on the originals instead of dropping, give the same rules to the block
    `rewrite`. In a conversation of several turns the last answer is looked at.
    """

    name: ClassVar[str] = "rules"
    shipped: ClassVar[tuple[str, ...]] = SHIPPED
    row_by_row: ClassVar[bool] = True

    unit: Literal["characters", "words", "tokens"] = identity(
        "words", description="What lengths are counted in; tokens are those of `model`."
    )
    model: OptionalRole = identity(None, description="The model whose tokenizer counts; needed for tokens only.")
    task: str = identity("task", description="The tag that names a row's task, for rules that are for some tasks only.")
    taxonomy: FilePath = identity("realign", description="Which tasks those are: realign, pocket or a path.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.unit == "tokens") != (self.model is not None):
            raise ValueError("`unit: tokens` and `model` belong together: tokens are counted by a model's tokenizer")
        if not self.says_anything():
            raise ValueError("give at least one rule, or a `preset`")
        return self

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A tokenizer, which is as good as token ids."""
        return {"model": frozenset({"continue"})}

    def identity_options(self) -> dict[str, Any]:
        """The taxonomy counts by its content, where it is read."""
        options = super().identity_options()
        options["taxonomy"] = load_tasks(self.taxonomy).digest if self.uses_checks() else None
        return options

    def needs(self) -> tuple[str, ...]:
        """Only the columns that these rules look at."""
        original = (ORIGINAL,) if self.uses_original() or self.plan_words else ()
        return ("answer", *original, *(("prompt", f"tag:{self.task}") if self.uses_checks() else ()))

    def select(self, table: pd.DataFrame, context: Context) -> list[str | None]:
        """Each row by itself."""
        nothing = [None] * len(table)
        named = table[f"tag:{self.task}"] if self.uses_checks() else nothing
        questions = table["prompt"] if self.uses_checks() else nothing
        originals = table.get(ORIGINAL, nothing)
        tasks = load_tasks(self.taxonomy) if self.uses_checks() else None
        length = len if self.unit == "characters" else lengths(context.chats[self.model] if self.model else None)
        return [
            self._reason(answer, original, question, task, tasks, length)
            for answer, original, question, task in zip(table["answer"], originals, questions, named, strict=True)
        ]

    def _reason(
        self, answer: Any, original: Any, question: Any, task: Any, tasks: Tasks | None, length: Callable[[str], int]
    ) -> str | None:
        if not isinstance(answer, str):
            return "no answer"
        known = tasks.get(task) if tasks is not None and isinstance(task, str) else None
        return self.broken(
            Case(
                answer=answer,
                question=question if isinstance(question, str) else "",
                original=original if isinstance(original, str) else None,
                checks=known.checks if known is not None else frozenset(),
                length=length,
            )
        )
