"""A warm-up that earlier phases have begun: the schedule starts where they left it."""

from __future__ import annotations

from typing import Any


def resumed_warmup(done: int) -> Any:
    """The callback that sets a fresh schedule to its step `done`; one that a checkpoint brought is left alone."""
    from transformers import TrainerCallback

    class Warm(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
            if state.global_step or lr_scheduler is None:
                return
            inner = getattr(lr_scheduler, "scheduler", lr_scheduler)  # as accelerate wraps it
            inner.last_epoch = done
            rates = [base * shape(done) for base, shape in zip(inner.base_lrs, inner.lr_lambdas, strict=True)]
            for group, rate in zip(inner.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            inner._last_lr = rates  # noqa: SLF001

    return Warm()
