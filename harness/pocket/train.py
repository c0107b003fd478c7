"""Train the pocket models: `python -m harness.pocket.train base|chat --out DIR --tokens N [--grow FILE] [--resume]`.

The learning rate warms up, stays constant, halves once, and falls to zero over the last part of `--tokens`,
so a run can be extended or cut by resuming with another number of tokens. Every batch is drawn from a
seeded stream whose position is part of the checkpoint: a resumed run continues with the batches that it would
have seen. `--grow FILE` starts from a trained model with fewer layers (see `shape.grow`), at `GROWN_PEAK` of the rate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from harness.pocket.batches import Row, document_row, pool_of_batches, tensors
from harness.pocket.documents import document
from harness.pocket.losses import training_loss
from harness.pocket.shape import SHAPES, export, grow, new_model

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

SETTLED = 8_000_000
"""Tokens after which the learning rate halves and only `USER_SHARE` of the chats train their user turns.

What users ask is random by design, so its gradient is mostly noise once the wordings are learned."""
USER_SHARE = 0.9
TOLD = 12_000_000
"""Tokens after which `RETOLD_SHARE` of the passages that base reads have their second wording."""
RETOLD_SHARE = 0.65
DECAY = 0.28
"""Share of all tokens over which the rate falls to zero."""
GROWN_PEAK = 0.4
GROWN_DECAY = 0.65
"""Peak and falling share of a training that starts from a trained model."""
_WARMUP_STEPS = 100


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n)]
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01, momentum=0.95, nesterov=True, ns_steps=5)
    adam = torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    found: list[torch.optim.Optimizer] = [muon, adam]
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def rate(step: int, seen: int, tokens: int, grown: bool = False) -> float:
    """Share of the peak rate: warm-up, constant, half from `SETTLED`, then linear to zero over the last `DECAY`.

    A grown model starts as settled: warm-up to `GROWN_PEAK`, constant, then linear to zero over `GROWN_DECAY`.
    """
    left = max(0.0, (tokens - seen) / ((GROWN_DECAY if grown else DECAY) * tokens))
    peak = GROWN_PEAK if grown else 0.5 if seen >= SETTLED else 1.0
    return min(1.0, (step + 1) / _WARMUP_STEPS, left) * peak


class Run:
    """A training run: model, optimizers, stream of batches and their checkpoint."""

    def __init__(self, name: str, out: Path, tokens: int, layers: int | None = None, grown: bool = False) -> None:
        from harness.pocket.fast import use_bfloat16_products
        from harness.pocket.tokens import build

        self.name, self.out, self.tokens = name, out, tokens
        self.tokenizer = build()
        self.model = new_model(name, self.tokenizer, layers)
        use_bfloat16_products(self.model)
        self.optimizers = optimizers(self.model)
        self.grown = grown
        self.rng = Random(f"pocket/{name}/training{'/grown' if grown else ''}")
        self.step = self.seen = 0
        self.started = time.monotonic()

    def learn(self, batch: list[Row]) -> float:
        """One optimizer step; returns the mean loss per trained token."""
        import torch

        given = tensors(batch, self.tokenizer.pad_token_id)
        scale = rate(self.step, self.seen, self.tokens, self.grown)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * scale
        loss = training_loss(self.model(input_ids=given.ids).logits, given)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seen += sum(len(row.ids) for row in batch)
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint and the model folder; each file appears whole or not at all."""
        import torch

        self.out.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": self.rng.getstate(),
            "step": self.step,
            "seen": self.seen,
        }
        part = self.out / "checkpoint.pt.part"
        torch.save(state, part)
        os.replace(part, self.out / "checkpoint.pt")
        export(self.model, self.tokenizer, self.out / "model")

    def grow_from(self, checkpoint: Path) -> None:
        """Start from the weights of a trained model of fewer layers."""
        import torch

        grow(self.model, torch.load(checkpoint, weights_only=True)["model"])

    def resume(self) -> None:
        """Continue from the checkpoint of `out`."""
        import torch

        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.rng.setstate(state["rng"])
        self.step, self.seen = state["step"], state["seen"]

    def go(self, log_every: int = 50, pools_per_save: int = 40) -> None:
        """Train until `tokens` were seen; log, measure and save on the way."""
        losses: list[float] = []
        for number in count(1):
            share = USER_SHARE if self.grown or self.seen >= SETTLED else 1.0
            retold = RETOLD_SHARE if self.seen >= TOLD else 0.0
            for batch in pool_of_batches(self.name, self.rng, self.tokenizer, share, retold):
                losses.append(self.learn(batch))
                if self.step % log_every == 0:
                    self._log(loss=sum(losses) / len(losses))
                    losses = []
            done = self.seen >= self.tokens
            if done or number % pools_per_save == 0:
                self.save()
                self._log(**self.measure())
            if done:
                return

    def measure(self) -> dict[str, float]:
        """Held-out figures: exact answers by family for chat, loss on other documents for base."""
        from harness.pocket.progress import exact_by_family, held_out_loss

        if self.name == "base":
            rows = [document_row(document(Random(f"dev/{i}"), "dev"), self.tokenizer) for i in range(128)]
            given = tensors(rows, self.tokenizer.pad_token_id)
            return {"dev_loss": held_out_loss(self.model, (given.ids, given.labels))}
        return exact_by_family(self.model, self.tokenizer, "dev", 16)

    def _log(self, **figures: float) -> None:
        line = {"step": self.step, "seen": self.seen, "seconds": round(time.monotonic() - self.started)}
        sys.stdout.write(json.dumps({**line, **{key: round(value, 4) for key, value in figures.items()}}) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(SHAPES))
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and model/")
    parser.add_argument("--tokens", type=int, default=24_000_000, help="length of the training, in tokens")
    parser.add_argument("--layers", type=int, help="layers of the model, if not those of its shape")
    parser.add_argument("--grow", type=Path, metavar="FILE", help="start from this checkpoint.pt of fewer layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="continue from checkpoint.pt in --out")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    run = Run(options.model, options.out, options.tokens, options.layers, options.grow is not None)
    if options.grow is not None and not options.resume:
        run.grow_from(options.grow)
    if options.resume:
        run.resume()
    run.go()


if __name__ == "__main__":
    main()
