"""`sft`: supervised fine-tuning on conversations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import TrainContext, TrainReport
from harness.errors import UserError
from harness.finetune._batches import Layout, RowCollator, items_of
from harness.finetune._data import Encoded, Row, encode_rows
from harness.finetune._guards import guarded
from harness.finetune._isolation import layout_for
from harness.finetune._launch import launched, spreads
from harness.finetune._options import Tuning
from harness.finetune._run import tune
from harness.finetune._setup import Built, Opened, adapters, configured, steps_for
from harness.records.example import Example, LossOn


class Sft(Tuning):
    """Supervised fine-tuning with TRL's SFTTrainer, full or LoRA.

    The loss is the mean over the trained tokens of a batch: those that the assistant wrote, end tokens included, or
    all. A row with a weight w counts w times as much per token. Conversations are rendered with the start model's own
    template, and the mask is verified for each row. What a step reports: loss (nats per token), grad_norm,
    learning_rate, tokens (so far), entropy and mean_token_accuracy.
    """

    name: ClassVar[str] = "sft"
    version: ClassVar[int] = 2  # since 2: other last digits, from batches with less padding
    config: ClassVar[Literal["SFTConfig", "DPOConfig"]] = "SFTConfig"

    loss_on: LossOn | None = identity(
        None, description="Train on the assistant's turns, or on all tokens; by default as each row says."
    )
    loss_type: Literal["nll", "dft"] = identity(
        "nll", description="Negative log-likelihood, or dynamic fine-tuning.", source="dft: arXiv 2508.05629"
    )
    packing: bool = identity(
        False,
        description="Fill sequences of max_length with several rows that do not see each other; batch_size then counts "
        "sequences.",
    )

    def train(self, rows: Iterable[Example], context: TrainContext) -> TrainReport:
        """Tunes the start model on the rows and writes `context.out`."""
        if spreads(self):
            return launched(self, rows, context)

        def encode(opened: Opened) -> Encoded[Row]:
            encoded = encode_rows(rows, opened.chat, opened.limit, self.loss_on)
            if self.loss_type != "nll" and any(row.weight != 1 for row in encoded.rows):
                raise UserError(f"loss_type {self.loss_type} cannot train rows with weights: drop them or use nll")
            return encoded

        return tune(self, context, encode, self._build)

    def _build(self, opened: Opened, encoded: Encoded[Row], arguments: dict[str, Any]) -> Built:
        from datasets import Dataset

        rows = encoded.rows
        layout = _layout(opened, rows, self.packing)
        if layout is None:
            raise UserError(
                f"the model in {opened.context.start} does not keep packed rows apart: write packing: false"
            )
        items = items_of(rows, opened.limit if self.packing else None)
        smoothed = bool(arguments.get("label_smoothing_factor"))  # its loss shifts the labels itself
        trained = [int(row.train.sum()) for row in rows]
        tokens = [len(row.ids) for row in rows]
        arguments |= {
            "max_steps": steps_for(self, len(items), sum(tokens)),
            "loss_type": self.loss_type,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        trainer = guarded("SFTTrainer")(
            model=opened.model,
            args=configured(self.config, arguments),
            # the rows themselves follow in `tune`: as arrays they cost a tenth of the memory and none of the copying
            train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            processing_class=opened.chat.tokenizer,
            data_collator=RowCollator(
                rows, opened.pad, layout, opened.hidden, not smoothed, 8 if opened.device.type == "cuda" else 1
            ),
            peft_config=adapters(opened),
        )
        return Built(trainer, items, [sum(tokens[r] for r in item) for item in items], tokens, trained, layout)


def _layout(opened: Opened, rows: Sequence[Row], packing: bool) -> Layout | None:
    """Asked of the model on the device that it trains on, whose attention kernels are its own.

    Sharded weights go back where they came from: each device is to hold its shard only.
    """
    probe = [row.ids.tolist() for row in rows[:2]]
    opened.model.to(opened.device)
    layout = layout_for(opened.model, opened.device.type == "cpu", packing, probe)
    if opened.here.size > 1 and opened.block.sharding == "fsdp":
        opened.model.to("cpu")
    return layout
