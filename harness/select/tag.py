"""`tag`: a label or a number that a model gives to each row when it is asked with a prompt of its pack."""

from __future__ import annotations

import string
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import StringConstraints, model_validator

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Ask, Columns, Context, Reply, Request, Sampling, Scorer, Tolerant
from harness.blocks.prompts import fill
from harness.records import named
from harness.records.example import Example, Message, prompt_text
from harness.records.hashing import seed_of
from harness.records.values import Count, DataFile
from harness.select._functions import prompt_of
from harness.select._reading import Read, label_of, number_of, read

Label = Annotated[str, StringConstraints(min_length=1)]
CUT = "cut by the length cap"


class Tag(Scorer):
    """What `model` says of each row, read as one of `labels` or as a number of `scale`.

    The prompt is an entry of the model's prompt pack; `<entry>.system`, where the pack has it, is its system turn and
    `<entry>.parse` a regular expression whose first group is the value. Without one, a reply is read as JSON with the
    key `column`, then `[[value]]`, then a line that says nothing else. Placeholders of the prompt: `{question}`,
    `{answer}`, `{conversation}`, `{labels}`, `{low}`, `{high}`, and any text of the row's fields or tags by its name.

    Columns, for `column: quality`:

    * `tag:quality`: the label (with `labels`); the score `quality` is the number, or with `ordered` the label's place
      from 1 on.
    * `tag:quality.problem`: why a row has no value: `no value`, `several values`, `value not allowed`, `cut by the
      length cap`, `no answer` (or whatever the prompt needs and the row lacks), `refused: ...`. A failure is never a
      label. None where the value was read.
    * `field:quality.text`: the reply as it was; `field:quality.<key>` for each key of `also`.

    Every label and every problem is counted in the stage's report.
    """

    name: ClassVar[str] = "tag"
    reads_prompts: ClassVar[bool] = True

    model: ModelRole = identity("judge", description="The model that is asked.")
    prompt: str = identity(description="Entry of the model's prompt pack, such as tag_quality.")
    column: str | None = identity(None, description="Name of what is written; by default the entry without `tag_`.")
    labels: tuple[Label, ...] = identity((), description="The labels that are allowed.")
    aliases: Mapping[str, str] = identity({}, description="Other spellings that a model uses, and the label meant.")
    ordered: bool = identity(False, description="The labels go from lowest to highest: their places are scores.")
    scale: tuple[float, float] | None = identity(
        None, description="Lowest and highest number that is allowed, instead of labels."
    )
    also: tuple[str, ...] = identity((), description="Further keys of a JSON reply that are kept as fields.")
    temperature: float = identity(0.0, ge=0, description="0 is greedy.", source="2406.08464, released scripts")
    max_tokens: Count = identity(
        1024, description="Cap on a reply.", unit="tokens", source="2406.08464, released scripts"
    )
    key: str | None = identity(None, description="The value's name in a JSON reply; by default the column's.")
    released: DataFile | None = identity(
        None,
        description="A file of released prompts, such as magpie-prompts; `prompt` then names a function in it.",
    )
    keep_text: bool = identity(True, description="Keep each reply as a field.")

    @model_validator(mode="after")
    def _one_kind_of_value(self) -> Self:
        if bool(self.labels) == (self.scale is not None):
            raise ValueError("give either `labels` or a `scale`")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("`scale` is [lowest, highest]")
        if self.ordered and not self.labels:
            raise ValueError("`ordered` says something about `labels`; numbers of a `scale` are ordered anyway")
        if strange := sorted(set(self.aliases.values()) - set(self.labels)):
            raise ValueError(f"`aliases` point to {', '.join(strange)}, which `labels` does not have")
        return self

    def identity_options(self) -> dict[str, Any]:
        """The prompt file counts by its content, wherever it lies."""
        options = super().identity_options()
        if self.released is not None:
            options["released"] = named.digest(self.released, "released")
        return options

    def is_random(self) -> bool:
        """Only sampled replies depend on the seed."""
        return self.temperature > 0

    @property
    def written(self) -> str:
        """Name of the columns."""
        return self.column or self.prompt.removeprefix("tag_")

    def columns(self) -> tuple[str, ...]:
        """The label, its score, its problem, the reply and its further keys."""
        name = self.written
        label = (f"tag:{name}",) if self.labels else ()
        score = (name,) if self.scale or self.ordered else ()
        text = (f"field:{name}.text",) if self.keep_text else ()
        return (*label, *score, f"tag:{name}.problem", *text, *(f"field:{name}.{key}" for key in self.also))

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """One request per row that has all that the prompt shows, all at once."""
        prompts = self._prompts(context)
        lacking = [self._lacks(row, prompts) for row in batch]
        asked = [row for row, lack in zip(batch, lacking, strict=True) if lack is None]
        replies = iter((yield Tolerant(self._ask(row, context, prompts) for row in asked)))
        pattern = prompts.get(f"{self.prompt}.parse")
        out: dict[str, list[Any]] = {name: [] for name in self.columns()}
        for lack in lacking:
            text, outcome = ("", Read(None, lack)) if lack else self._read(next(replies), pattern)
            for name, value in self._values(text, outcome).items():
                out[name].append(value)
            context.count(f"{self.written}: {_kind(outcome)}")
        return out

    def _values(self, text: str, outcome: Read) -> dict[str, Any]:
        name, value, extras = self.written, outcome.value, outcome.extras or {}
        values: dict[str, Any] = {f"tag:{name}.problem": outcome.problem}
        if self.labels:
            values[f"tag:{name}"] = value
        if self.ordered:
            values[name] = None if value is None else self.labels.index(str(value)) + 1
        elif self.scale is not None:
            values[name] = value
        if self.keep_text:
            values[f"field:{name}.text"] = text or None
        return values | {f"field:{name}.{key}": extras.get(key) for key in self.also}

    def _read(self, reply: Reply, pattern: str | None) -> tuple[str, Read]:
        if isinstance(reply, Exception):
            return "", Read(None, f"refused: {reply}")
        completion = reply[0]
        outcome = read(completion.text, self._allowed(), self.key or self.written, pattern)
        if outcome.value is None and completion.finish == "length":
            outcome = Read(None, CUT)
        return completion.text, outcome

    def _allowed(self) -> Callable[[Any], str | float | None]:
        if self.scale is not None:
            return number_of(*self.scale)
        return label_of({**{label: label for label in self.labels}, **self.aliases})

    def _prompts(self, context: Context) -> Mapping[str, str]:
        """The pack, or the released prompt alone."""
        if self.released is None:
            return context.prompts
        return {self.prompt: prompt_of(self.released, self.prompt, "released")}

    def _ask(self, row: Example, context: Context, prompts: Mapping[str, str]) -> Ask:
        by = f"tag with `prompt: {self.prompt}`"
        system = prompts.get(f"{self.prompt}.system")
        turns = (Message(role="system", content=system),) if system else ()
        text = fill(prompts, self.prompt, by, **self._shown(row))
        return Ask(
            model=self.model,
            messages=(*turns, Message(role="user", content=text)),
            sampling=Sampling(max_tokens=self.max_tokens, temperature=self.temperature),
            fixed_seed=seed_of(context.seed, context.block, context.iteration, row.id),
        )

    def _lacks(self, row: Example, prompts: Mapping[str, str]) -> str | None:
        """What the prompt shows and the row does not have, as a reason; None where it has all."""
        if self.prompt not in prompts:
            return None  # `fill` says so, once
        wanted = {name for _, name, _, _ in string.Formatter().parse(prompts[self.prompt]) if name}
        shown = self._shown(row)
        return next((f"no {name}" for name in sorted(wanted) if not shown.get(name)), None)

    def _shown(self, row: Example) -> dict[str, str]:
        own = {name: value for name, value in {**row.fields, **row.tags}.items() if isinstance(value, str)}
        low, high = self.scale or (1, len(self.labels))
        return own | {
            "question": prompt_text(row),
            "answer": row.answer or "",
            "conversation": "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in row.messages),
            "labels": ", ".join(self.labels),
            "low": f"{low:g}",
            "high": f"{high:g}",
        }


def _kind(outcome: Read) -> str:
    """What is counted: the label, `read` for a number, or the problem without its details."""
    if outcome.problem is not None:
        return outcome.problem.split(":")[0]
    return outcome.value if isinstance(outcome.value, str) else "read"
