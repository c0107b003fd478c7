from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from harness.finetune._fields import RENAMED, names
from harness.finetune.dpo import Dpo
from harness.finetune.sft import Sft

TRL = [
    ({"adam_beta_1": 0.9}, "TRL's SFTConfig has no option adam_beta_1; did you mean adam_beta1?"),
    ({"learning_rate": 1.0}, "learning_rate is an option of its own: write it beside trl"),
    ({"num_train_epochs": 1}, "num_train_epochs is called epochs here"),
    ({"padding_free": True}, "padding_free cannot be set: it needs flash attention"),
    ({"output_dir": "x"}, "output_dir cannot be set: loopbench decides this itself"),
    ({"push_to_hub": True}, "push_to_hub cannot be set"),
    ({"model_init_kwargs": {"dtype": "float16"}}, "model_init_kwargs may hold attn_implementation"),
    ({"trust_remote_code": True}, "code that comes with a model is not run"),
]


@pytest.mark.parametrize(("options", "message"), TRL)
def test_what_may_not_stand_under_trl_says_why(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match="trl") as error:
        Sft(trl=options)
    assert message in str(error.value)


def test_all_mistakes_under_trl_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        Sft(trl={"adam_beta_1": 0.9, "output_dir": "x"})
    assert "adam_beta1" in str(error.value)
    assert "output_dir" in str(error.value)


def test_each_trainer_knows_its_own_options() -> None:
    assert Dpo(trl={"use_weighting": True}).trl == {"use_weighting": True}
    with pytest.raises(ValidationError, match="SFTConfig has no option use_weighting"):
        Sft(trl={"use_weighting": True})


def test_the_names_read_from_the_source_are_trls_own() -> None:
    from dataclasses import fields

    from trl import DPOConfig, SFTConfig

    assert {f.name for f in fields(SFTConfig)} - {"distributed_state"} <= names("SFTConfig")
    assert {f.name for f in fields(DPOConfig)} - {"distributed_state"} <= names("DPOConfig")
    assert set(RENAMED) - {"assistant_only_loss", "completion_only_loss"} <= names("DPOConfig")


def test_checking_options_imports_no_model_library() -> None:
    code = (
        "import sys; from harness.finetune.sft import Sft; from harness.finetune.dpo import Dpo; "
        "Sft(trl={'adam_beta1': 0.8}); print([m for m in ('torch', 'trl', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
