"""`dpo`: preference training on pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from harness.blocks.base import OptionalRole, identity
from harness.blocks.kinds import TrainContext, TrainReport
from harness.finetune._data import Encoded, Pair, encode_pairs
from harness.finetune._guards import guarded
from harness.finetune._models import load_model
from harness.finetune._options import Tuning
from harness.finetune._pairs import PairCollator, add_reference, pair_items, pair_length
from harness.finetune._run import tune
from harness.finetune._setup import Built, Opened, adapters, configured, steps_for
from harness.records.example import Example

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class Dpo(Tuning):
    """Direct preference optimisation (arXiv 2305.18290) with TRL's DPOTrainer, full or LoRA.

    Rows need an answer and a rejected one. With the sigmoid loss, chosen and rejected log-ratios against the reference
    are compared, summed over tokens and scaled by beta; before the first step policy and reference agree, so the loss
    is ln 2 whatever the data. With the start model as reference and its own answers as rejected, this is one iteration
    of SPIN (arXiv 2401.01335, section 4.2), beta being its lambda. What a step reports: loss, grad_norm, learning_rate,
    tokens, rewards/… (chosen, rejected, accuracies, margins), logps/chosen and logps/rejected.

    Dropout is off in policy and reference, as in TRL.
    """

    name: ClassVar[str] = "dpo"
    config: ClassVar[Literal["SFTConfig", "DPOConfig"]] = "DPOConfig"

    reference: OptionalRole = identity(None, description="The reference model; by default the start model.")
    learning_rate: float = identity(1e-6, gt=0, allow_inf_nan=False, description="Peak learning rate.", source="TRL")
    beta: float = identity(
        0.1, gt=0, allow_inf_nan=False, description="Pull to the reference (SPIN calls it lambda).", source="TRL"
    )
    loss_type: Loss = identity("sigmoid", description="Form of the preference loss, by TRL's name.", source="TRL")
    label_smoothing: float = identity(0.0, ge=0, lt=0.5, description="Share of pairs taken to be the wrong way round.")
    precompute_ref_log_probs: bool = identity(
        True,
        description="Ask the reference once per pair, not at every step: less time and memory, equal up to rounding.",
    )

    def train(self, rows: Iterable[Example], context: TrainContext) -> TrainReport:
        """Tunes the start model on the pairs and writes `context.out`."""
        return tune(self, context, lambda opened: encode_pairs(rows, opened.chat, opened.limit), self._build)

    def _build(self, opened: Opened, encoded: Encoded[Pair], arguments: dict[str, Any]) -> Built:
        from datasets import Dataset
        from trl.trainer.dpo_trainer import DataCollatorForPreference

        pairs, context = encoded.rows, opened.context
        trained = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        tokens = [2 * len(pair.prompt) + count for pair, count in zip(pairs, trained, strict=True)]
        items = pair_items(pairs)
        other = context.reference is not None and context.reference.resolve() != context.start.resolve()
        live = not self.precompute_ref_log_probs and self.lora is None
        arguments |= {
            "max_steps": steps_for(self, len(items), sum(tokens)),
            "beta": self.beta,
            "loss_type": [self.loss_type],
            "label_smoothing": self.label_smoothing,
            "precompute_ref_log_probs": self.precompute_ref_log_probs,
        }
        trainer = guarded("DPOTrainer")(
            model=opened.model,
            ref_model=load_model(context.reference or context.start, self) if other or live else None,
            args=configured(self.config, arguments),
            # the pairs themselves follow in `tune`, as token ids
            train_dataset=Dataset.from_dict({"prompt": [""], "chosen": [""], "rejected": [""]}),
            processing_class=opened.chat.tokenizer,
            data_collator=PairCollator(DataCollatorForPreference(pad_token_id=opened.pad)),
            peft_config=adapters(opened),
        )
        if self.precompute_ref_log_probs:
            add_reference(trainer, items, self.batch_size)
        return Built(trainer, items, [pair_length(pair) for pair in pairs], tokens, trained, "pairs")
