"""`task`: which task of a taxonomy a row's question sets, as a model says when it is asked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Self

from pydantic import model_validator

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request
from harness.records.example import Example
from harness.records.tasks import SHIPPED, Tasks, load_tasks, named_tasks
from harness.records.values import FilePath
from harness.select.tag import Label, Tag


class Task(Tag):
    """As `tag`, with the tasks of a taxonomy as labels; `{labels}` in the prompt is their names and meanings.

    Asked greedily. A reply that names no task leaves the tag missing and says why; the released ReAlign code makes it
    the task `default`, which `unknown: default` does as well: rows of that task are not rewritten either way. Only the
    first question of a conversation counts.
    """

    name: ClassVar[str] = "task"
    shipped: ClassVar[tuple[str, ...]] = SHIPPED

    model: ModelRole = identity("classifier", description="The model that is asked.")
    prompt: str = identity("tag_task", description="Entry of the model's prompt pack.")
    labels: tuple[Label, ...] = identity((), description="Only these tasks of the taxonomy; by default all.")
    taxonomy: FilePath = identity("realign", description="The tasks: realign, pocket or a path.")
    unknown: str | None = identity(None, description="The tag of rows whose reply names no task.")
    max_tokens: int = identity(50, ge=1, description="Cap on a reply.", unit="tokens", source="released README")

    @model_validator(mode="after")
    def _one_kind_of_value(self) -> Self:
        if self.scale is not None or self.ordered:
            raise ValueError("tasks are labels without an order: leave `scale` and `ordered` out")
        tasks = named_tasks(self.taxonomy)
        strange = sorted({*self.labels, *self.aliases.values(), *filter(None, [self.unknown])} - tasks.by_name.keys())
        if strange:
            raise ValueError(f"the taxonomy {self.taxonomy} has no task {strange[0]!r}")
        return self

    def identity_options(self) -> dict[str, Any]:
        """The taxonomy counts by its content."""
        return super().identity_options() | {"taxonomy": self._tasks().digest}

    def columns(self) -> tuple[str, ...]:
        """The task, why there is none, and the reply."""
        return tuple(dict.fromkeys((f"tag:{self.written}", *super().columns())))

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row."""
        full = self.model_copy(update={"labels": self.labels or tuple(self._tasks().by_name)})
        found = dict((yield from Tag.score(full, batch, context)))
        column = f"tag:{self.written}"
        found[column] = [self.unknown if label is None else label for label in found[column]]
        return found

    def _tasks(self) -> Tasks:
        return load_tasks(self.taxonomy)

    def _shown(self, row: Example) -> dict[str, str]:
        tasks = self._tasks()
        listed = "\n".join(f"- {name}: {tasks.by_name[name].means}" for name in self.labels)
        return super()._shown(row) | {"labels": listed, "question": _first_question(row)}


def _first_question(row: Example) -> str:
    return next((m["content"] for m in row.messages if m["role"] == "user"), "")
