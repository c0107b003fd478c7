"""Asks the model under test the turns of an item, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from harness.blocks.kinds import Answer, Ask, EvalItem, Reply, Request, Sampling
from harness.errors import LoopbenchError, UserError
from harness.judges._tasks import before
from harness.records.example import Message
from harness.records.hashing import seed_of

ERROR = "error"


def converse(item: EvalItem, suite: str, sampling: Sampling) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
    """The model's answers to all turns; each turn sees the model's own earlier answers.

    Seeds come from (suite, item, turn) alone, so every recipe's model gets the same noise. A turn that cannot
    be asked (its prompt no longer fits the model, say) ends the conversation: the answers before it are kept, and the
    reason stands in `data`.
    """
    messages = [Message(role="system", content=item.system)] if item.system is not None else []
    messages += before(item)
    outputs: list[str] = []
    finish: list[str] = []
    prompt_tokens = completion_tokens = 0
    for turn, text in enumerate(item.turns):
        messages.append(Message(role="user", content=text))
        seed = seed_of(suite, item.id, turn)
        try:
            ((completion,),) = yield [
                Ask(model="model", messages=tuple(messages), sampling=sampling, draw=turn, fixed_seed=seed)
            ]
        except UserError:
            raise
        except LoopbenchError as error:
            return _answer(item, outputs, finish, prompt_tokens, completion_tokens, str(error))
        outputs.append(completion.text)
        finish.append(completion.finish)
        prompt_tokens += completion.prompt_tokens
        completion_tokens += completion.new_tokens
        messages.append(Message(role="assistant", content=completion.text))
    return _answer(item, outputs, finish, prompt_tokens, completion_tokens, None)


def missing(answer: Answer | None, turn: int) -> str | None:
    """Why a turn has no answer; None where it has one. An empty text is an answer, only a bad one."""
    if answer is not None and turn < len(answer.outputs):
        return None
    reason = answer.data.get(ERROR) if answer is not None else None
    return f"no answer: {reason}" if reason else "no answer"


def _answer(
    item: EvalItem, outputs: list[str], finish: list[str], prompt: int, completion: int, error: str | None
) -> Answer:
    return Answer(
        item=item.id,
        outputs=tuple(outputs),
        finish=tuple(finish),
        prompt_tokens=prompt,
        completion_tokens=completion,
        data={} if error is None else {ERROR: error},
    )
