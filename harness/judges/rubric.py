"""A model as judge: a grade for one answer, or a preference between two."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Judge, Reply, Request, Sampling, Verdict
from harness.judges import _fastchat, _wording
from harness.judges._fastchat import with_prompts
from harness.judges._tasks import opponent, order_asked, order_of, prompts_identity, repeat_of, scheme, shown
from harness.judges.verdicts import choice, preference, rating
from harness.records.example import Message
from harness.records.hashing import seed_of
from harness.records.values import DataFile

Asked = Generator[Sequence[Request], Sequence[Reply], Verdict]
_SHOWN = {"A": 1.0, "C": 1.5, "B": 2.0}
"""Letter to who wins: 1 what was shown first, 2 what was shown second."""


class Rubric(Judge):
    """Asks the model bound to `judge`. Its wordings come from that model's prompt pack, or from FastChat's prompt file.

    The pack's entries are `judge_single` and `judge_pair` with their variants, `judge_rubric` for a suite's own
    rubric, and `judge_system`. A pack without `judge_single` may have `rate` instead (the pocket models' fixed form). A
    grade is `[[n]]`, or what the entry's `parse` finds; with FastChat's prompts `[n]` too. A suite may bring those
    itself (`mt_bench` does).
    """

    name: ClassVar[str] = "rubric"
    label: ClassVar[str] = "model judge (rubric)"
    version: ClassVar[int] = 2
    asks_model: ClassVar[bool] = True

    max_tokens: int = identity(
        2048, ge=1, description="Length limit of a judgement.", unit="tokens", source="FastChat, llm_judge/common.py"
    )
    temperature: float = identity(
        0.0, ge=0, description="Temperature of the judge.", source="arXiv 2306.05685, FastChat (0 for judges)"
    )
    prompts: DataFile | None = runtime(
        None,
        description="FastChat's judge_prompts.jsonl (mt-bench-judge-prompts), instead of the prompt pack's entries.",
    )

    def identity_options(self) -> dict[str, Any]:
        """The prompt file counts by its content, wherever it lies."""
        return super().identity_options() | prompts_identity(self.prompts)

    def judge(self, item: EvalItem, answer: Answer, turn: int, context: Context) -> Asked:
        """One question to the judge model, and what it answered read as a verdict."""
        context = with_prompts(context, self.prompts, "prompts")
        asked = self._single if order_of(item) is None else self._pair
        return (yield from asked(item, answer, turn, context))

    def _single(self, item: EvalItem, answer: Answer, turn: int, context: Context) -> Asked:
        messages, pattern = _wording.single(item, answer.outputs, turn, context.prompts)
        text, tokens = yield from self._ask(messages, item, turn)
        own = scheme(item)
        if own is None:
            score = rating(text, pattern, bare=_fastchat.offered(context.prompts))
        else:
            score = rating(text, pattern, own.best)
        return Verdict(score=score, raw=text, parsed=score is not None, tokens=tokens)

    def _pair(self, item: EvalItem, answer: Answer, turn: int, context: Context) -> Asked:
        order = order_asked(item, self.name)
        first, second = shown(order, answer.outputs, opponent(item))
        messages = _wording.pair(item, first, second, turn, context.prompts)
        text, tokens = yield from self._ask(messages, item, turn)
        letter = choice(text)
        value = None if letter is None else preference(_SHOWN[letter], order)
        return Verdict(score=None, preference=value, raw=text, parsed=letter is not None, tokens=tokens)

    def _ask(
        self, messages: tuple[Message, ...], item: EvalItem, turn: int
    ) -> Generator[Sequence[Request], Sequence[Reply], tuple[str, int]]:
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        # All items of a suite are graded by one generator: without a seed of its own, verdicts would share their noise.
        again = (number,) if (number := repeat_of(item)) else ()
        seed = seed_of("judge", item.id, turn, order_of(item), *again)
        ((completion,),) = yield [Ask(model="judge", messages=messages, sampling=sampling, fixed_seed=seed)]
        return completion.text, completion.prompt_tokens + completion.new_tokens
