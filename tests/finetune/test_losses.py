"""Preference losses: equal to the released code of SPIN, to plain torch, and known before the first step."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import formula
import numpy as np
import pytest
from pydantic import ValidationError
from tuning import pairs

from harness.blocks.kinds import TrainContext
from harness.finetune._data import Encoded, Pair
from harness.finetune._losses import Loss, start_loss
from harness.finetune._pairs import on_device
from harness.finetune._rounds import HeldOut
from harness.finetune._setup import Built, Opened, settings
from harness.finetune.dpo import Dpo
from harness.records.chat import ChatFormat

Make = Callable[..., TrainContext]
LN2 = math.log(2)
RELEASED = json.loads((Path(__file__).parent / "spin_released.json").read_text())
LOSSES: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda z: (1 + (-z).exp()).log(),
    "hinge": lambda z: (1 - z).clamp(min=0),
    "correlation": lambda z: 1 - z,
    "exponential": lambda z: (-z).exp(),
}
LOGISTIC = ("sigmoid", "sigmoid_norm", "robust", "aot", "aot_unpaired")
"""Losses that are ln 2 where policy and reference agree."""


def case(values: dict[str, Any]) -> str:
    return f"{values['loss_type']}-{values['beta']}"


@pytest.fixture(scope="module")
def opponent(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opponent")
    formula.model(0.9).save_pretrained(folder)
    for file in base.iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copy(file, folder)
    return folder


@pytest.fixture
def build(context: Make, base: Path, opponent: Path) -> Callable[..., Built]:
    """A trainer of the formula's rows; the policy is the formula's model, the reference another one or itself."""

    def make(agrees: bool = False, **options: Any) -> Built:
        import torch

        block = Dpo(**options)
        given = context(reference=None if agrees else opponent)
        opened = Opened(block, given, ChatFormat.from_folder(base), formula.model(0.0), torch.device("cpu"), 64)
        arrays = [[np.asarray(part, np.int32) for part in row] for row in formula.rows()]
        encoded = Encoded(rows=[Pair(f"row/{k}", *parts) for k, parts in enumerate(arrays)])
        return block._build(HeldOut(None), opened, encoded, settings(opened))

    return make


def loss_and_gradients(built: Built) -> tuple[float, dict[str, Any], dict[str, float]]:
    trainer = built.trainer
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, on_device(trainer, built.items))
    loss.backward()
    gradients = {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return float(loss.detach()), gradients, metrics


def norm(gradients: dict[str, Any]) -> float:
    return math.sqrt(sum(float((value.double() ** 2).sum()) for value in gradients.values()))


@pytest.mark.parametrize("released", RELEASED["cases"], ids=case)
def test_loss_rewards_and_gradients_are_those_of_the_released_code(
    build: Callable[..., Built], released: dict[str, Any]
) -> None:
    loss, gradients, metrics = loss_and_gradients(build(loss_type=released["loss_type"], beta=released["beta"]))
    assert loss == pytest.approx(released["loss"], abs=1e-5)
    assert norm(gradients) == pytest.approx(released["grad_norm"], rel=1e-5)
    assert gradients["model.norm.weight"].tolist() == pytest.approx(released["final_norm_grad"], rel=1e-4, abs=1e-5)
    for ours, theirs in (("chosen", "real"), ("rejected", "generated")):
        assert metrics[f"logps/{ours}"] == pytest.approx(released[f"logps/{theirs}"], abs=1e-4)
        assert metrics[f"rewards/{ours}"] == pytest.approx(
            released[f"rewards/{theirs}"], abs=1e-5 * released["beta"] * 10
        )
    assert metrics["rewards/accuracies"] == released["rewards/accuracies"]


@pytest.mark.parametrize("released", RELEASED["at_start"], ids=case)
def test_the_first_loss_and_gradient_of_a_round_are_those_of_the_released_code(
    build: Callable[..., Built], released: dict[str, Any]
) -> None:
    loss, gradients, _ = loss_and_gradients(build(agrees=True, loss_type=released["loss_type"], beta=released["beta"]))
    assert loss == pytest.approx(released["loss"], abs=1e-5 * max(1, released["beta"]))
    assert norm(gradients) == pytest.approx(released["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("beta", formula.BETAS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_plain_torch(build: Callable[..., Built], name: str, beta: float) -> None:
    import torch

    beta = min(beta, 0.5) if name == "exponential" else beta
    loss, gradients, _ = loss_and_gradients(build(loss_type=name, beta=beta))
    policy, reference = formula.model(0.0), formula.model(0.9)

    def logp(model: Any, prompt: list[int], answer: list[int]) -> Any:
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()

    def ratio(prompt: list[int], answer: list[int]) -> Any:
        with torch.no_grad():
            fixed = logp(reference, prompt, answer)
        return logp(policy, prompt, answer) - fixed

    z = torch.stack([beta * (ratio(p, chosen) - ratio(p, rejected)) for p, chosen, rejected in formula.rows()])
    expected = LOSSES[name](z).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5 * max(1, beta))
    largest = max(float(value.abs().max()) for value in gradients.values())
    for key, weight in policy.named_parameters():
        torch.testing.assert_close(gradients[key], weight.grad, rtol=1e-4, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["full", "lora"])
@pytest.mark.parametrize("name", [name for name in get_args(Loss) if name != "sft"])
def test_before_the_first_step_the_loss_is_known(
    build: Callable[..., Built], name: str, lora: dict[str, int] | None
) -> None:
    smoothing = 0.1 if name == "exo_pair" else 0.0
    loss, _, metrics = loss_and_gradients(build(agrees=True, loss_type=name, lora=lora, label_smoothing=smoothing))
    expected = start_loss(name, 0.1, smoothing)
    assert expected is not None
    assert (name in LOGISTIC) is (expected == LN2)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert metrics["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert metrics["rewards/accuracies"] <= 0.5, "ties are no wins; rounding may part some"


@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["full", "lora"])
def test_each_round_begins_with_ln_2(context: Make, lora: dict[str, int] | None) -> None:
    options: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 2, "logging_steps": 1, "lora": lora, "beta": 0.5}
    start, firsts = None, []
    for turn in range(3):
        run = context(f"round-{turn}", **({} if start is None else {"start": start, "reference": start}))
        report = Dpo(**options).train(pairs(16), run)
        assert report.first_loss is not None
        firsts.append(report.first_loss)
        assert report.last_loss is not None
        assert report.last_loss < LN2 - 0.01, "the round moved the model, so a wrong reference would show in the next"
        assert report.figures["loss/expected"] == LN2
        start = run.out
    assert firsts == pytest.approx([LN2] * 3, abs=1e-5)


def test_logistic_is_sigmoid_and_clashes_are_named() -> None:
    assert Dpo(loss_type="logistic") == Dpo()
    with pytest.raises(ValidationError, match="correlation has no label_smoothing"):
        Dpo(loss_type="correlation", label_smoothing=0.1)
    with pytest.raises(ValidationError, match="exponential has no loss_weights"):
        Dpo(loss_type="exponential", trl={"loss_weights": [1.0]})
    with pytest.raises(
        ValidationError, match="label_smoothing has no effect on loss_type sigmoid: drop it, or take rob"
    ):
        Dpo(label_smoothing=0.1)
    with pytest.raises(ValidationError, match="infinite without label_smoothing"):
        Dpo(loss_type="exo_pair")
