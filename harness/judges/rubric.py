"""A model as judge: a grade from 1 to 10 for one answer, or a preference between two."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Judge, Reply, Request, Sampling, Verdict
from harness.errors import UserError
from harness.judges._tasks import order_of
from harness.judges.verdicts import choice, rating
from harness.records import datafile
from harness.records.example import Message
from harness.records.hashing import seed_of
from harness.records.values import FilePath

Asked = Generator[Sequence[Request], Sequence[Reply], Verdict]


class Rubric(Judge):
    """Asks the model bound to `judge`. Its wordings come from that model's prompt pack, or from a FastChat prompt file.

    The pack's entries are `judge_system`, `judge_single`, `judge_single_reference` and `judge_pair`. A pack without
    them may have `rate` instead (the pocket models' fixed form). A grade is `[[n]]`, or what the entry's `parse` finds.
    """

    name: ClassVar[str] = "rubric"
    label: ClassVar[str] = "model judge (rubric)"
    asks_model: ClassVar[bool] = True

    max_tokens: int = identity(
        1024, ge=1, description="Length limit of a judgement.", unit="tokens", source="arXiv 2306.05685, FastChat"
    )
    temperature: float = identity(
        0.0, ge=0, description="Temperature of the judge.", source="arXiv 2306.05685, FastChat (0 for judges)"
    )
    prompts_path: FilePath | None = runtime(
        None, description="FastChat's judge_prompts.jsonl, to be used instead of the prompt pack's entries."
    )
    prompts_sha256: str | None = runtime(None, description="Expected SHA-256 of that file's unpacked content.")

    def identity_options(self) -> dict[str, object]:
        """The prompt file counts by its content, wherever it lies."""
        options = super().identity_options()
        if self.prompts_path is not None:
            options["prompts_sha256"] = datafile.checksum(self.prompts_path, self.prompts_sha256, "prompts_path")
        return options

    def judge(self, item: EvalItem, answer: Answer, turn: int, context: Context) -> Asked:
        """One question to the judge model, and what it answered read as a verdict."""
        order = order_of(item)
        if order is None:
            return (yield from self._single(item, answer, turn, context))
        first, second = item.reference[0], answer.outputs[0]
        if order == "answer first":
            first, second = second, first
        named = {"question": item.turns[0], "answer_a": first, "answer_b": second}
        text, tokens = yield from self._ask(self._prompt("pair", False, False, named, context), item, turn)
        letter = choice(text)
        won = {"A": order == "answer first", "B": order == "reference first"}
        preference = None if letter is None else 1.5 if letter == "C" else 2.0 if won[letter] else 1.0
        return Verdict(score=None, preference=preference, raw=text, parsed=letter is not None, tokens=tokens)

    def _single(self, item: EvalItem, answer: Answer, turn: int, context: Context) -> Asked:
        reference = item.reference[: turn + 1] if turn < len(item.reference) else ()
        named = _numbered("question", item.turns) | _numbered("answer", answer.outputs)
        named |= _numbered("ref_answer", reference)
        named |= {"question": item.turns[turn], "answer": answer.outputs[turn]}
        named |= {"reference": reference[turn] if reference else "", "conversation": _conversation(item, answer, turn)}
        messages = self._prompt("single", bool(reference), turn > 0, named, context)
        text, tokens = yield from self._ask(messages, item, turn)
        parse = context.prompts.get(_entry("single", bool(reference), context) + ".parse")
        score = rating(text, parse if self.prompts_path is None else None)
        return Verdict(score=score, raw=text, parsed=score is not None, tokens=tokens)

    def _ask(
        self, messages: tuple[Message, ...], item: EvalItem, turn: int
    ) -> Generator[Sequence[Request], Sequence[Reply], tuple[str, int]]:
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        # All items of a suite are graded by one generator: without a seed of its own, verdicts would share their noise.
        seed = seed_of("judge", item.id, turn, order_of(item))
        ((completion,),) = yield [Ask(model="judge", messages=messages, sampling=sampling, fixed_seed=seed)]
        return completion.text, completion.prompt_tokens + len(completion.token_ids)

    def _prompt(
        self, kind: str, guided: bool, follow_up: bool, named: Mapping[str, str], context: Context
    ) -> tuple[Message, ...]:
        if self.prompts_path is not None:
            system, template = _fastchat(self.prompts_path, kind, guided, follow_up)
        else:
            entry = _entry(kind, guided, context)
            system, template = context.prompts.get("judge_system", ""), context.prompts.get(entry, "")
            if not template:
                raise UserError(
                    f"the judge's prompt pack has no entry {entry!r}, which the rubric judge asks with: use the pack "
                    "`general` for the judge (`prompts: general`), or add the entry"
                )
        try:
            user = Message(role="user", content=template.format_map(named))
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(f"a judge prompt has a placeholder that is not known: {error}") from error
        return (Message(role="system", content=system), user) if system else (user,)


def _entry(kind: str, guided: bool, context: Context) -> str:
    """The pack's entry for a question: the judge's own, or `rate` for a single answer where the pack has only that."""
    entry = f"judge_{kind}_reference" if guided else f"judge_{kind}"
    return "rate" if kind == "single" and entry not in context.prompts and "rate" in context.prompts else entry


def _fastchat(path: str, kind: str, guided: bool, follow_up: bool) -> tuple[str, str]:
    """System prompt and template of FastChat's file, by its own names."""
    name = f"{kind}-math-v1" if guided else "pair-v2" if kind == "pair" else "single-v1"
    name += "-multi-turn" if follow_up else ""
    for row in datafile.rows(path, "prompts_path"):
        if row.get("name") == name:
            return str(row["system_prompt"]), str(row["prompt_template"])
    raise UserError(f"{path} has no judge prompt named {name!r}: it is not FastChat's judge_prompts.jsonl")


def _numbered(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, start=1)}


def _conversation(item: EvalItem, answer: Answer, turn: int) -> str:
    parts = []
    for number in range(turn + 1):
        parts += [f"User: {item.turns[number]}", f"Assistant: {answer.outputs[number]}"]
    return "\n\n".join(parts)
