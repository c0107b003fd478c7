"""Does a model keep rows apart that lie in one sequence? Asked of the model itself, not of a list of architectures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.finetune._batches import Layout

PROBE = 48


def takes_positions(model: Any) -> bool:
    """True where the model can be given positions and needs no attention mask for anything but padding."""
    experts = hasattr(model.config.get_text_config(), "output_router_logits")
    names = inspect.signature(type(model).forward).parameters
    return not experts and "position_ids" in names


def keeps_apart(model: Any, first: Sequence[int], second: Sequence[int]) -> bool:
    """True where `second` gets the same logits after `first` in one sequence, positions begun anew, as by itself.

    The bound is rounding of the model's type plus a hundredth of what an open leak does to the logits. Asked with two
    sequences at once: some attention kernels tell rows apart in a single sequence only.
    """
    import torch

    first, second = list(first[:PROBE]), list(second[:PROBE])
    device = next(model.parameters()).device
    anew = torch.tensor([[*range(len(first)), *range(len(second))]] * 2, device=device)
    both, alone = torch.tensor([first + second] * 2, device=device), torch.tensor([second] * 2, device=device)
    training = model.training
    model.eval()
    with torch.no_grad():
        apart = model(input_ids=both, position_ids=anew, use_cache=False).logits[:, len(first) :]
        open_ = model(input_ids=both, use_cache=False).logits[:, len(first) :]
        single = model(input_ids=alone, use_cache=False).logits
    model.train(training)
    rounding = 64 * torch.finfo(single.dtype).eps * float(single.abs().max())
    bound = rounding + 0.01 * float((open_ - single).abs().max())
    return bool(float((apart - single).abs().max()) <= bound)


def layout_for(model: Any, on_cpu: bool, packing: bool, probe: Sequence[Sequence[int]]) -> Layout | None:
    """The best layout that is safe for a model; None where `packing` is asked for and would leak.

    `probe` holds the ids of two rows. On an accelerator rows are only packed on request: there a padded batch without
    an attention mask runs faster kernels than a packed one with a mask.
    """
    if not takes_positions(model):
        return None if packing else "masked"
    if not (on_cpu or packing):
        return "padded"
    if len(probe) == 2 and keeps_apart(model, *probe):
        return "packed"
    return None if packing else "padded"
