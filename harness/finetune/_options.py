"""The options that all fine-tunings share, under TRL's names where TRL has one."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from harness.blocks.base import ModelRole, identity, runtime
from harness.blocks.kinds import Trainer
from harness.finetune._fields import problem
from harness.records.values import Count

Scheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "warmup_stable_decay",
]  # fmt: skip

_UNSAID = (("checkpoints", 1), ("warmup_done", 0), ("attn_implementation", None), ("use_liger_kernel", False))
LOADING = frozenset({"attn_implementation", "use_kernels", "experts_implementation"})
"""What may be said about opening the model; the rest is decided by options of their own, or not at all."""


class Lora(BaseModel):
    """Low-rank adapters (arXiv 2106.09685) instead of full tuning; merged into the weights that are saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: int = Field(16, ge=1, description="Rank.")
    alpha: float = Field(32.0, gt=0, allow_inf_nan=False, description="Scale: the update is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before each adapter.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Names of the adapted modules; all-linear is every linear one but the output head."
    )


class Tuning(Trainer):
    """What SFT and DPO have in common."""

    config: ClassVar[Literal["SFTConfig", "DPOConfig"]]

    start: ModelRole = identity("current", description="The model that training starts from.")
    learning_rate: float = identity(2e-5, gt=0, allow_inf_nan=False, description="Peak learning rate.", source="TRL")
    epochs: float = identity(
        3.0, gt=0, allow_inf_nan=False, description="Passes over the rows (TRL: num_train_epochs).", source="TRL"
    )
    max_steps: Count | None = identity(None, description="Optimizer steps, instead of epochs.", unit="steps")
    train_tokens: Count | None = identity(
        None, description="Stop the schedule at about this many training tokens, instead of epochs.", unit="tokens"
    )
    batch_size: int = identity(
        8, ge=1, description="Rows per forward pass (TRL: per_device_train_batch_size).", unit="rows", source="TRL"
    )
    gradient_accumulation_steps: int = identity(1, ge=1, description="Forward passes per optimizer step.", source="TRL")
    optim: str = identity("adamw_torch_fused", description="Optimizer, by its transformers name.", source="TRL")
    lr_scheduler_type: Scheduler = identity("linear", description="Course of the learning rate.", source="TRL")
    warmup_steps: float = identity(
        0.0, ge=0, allow_inf_nan=False, description="Steps of rising learning rate; below 1, a share of all steps."
    )
    warmup_done: int = identity(
        0,
        ge=0,
        unit="steps",
        description="Steps of the warm-up that earlier phases have made: the rate goes on from there.",
    )
    weight_decay: float = identity(0.0, ge=0, allow_inf_nan=False, description="Decoupled weight decay.", source="TRL")
    max_grad_norm: float = identity(1.0, ge=0, allow_inf_nan=False, description="Gradient clipping; 0: none.")
    max_length: Count = identity(
        1024, description="Longest row; a longer one loses its end, end token included.", unit="tokens", source="TRL"
    )
    group_by_length: bool = identity(False, description="Batches of rows of like length: less padding, less mixing.")
    lora: Lora | None = identity(
        None, description="Adapters instead of full tuning: {r, alpha, dropout, target_modules}."
    )
    dtype: Literal["float32", "bfloat16"] = identity(
        "float32", description="Type of the trained and saved weights. bfloat16 loses updates smaller than 0.4 %."
    )
    bf16: bool | None = identity(
        None, description="Compute in bfloat16 (autocast). By default on a CUDA device that has it, never on a CPU."
    )
    checkpoints: Count = identity(
        1,
        description="Models kept at equal distances of the training, its end included; as many as epochs: one each.",
    )
    choose: str | None = identity(
        None,
        description="SUITE or SUITE/METRIC: go on with the kept model that does best on the suite's dev split; ties go "
        "to the earlier one. By default the last.",
        source="2403.01081 §3.3",
    )
    choose_within: float = identity(
        0.0, ge=0, allow_inf_nan=False, description="Take the earliest kept model that comes this close to the best."
    )
    attn_implementation: str | None = identity(
        None,
        description="Attention, by its transformers name: sdpa, eager, flex_attention, and where installed "
        "flash_attention_2, flash_attention_3 or a kernel of the Hub. By default transformers' own choice.",
    )
    use_liger_kernel: bool = identity(
        False, description="Liger's fused layers, on a GPU with the package liger-kernel: less memory, faster."
    )
    trl: dict[str, JsonValue] = identity(
        default_factory=dict, description="Further options of TRL's configuration, under TRL's names."
    )
    gradient_checkpointing: bool | None = runtime(
        None,
        description="Recompute activations: less memory, a fifth to a third more time. By default on a CUDA device "
        "where the states of the training take more than a third of its memory; never on a CPU.",
    )
    devices: int = runtime(
        1,
        ge=1,
        description="Devices that one training runs on, by `accelerate launch`; batch_size is shared out between them, "
        "so the steps stay the same.",
    )
    sharding: Literal["ddp", "fsdp"] = runtime(
        "ddp",
        description="With several devices: a whole model on each (ddp), or its states shared out (fsdp), for models "
        "that do not fit.",
    )
    logging_steps: int = runtime(10, ge=1, description="Steps between two points of the history.", source="TRL")
    save_seconds: float = runtime(
        60.0,
        gt=0,
        description="Time between checkpoints; stretched where writing one takes more than a twentieth of it.",
        unit="seconds",
    )
    save_steps: Count | None = runtime(
        None, description="Steps between checkpoints, besides those by time.", unit="steps"
    )
    save_total_limit: int = runtime(
        2, ge=2, description="Checkpoints kept. At least two: the newest may be incomplete when the process dies."
    )

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.max_steps is not None and self.train_tokens is not None:
            raise ValueError("max_steps and train_tokens both say where training ends: set one")
        return self

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.batch_size % self.devices:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared out evenly between {self.devices} devices: it counts "
                f"the rows of all of them"
            )
        if self.sharding == "fsdp" and self.devices == 1:
            raise ValueError("sharding: fsdp shares a model out between devices: set devices, too")
        if self.sharding == "fsdp" and self.checkpoints > 1:
            raise ValueError("checkpoints keeps whole models along the way, which sharding: fsdp has none of: use ddp")
        return self

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if self.choose is not None and self.checkpoints == 1:
            raise ValueError("choose needs models to choose from: set checkpoints, such as the number of epochs")
        return self

    @model_validator(mode="after")
    def _a_warmup_to_go_on_with(self) -> Self:
        if self.warmup_done and (self.lr_scheduler_type != "constant_with_warmup" or self.warmup_steps < 1):
            raise ValueError("warmup_done needs `lr_scheduler_type: constant_with_warmup` and warmup_steps as a count")
        return self

    def identity_options(self) -> dict[str, Any]:
        """The choice is a stage of its own, after the training. What is not used does not change a training's key."""
        options = super().identity_options()
        left_out = {"choose", "choose_within"}
        left_out |= {name for name, plain in _UNSAID if options[name] == plain}
        return {name: value for name, value in options.items() if name not in left_out}

    @field_validator("trl")
    @classmethod
    def _known(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        found = [text for name in value if (text := problem(cls.config, name, cls.model_fields)) is not None]
        opening = value.get("model_init_kwargs", {})
        if not isinstance(opening, dict) or not opening.keys() <= LOADING:
            found.append(f"model_init_kwargs may hold {', '.join(sorted(LOADING))} only")
        if found:
            raise ValueError("; ".join(found))
        return value
