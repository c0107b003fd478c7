"""Losses of preference pairs: TRL's by their names, and two more of arXiv 2401.01335 as a subclass of its trainer.

With z = beta (log-ratio of the chosen answer - log-ratio of the rejected one), section 4.1 and assumption 5.1 of that
paper allow any convex, decreasing loss: logistic log(1 + exp(-z)) (TRL: sigmoid), hinge max(0, 1 - z) (TRL: hinge),
correlation 1 - z and exponential exp(-z), which TRL lacks. Both of the latter are sums of losses that TRL has, since
log s(z) - log s(-z) = z for the logistic function s; so every other option of TRL's trainer holds for them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from harness.finetune._guards import guarded

Loss = Literal[
    "sigmoid", "hinge", "correlation", "exponential", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard",
    "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
SMOOTHED = ("robust", "aot", "aot_unpaired", "exo_pair")
"""Losses of TRL that read `label_smoothing`; the others pass over it."""
LN2 = math.log(2)


@dataclass(frozen=True)
class Sum:
    """A loss as a weighted sum of losses of TRL and a constant; `options` are arguments of TRL's configuration."""

    losses: tuple[str, ...]
    weights: tuple[float, ...]
    options: Mapping[str, float] = field(default_factory=dict)
    constant: float = 0.0


SUMS: Mapping[str, Sum] = {
    # robust with share e is -log s(z) - z e / (1 - 2e), so twice (robust with e = 1/4 - sigmoid) is -z
    "correlation": Sum(("robust", "sigmoid"), (2.0, -2.0), {"label_smoothing": 0.25}, constant=1.0),
    # discopop with an unlimited temperature is the mean of the logistic and the exponential loss
    "exponential": Sum(("discopop", "sigmoid"), (2.0, -1.0), {"discopop_tau": 1e30}),
}


def arguments(loss: str) -> dict[str, Any]:
    """TRL's arguments for a loss."""
    made = SUMS.get(loss)
    if made is None:
        return {"loss_type": [loss]}
    return {"loss_type": list(made.losses), "loss_weights": list(made.weights), **made.options}


_Trainer: Any = object
"""TRL's trainer, named where the class is built: importing it takes seconds."""


class Shifted(_Trainer):
    """Adds the loss's constant, so that what is logged is the loss of the paper; gradients do not see it."""

    constant: float

    def _compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super()._compute_loss(*args, **kwargs) + self.constant


@cache
def trainer_class(loss: str) -> Any:
    """TRL's preference trainer, watched, for a loss."""
    base = guarded("DPOTrainer")
    made = SUMS.get(loss)
    return base if made is None else type(f"{loss.title()}Trainer", (Shifted, base), {"constant": made.constant})


_AT_START: Mapping[str, Callable[[float, float], float]] = {
    **dict.fromkeys(("sigmoid", "sigmoid_norm", "robust", "aot", "aot_unpaired"), lambda beta, share: LN2),
    **dict.fromkeys(("nca_pair", "bco_pair"), lambda beta, share: 2 * LN2),
    **dict.fromkeys(
        ("hinge", "correlation", "exponential", "apo_zero", "apo_down"),
        lambda beta, share: 1.0,
    ),
    "discopop": lambda beta, share: (LN2 + 1) / 2,
    "ipo": lambda beta, share: 1 / (2 * beta) ** 2,
    "sppo_hard": lambda beta, share: 2 * (1 / (2 * beta)) ** 2,
    "exo_pair": lambda beta, share: -LN2 - (math.log(share) + math.log1p(-share)) / 2 if share else math.inf,
}


def start_loss(loss: str, beta: float, label_smoothing: float = 0.0) -> float | None:
    """The loss where policy and reference agree, whatever the pairs; None where it depends on them.

    So the first step of every round of self-play has it (ln 2 for the logistic loss): another value says that the
    reference is not the model that the round started from.
    """
    rule = _AT_START.get(loss)
    return None if rule is None else rule(beta, label_smoothing)
