"""A model as an annotator of the alpaca-eval package: that package's prompts and parsers, any judge model of ours."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from harness.blocks.base import identity, runtime
from harness.blocks.kinds import Answer, Ask, Context, EvalItem, Judge, Reply, Request, Sampling, Verdict
from harness.errors import UserError
from harness.judges import _alpaca_eval
from harness.judges._tasks import opponent, order_asked, repeat_of, shown
from harness.judges.verdicts import preference
from harness.records import datafile
from harness.records.hashing import seed_of
from harness.records.values import FilePath


class Annotator(Judge):
    """Asks the model bound to `judge` as alpaca-eval would ask it, and reads its verdict with that package's parser.

    With `weighted_alpaca_eval_gpt4_turbo` (AlpacaEval 2) one token is asked for, and the preference is the probability
    of one letter over that of both. A verdict whose log-probabilities are absent, not numbers, or hold neither letter
    is missing with that reason; with `fallback: discrete` the letter that was written counts instead.
    """

    name: ClassVar[str] = "annotator"
    label: ClassVar[str] = "model judge (alpaca-eval annotator)"
    asks_model: ClassVar[bool] = True

    config: str = identity(
        "weighted_alpaca_eval_gpt4_turbo",
        description="Annotator configuration of the alpaca-eval package; alpaca_eval_gpt4 is AlpacaEval 1's.",
        source="arXiv 2404.04475, alpaca_eval/evaluators_configs",
    )
    prompt_path: FilePath | None = runtime(
        None, description="Prompt template to be used instead of the package's own (ChatML, {instruction} and so on)."
    )
    prompt_sha256: str | None = runtime(None, description="Expected SHA-256 of the prompt template, whichever is used.")
    fallback: Literal["missing", "discrete"] = identity(
        "missing", description="A verdict without usable log-probabilities is missing, or the letter that was written."
    )
    max_tokens: int | None = identity(
        None, ge=1, description="Length limit of a verdict, where not the configuration's.", unit="tokens"
    )
    temperature: float = identity(
        0.0, ge=0, description="Temperature of the judge; log-probabilities do not depend on it.", source="ours"
    )

    def identity_options(self) -> dict[str, Any]:
        """The prompt counts by its content, the parser by its settings and the package's version."""
        how = _alpaca_eval.annotator(self.config)
        return super().identity_options() | how.identity() | {"prompt_sha256": self._checksum(how)}

    def judge(
        self, item: EvalItem, answer: Answer, turn: int, context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Verdict]:
        """One question to the judge model about a pair.

        Raises:
            UserError: the item is no pair: the suite grades single answers.
        """
        order = order_asked(item, self.name)
        how = _alpaca_eval.annotator(self.config)
        first, second = shown(order, answer.outputs[turn], opponent(item)[turn])
        asked = _alpaca_eval.messages(self._template(how), item.turns[turn], first, second)
        sampling = Sampling(
            max_tokens=self.max_tokens or how.max_tokens, temperature=self.temperature, top_logprobs=how.top_logprobs
        )
        seed = seed_of("judge", item.id, turn, order, repeat_of(item))
        ((completion,),) = yield [Ask(model="judge", messages=asked, sampling=sampling, fixed_seed=seed)]
        tops, text = completion.top_texts, completion.text
        value, reason = _alpaca_eval.read(how, text, tops)
        if value is None and how.top_logprobs and self.fallback == "discrete":
            value = _alpaca_eval.discrete(how, text)
            reason = f"the letter that was written, because {reason}" if value is not None else reason
        return Verdict(
            score=None,
            preference=None if value is None else preference(value, order),
            reason=reason,
            raw=_shown(text, tops[0] if tops else {}),
            parsed=value is not None,
            tokens=completion.prompt_tokens + completion.new_tokens,
        )

    def _checksum(self, how: _alpaca_eval.Annotator) -> str:
        return datafile.checksum(self.prompt_path or str(how.prompt_file), self.prompt_sha256, "prompt_path")

    def _template(self, how: _alpaca_eval.Annotator) -> str:
        return _read(self.prompt_path or str(how.prompt_file), self._checksum(how))


@lru_cache(maxsize=8)
def _read(path: str, checksum: str) -> str:
    """The template; `checksum` makes a changed file a new one.

    Raises:
        UserError: it has no place for one of the three texts.
    """
    text = datafile.content(datafile.locate(path, "prompt_path")).decode("utf-8")
    absent = [name for name in ("instruction", "output_1", "output_2") if "{" + name + "}" not in text]
    if absent:
        raise UserError(f"{path} has no place for {{{absent[0]}}}: it is no prompt of a pairwise annotator")
    return text


def _shown(text: str, top: Mapping[str, float]) -> str:
    """The judge's text, with the weights that it came with."""
    weights = ", ".join(f"{token!r} {value:.6g}" for token, value in top.items())
    return f"{text}\n(log-probabilities: {weights})" if weights else text
