"""`dpo`: preference training on pairs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from harness.blocks.base import OptionalRole, identity
from harness.blocks.kinds import TrainContext, TrainReport
from harness.errors import StageFailed, UserError
from harness.finetune._data import Encoded, Pair, encode_pairs
from harness.finetune._launch import launched, spreads
from harness.finetune._losses import SMOOTHED, SUMS, Loss, arguments, start_loss, trainer_class
from harness.finetune._models import load_model
from harness.finetune._options import Tuning
from harness.finetune._pairs import PairCollator, add_reference, pair_items, pair_length
from harness.finetune._rounds import HeldOut, kept_start, measured
from harness.finetune._run import tune
from harness.finetune._setup import Built, Measured, Opened, adapters, configured, steps_for
from harness.records.chat import ChatFormat
from harness.records.example import Example
from harness.records.values import Count, Share


class Dpo(Tuning):
    """Preference training of pairs (arXiv 2305.18290) with TRL's DPOTrainer, full or LoRA.

    Rows need an answer and a rejected one. Log-ratios of both against the reference are compared, summed over tokens
    and scaled by beta. With the model that a round starts from as reference and its own answers as rejected, this is
    one round of SPIN (arXiv 2401.01335, section 4), beta being its lambda; adapters of the round before are merged into
    that model, so they are part of the reference. Before the first step policy and reference agree, so the first loss
    is known whatever the data: ln 2 for the logistic loss (`figures: loss/expected` in the report). What a step
    reports: loss, grad_norm, learning_rate, tokens, rewards/… (chosen, rejected, accuracies, margins), logps/chosen and
    logps/rejected: a growing margin often goes with both falling.

    An answer that was cut by a length cap (`fields.answer_cut`, `fields.rejected_cut`) is trained without an end token:
    otherwise the model learns to tell cut answers from whole ones. Dropout is off in policy and reference, as in TRL.
    """

    name: ClassVar[str] = "dpo"
    version: ClassVar[int] = 2  # since 2: other last digits, from scoring the answers' positions only
    config: ClassVar[Literal["SFTConfig", "DPOConfig"]] = "DPOConfig"

    reference: OptionalRole = identity(None, description="The reference model; by default the start model.")
    learning_rate: float = identity(1e-6, gt=0, allow_inf_nan=False, description="Peak learning rate.", source="TRL")
    beta: float = identity(
        0.1, gt=0, allow_inf_nan=False, description="Pull to the reference (SPIN calls it lambda).", source="TRL"
    )
    loss_type: Loss = identity(
        "sigmoid",
        description="Form of the preference loss: TRL's names (`logistic` is sigmoid, `hinge`), and the correlation "
        "1 - z and exponential exp(-z) losses, z being beta times the difference of the log-ratios.",
        source="2401.01335 §4.1: logistic; assumption 5.1: the others",
    )
    label_smoothing: float = identity(
        0.0, ge=0, lt=0.5, description="Share of pairs taken to be the wrong way round; of some losses."
    )
    max_answer: Count | None = identity(
        None,
        description="Cap on both answers; a longer one loses its end, end token included. Equal caps keep a model from "
        "telling the sides by their lengths.",
        unit="tokens",
    )
    held_out: Share | None = identity(
        None,
        description="Share of the prompts that never train, the same in every round, on whose newest pairs the tuned "
        "model is measured: the stop signal. Needs about 20 of them.",
    )
    on_stop: Literal["report", "keep_start"] = identity(
        "report",
        description="What a stop signal does: it is reported, or the round gives back the model that it started from. "
        "A round without pairs, because all answers equal the data's, fails or gives that model back.",
    )
    precompute_ref_log_probs: bool = identity(
        True,
        description="Ask the reference once per pair, not at every step: less time and memory, equal up to rounding.",
    )

    @field_validator("loss_type", mode="before")
    @classmethod
    def _by_its_name_in_the_paper(cls, value: Any) -> Any:
        return "sigmoid" if value == "logistic" else value

    @model_validator(mode="after")
    def _no_clash(self) -> Self:
        made = SUMS.get(self.loss_type)
        if made is not None:
            clash = ({"loss_weights", "discopop_tau"} & self.trl.keys()) | (
                {"label_smoothing"} if self.label_smoothing else set()
            )
            if clash:
                raise ValueError(f"loss_type {self.loss_type} has no {', '.join(sorted(clash))}: drop it")
        elif self.label_smoothing and self.loss_type not in SMOOTHED:
            raise ValueError(
                f"label_smoothing has no effect on loss_type {self.loss_type}: drop it, or take {', '.join(SMOOTHED)}"
            )
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type exo_pair is infinite without label_smoothing: set it, to 1e-3 say")
        if self.on_stop == "keep_start" and self.checkpoints > 1:
            raise ValueError("checkpoints and on_stop: keep_start both say which model a round gives: set one of them")
        return self

    def train(self, rows: Iterable[Example], context: TrainContext) -> TrainReport:
        """Tunes the start model on the pairs and writes `context.out`.

        Raises:
            StageFailed: no pair is left, and `on_stop` is `report`.
        """
        if spreads(self):
            return launched(self, rows, context)
        split = HeldOut(self.held_out)
        given = split.trained(iter(rows))
        first = next(given, None)
        if first is None and self.on_stop == "keep_start":
            return kept_start(self, context, len(split.rows))
        if first is None and split.rows:
            raise StageFailed(
                f"{self.name} has no pair to train on: all {len(split.rows):,} are of prompts that `held_out` "
                f"keeps out of training. Lower it, or give more rows"
            )
        if first is None:
            raise StageFailed(
                f"{self.name} has no pair to train on: where a model's answers all equal the data's, self-play has "
                f"nothing left to teach. Run fewer iterations, sample at a higher temperature, or write "
                f"`on_stop: keep_start` to go on with the model as it is"
            )

        def encode(opened: Opened) -> Encoded[Pair]:
            encoded = encode_pairs(chain([first], given), opened.chat, opened.limit, self.max_answer)
            encoded.counts["held out"] += len(split.rows)
            return encoded

        return tune(self, context, encode, partial(self._build, split))

    def _build(self, split: HeldOut, opened: Opened, encoded: Encoded[Pair], given: dict[str, Any]) -> Built:
        from datasets import Dataset
        from trl.trainer.dpo_trainer import DataCollatorForPreference

        pairs, context = encoded.rows, opened.context
        trained = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        sequences = [len(pair.prompt) + len(side) for pair in pairs for side in (pair.chosen, pair.rejected)]
        tokens = [one + other for one, other in zip(sequences[::2], sequences[1::2], strict=True)]
        items = pair_items(pairs)
        fresh = split.encoded(opened, self.max_answer)
        given |= {
            "max_steps": steps_for(self, len(items), sum(tokens)),
            "beta": self.beta,
            "label_smoothing": self.label_smoothing,
            "precompute_ref_log_probs": self.precompute_ref_log_probs,
            **arguments(self.loss_type),
        }
        trainer = trainer_class(self.loss_type)(
            model=opened.model,
            ref_model=self._reference(opened) if self._second(context) else None,
            args=configured(self.config, given),
            # the pairs themselves follow in `tune`, as token ids
            train_dataset=Dataset.from_dict({"prompt": [""], "chosen": [""], "rejected": [""]}),
            processing_class=opened.chat.tokenizer,
            data_collator=PairCollator(DataCollatorForPreference(pad_token_id=opened.pad)),
            peft_config=adapters(opened),
        )
        if self.precompute_ref_log_probs:
            add_reference(trainer, [*items, *fresh], self.batch_size)

        def measure() -> Measured:
            known = self._agrees(context) and not self.trl.keys() & {"loss_weights", "use_weighting"}
            expected = start_loss(self.loss_type, self.beta, self.label_smoothing) if known else None
            return measured(trainer, fresh, self, expected)

        return Built(
            trainer, items, [pair_length(pair) for pair in pairs], tokens, trained, "pairs", measure, sequences
        )

    def _reference(self, opened: Opened) -> Any:
        """The second model.

        Raises:
            UserError: it cannot be loaded, or reads other ids than the model that trains.
        """
        folder = opened.context.reference or opened.context.start
        try:
            if not folder.is_dir():
                raise UserError(f"there is no folder {folder}")
            model = load_model(folder, self)
            vocabulary = ChatFormat.from_folder(folder).tokenizer.get_vocab()
        except UserError as error:
            raise UserError(f"the reference of {self.name} is no model that it can use: {error}") from error
        if vocabulary != opened.chat.tokenizer.get_vocab():
            raise UserError(
                f"the reference of {self.name}, {folder}, reads other token ids than the start model: their "
                f"log-probabilities cannot be compared. Name a reference with the same tokenizer"
            )
        return model

    def _agrees(self, context: TrainContext) -> bool:
        """True where the reference is the model that training starts from."""
        return context.reference is None or context.reference.resolve() == context.start.resolve()

    def _second(self, context: TrainContext) -> bool:
        """True where a second model has to be in memory: another reference, or a live one without adapters."""
        return not self._agrees(context) or (not self.precompute_ref_log_probs and self.lora is None)
