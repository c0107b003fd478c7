"""The seven kinds of block and the one method of each.

Blocks never call engines. A method that needs one is a generator: it yields a list of asks and receives the list of
replies, in order. Whoever drives it (`harness.loop`) renders, batches across rows, journals, retries and resumes, so
fan-out and chained calls are plain code:

    def make(self, item):
        (drafts,) = yield [Ask(messages=prompt, model=self.model, sampling=Sampling(n=4))]
        (verdict,) = yield [Ask(messages=ask_for_the_best(drafts), model=self.judge)]
        return [...]
"""

from __future__ import annotations

from harness.blocks.evaluation import Answer, EvalItem, Grade, Judge, Metric, Suite, Verdict
from harness.blocks.given import Context, Feedback, Item, Weakness
from harness.blocks.requests import Ask, Asking, Embed, Made, Reply, Request, Reward, Score, Tolerant
from harness.blocks.rowblocks import Columns, PairBuilder, PartSelector, Scorer, Selector, Synthesizer, TableScorer
from harness.blocks.training import TrainContext, Trainer, TrainReport
from harness.engines.base import Completion, Logprobs, Sampling
from harness.records.example import Drop

__all__ = [
    "Answer",
    "Ask",
    "Asking",
    "Columns",
    "Completion",
    "Context",
    "Drop",
    "Embed",
    "EvalItem",
    "Feedback",
    "Grade",
    "Item",
    "Judge",
    "Logprobs",
    "Made",
    "Metric",
    "PairBuilder",
    "PartSelector",
    "Reply",
    "Request",
    "Reward",
    "Sampling",
    "Score",
    "Scorer",
    "Selector",
    "Suite",
    "Synthesizer",
    "TableScorer",
    "Tolerant",
    "TrainContext",
    "TrainReport",
    "Trainer",
    "Verdict",
    "Weakness",
]  # fmt: skip
