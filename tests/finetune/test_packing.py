"""Packed, padded and single rows are one loss and one gradient, and rows of one sequence do not see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tuning import examples

from harness.finetune._batches import Layout, RowCollator, pack_all
from harness.finetune._data import Row, encode_rows
from harness.finetune._quiet import surroundings
from harness.records.chat import ChatFormat


@pytest.fixture(scope="module")
def rows(base: Path) -> list[Row]:
    return encode_rows(examples(12), ChatFormat.from_folder(base), 128, None).rows


def plain(model: Any, rows: list[Row]) -> tuple[float, dict[str, Any]]:
    """Loss and gradients, one row at a time, with nothing but the model and cross-entropy."""
    import torch

    model.zero_grad()
    count = sum(int(row.train.sum()) for row in rows)
    loss = 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids.astype("int64"))[None]
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        part = each[torch.from_numpy(row.train[1:])].sum() / count
        part.backward()
        loss += float(part.detach())
    return loss, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", ["packed", "padded", "masked", "whole set"])
def test_a_batch_is_its_rows_one_by_one(base: Path, rows: list[Row], layout: Layout, attention: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=attention)
    expected, gradients = plain(model, rows)
    model.zero_grad()
    add_fused_lm_head(model)
    whole = str(layout) == "whole set"
    items = pack_all([len(row.ids) for row in rows], 128) if whole else [[row] for row in range(len(rows))]
    batch = RowCollator(rows, 0, "packed" if whole else layout, 4096)(items)
    assert (batch["input_ids"].shape[0] < len(rows)) == (layout in ("packed", "whole set"))
    where = {name: batch[name] for name in ("position_ids", "attention_mask") if name in batch}
    with surroundings(1):
        outputs = model(
            input_ids=batch["input_ids"],
            labels=batch["labels"],
            shift_labels=batch["shift_labels"],
            fused_lm_head=True,
            **where,
        )
        outputs.loss.backward()
    assert float(outputs.loss.detach()) == pytest.approx(expected, abs=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-4)


def test_a_row_has_no_influence_on_what_follows_it_in_a_sequence(base: Path, rows: list[Row]) -> None:
    """Exactly none: the gradient of one row's loss with respect to the words of another is zero."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    batch = RowCollator(rows[:3], 0, "flat", 32)([[0], [1], [2]])
    words = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    logits = model(inputs_embeds=words, position_ids=batch["position_ids"], use_cache=False).logits[0]
    first = len(rows[0].ids) - 1
    second = first + len(rows[1].ids) - 1
    logits[first:second].logsumexp(-1).sum().backward()
    touched = words.grad[0].abs().sum(-1)
    assert touched[:first].max() == 0
    assert touched[second:].max() == 0
    assert touched[first:second].min() > 0
