"""What suites of pairs have in common: one question, one answer, a judge who prefers it or the reference."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from harness.blocks.base import identity
from harness.blocks.kinds import Answer, Context, EvalItem, Metric, Reply, Request, Sampling, Suite
from harness.evaluate._talk import converse


class PairSuite(Suite):
    """Base of the suites whose items hold the other side's answer as their reference."""

    max_tokens: int = identity(2048, ge=1, description="Length limit of an answer.", unit="tokens")
    temperature: float = identity(0.0, ge=0, description="Sampling temperature of the answers.")
    repeats: int = identity(1, ge=1, le=20, description="How often each pair is judged, to measure the judge's noise.")

    def metrics(self) -> tuple[Metric, ...]:
        """The win share (headline) and the length of the output."""
        return (Metric(name="win"), Metric(name="length", unit="characters"))

    def answer(self, item: EvalItem, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Answer]:
        """Asks the item's one question."""
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        return (yield from converse(item, self.name, sampling))

    def needs_judge(self) -> bool:
        """True: preferences are the judge's."""
        return True

    def gold_value(self) -> float:
        """The other side's own answer draws with itself."""
        return 0.5
