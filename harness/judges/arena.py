"""A model as judge on Arena-Hard's scale: A>>B, A>B, A=B, B>A, B>>A (arXiv 2406.11939)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Judge, Reply, Request, Sampling, Verdict
from harness.blocks.prompts import fill
from harness.errors import UserError
from harness.judges._tasks import opponent, order_asked, prompts_identity, repeat_of, shown
from harness.judges.verdicts import preference, scale, stated
from harness.records import datafile, named
from harness.records.example import Message
from harness.records.hashing import seed_of
from harness.records.values import DataFile


class Arena(Judge):
    """Asks the model bound to `judge` which of two answers is better, and by how much.

    The wording comes from that model's prompt pack (`judge_system`, `judge_arena`), or from arena-hard-auto's
    `judge_config.yaml`. The verdict is read from the judge's text only; several that differ are none. A judge that
    ended without one is asked to go on (`judge_arena_again`), as in that project.
    """

    name: ClassVar[str] = "arena"
    label: ClassVar[str] = "model judge (Arena-Hard scale)"
    asks_model: ClassVar[bool] = True

    max_tokens: int = identity(
        4096, ge=1, description="Length limit of a judgement.", unit="tokens", source="arena-hard-auto, judge_config"
    )
    temperature: float = identity(
        0.0, ge=0, description="Temperature of the judge.", source="arena-hard-auto, judge_config"
    )
    attempts: int = identity(
        2, ge=1, le=5, description="How often a judge may write until it gives a verdict.", source="arena-hard-auto"
    )
    prompts: DataFile | None = runtime(
        None, description="arena-hard-auto's judge_config.yaml, to be used instead of the prompt pack's entries."
    )

    def identity_options(self) -> dict[str, Any]:
        """The prompt file counts by its content, wherever it lies."""
        return super().identity_options() | prompts_identity(self.prompts)

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """One conversation with the judge model about a pair.

        Raises:
            UserError: the item is no pair: the suite grades single answers.
        """
        order = order_asked(item, self.name)
        first, second = shown(order, answer.outputs[turn], opponent(item)[turn])
        messages = self._prompt(item.turns[turn], first, second, context)
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        said, tokens, found = "", 0, None
        for attempt in range(self.attempts):
            seed = seed_of("judge", item.id, turn, order, repeat_of(item), attempt)
            ask = Ask(model="judge", messages=messages, sampling=sampling, draw=attempt, fixed_seed=seed)
            ((completion,),) = yield [ask]
            said = f"{said}\n{completion.text}" if said else completion.text
            tokens += completion.prompt_tokens + completion.new_tokens
            found = scale(said)
            if stated(said):  # verdicts that contradict each other are not asked for again
                break
            again = Message(role="user", content=fill(context.prompts, "judge_arena_again", "the arena judge"))
            messages = (*messages, Message(role="assistant", content=completion.text), again)
        if found is None:
            return Verdict(score=None, raw=said, parsed=False, tokens=tokens)
        value, strong = found
        return Verdict(score=None, preference=preference(value, order), strong=strong, raw=said, tokens=tokens)

    def _prompt(self, question: str, first: str, second: str, context: Context) -> tuple[Message, ...]:
        if self.prompts is None:
            user = fill(
                context.prompts, "judge_arena", "the arena judge", question=question, answer_a=first, answer_b=second
            )
            system = context.prompts.get("judge_system", "")
        else:
            system, template = _config(self.prompts)
            given = {"question_1": question, "answer_1": first, "answer_2": second}
            try:
                user = template.format_map(given)
            except (KeyError, ValueError, IndexError) as error:
                raise UserError(f"{named.place(self.prompts)} has a placeholder that is not known: {error}") from error
        asked = Message(role="user", content=user)
        return (Message(role="system", content=system), asked) if system else (asked,)


def _config(prompts: DataFile) -> tuple[str, str]:
    """System prompt and template of arena-hard-auto's judge_config.yaml."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    named.digest(prompts, "prompts")
    file = named.local(prompts, "prompts")
    try:
        data: Any = YAML(typ="safe").load(datafile.content(file).decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML: {error}") from error
    templates = data.get("prompt_template") if isinstance(data, Mapping) else None
    if not isinstance(templates, list) or len(templates) != 1 or not isinstance(templates[0], str):
        raise UserError(
            f"{file} is no judge_config.yaml of arena-hard-auto: it needs `prompt_template` with one text in its list"
        )
    return str(data.get("system_prompt") or ""), templates[0]
