"""What one round of preference training is measured by, and when another one does not pay.

Neither the paper nor its code has a stop rule (arXiv 2401.01335, section 6.2: four rounds). Training accuracy is none:
it goes to 1 in any round with enough epochs. What tells is whether the round taught anything about prompts that it did
not train on: where a model cannot tell its own answers from the data's there, its answers are as good as the data's for
this training, and theorem 5.2 says that self-play ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.blocks.kinds import TrainContext, TrainReport
from harness.finetune._data import encode_pairs
from harness.finetune._models import load_model, save_model
from harness.finetune._pairs import Item, on_device, pair_items
from harness.finetune._quiet import surroundings
from harness.finetune._setup import Measured, Opened
from harness.records.held import held_out

if TYPE_CHECKING:
    from harness.finetune.dpo import Dpo
    from harness.records.example import Example

LEVEL = 0.05
"""A round pays where the held-out accuracy is above one half with at most this chance of being an accident."""
FEWEST = 20
"""With fewer held-out pairs the rule says nothing."""
_MEASURED = ("rewards/", "logps/")


@dataclass
class HeldOut:
    """Splits rows while they are read; `rows` are those kept out so far, `newest` is the latest round of all."""

    share: float | None
    rows: list[Example] = field(default_factory=list)
    newest: int = 0

    def trained(self, rows: Iterator[Example]) -> Iterator[Example]:
        """The rows that train."""
        for row in rows:
            self.newest = max(self.newest, row.origin.iteration or 0)
            prompt = row.group or [[m["role"], m["content"]] for m in row.prompt]
            if self.share is not None and held_out(prompt, self.share):
                self.rows.append(row)
            else:
                yield row

    def fresh(self) -> list[Example]:
        """The rows of the newest round: older answers were sampled from another model."""
        return [row for row in self.rows if (row.origin.iteration or 0) == self.newest]

    def encoded(self, opened: Opened, cap: int | None) -> list[Item]:
        """The fresh rows as pairs of token ids."""
        rows = self.fresh()
        return pair_items(encode_pairs(rows, opened.chat, opened.limit, cap).rows) if rows else []


def kept_start(block: Dpo, context: TrainContext, held: int) -> TrainReport:
    """A round that has nothing to train on: the model that it started from is what it gives."""
    from harness.records.chat import ChatFormat

    with surroundings(context.threads):
        save_model(load_model(context.start, block), ChatFormat.from_folder(context.start), context.start, context.out)
    why = f"the {held:,} that there are are all held out" if held else "since the answers equal the data's"
    text = f"stop: no pair to train on, {why}; the round gives back the model it began with"
    return TrainReport(
        steps=0,
        rows=0,
        train_tokens=0,
        loss_tokens=0,
        first_loss=None,
        last_loss=None,
        counts={"held out": held} if held else {},
        notes={"stop": text},
    )


def measured(trainer: Any, fresh: Sequence[Item], block: Dpo, expected: float | None) -> Measured:
    """What the report says of a round besides its history.

    `held_out/change/…` is how far the log-probability of a held-out answer moved from the reference, in nats per
    answer; `held_out/kl` is its negative for the rejected answers: an estimate of the divergence of the reference from
    the tuned model in nats per answer where these are the reference's samples at temperature 1. Answers that equal the
    data's are no pairs and so not in it.
    """
    figures = {} if expected is None else {"loss/expected": expected}
    if not fresh:
        return Measured(figures)
    found = measure(trainer, fresh, block.batch_size)
    figures |= {f"held_out/{name}": value for name, value in found.items()}
    moved = {side: found[f"rewards/{side}"] / block.beta for side in ("chosen", "rejected")}
    figures |= {f"held_out/change/{side}": value for side, value in moved.items()}
    figures |= {"held_out/pairs": float(len(fresh)), "held_out/kl": -moved["rejected"]}
    says = signal(found["rewards/accuracies"], len(fresh))
    if says.chance is not None:
        figures["held_out/p"] = says.chance
    keep = not says.pays and block.on_stop == "keep_start"
    text = says.text + ("; the round gives back the model it began with" if keep else "")
    return Measured(figures, {"stop": text}, keep_start=keep)


def measure(trainer: Any, items: Sequence[Item], batch_size: int) -> dict[str, float]:
    """Loss, rewards and log-probabilities of both sides on pairs, by the trainer's own arithmetic, without training."""
    import torch

    trainer.model.eval()
    totals: dict[str, float] = {}
    for at in range(0, len(items), batch_size):
        part = items[at : at + batch_size]
        inputs = on_device(trainer, part)
        found = trainer._metrics["eval"]  # noqa: SLF001
        found.clear()
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = float(trainer.compute_loss(trainer.model, inputs))
        means = {name: values[-1] for name, values in found.items() if name.startswith(_MEASURED)}
        for name, value in {"loss": loss, **means}.items():
            totals[name] = totals.get(name, 0.0) + value * len(part)
        found.clear()
    return {name: total / len(items) for name, total in totals.items()}


@dataclass(frozen=True)
class Signal:
    """Whether another round pays. `chance`: how likely so good an accuracy is by accident."""

    pays: bool
    chance: float | None
    text: str


def signal(accuracy: float, pairs: int) -> Signal:
    """The stop rule: held-out accuracy not above one half (exact one-sided binomial test, 5 %) is a stop signal."""
    from scipy.stats import binomtest

    if pairs < FEWEST:
        return Signal(True, None, f"cannot tell: {pairs} held-out pairs, at least {FEWEST} are needed")
    chance = float(binomtest(round(accuracy * pairs), pairs, 0.5, alternative="greater").pvalue)
    where = f"accuracy {accuracy:.2f} on {pairs:,} held-out pairs (p {chance:.2g})"
    if chance <= LEVEL:
        return Signal(True, chance, f"go on: {where}")
    return Signal(False, chance, f"stop: {where} is not above one half: another round does not pay")
