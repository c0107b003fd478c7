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


def keeps_apart(model: Any, first: Sequence[int], second: Sequence[int], sequences: int = 2) -> bool:
    """True where `second` gets the same logits after `first` in one sequence, positions begun anew, as by itself.

    The bound is rounding of the model's type plus a hundredth of what an open leak does to the logits. Asked with two
    sequences at once, unless batches will have one only: some attention kernels tell rows apart in a single sequence.
    """
    import torch

    first, second = list(first[:PROBE]), list(second[:PROBE])
    device = next(model.parameters()).device
    anew = torch.tensor([[*range(len(first)), *range(len(second))]] * sequences, device=device)
    both = torch.tensor([first + second] * sequences, device=device)
    alone = torch.tensor([second] * sequences, device=device)
    training = model.training
    model.eval()
    half = is_flash(model)  # its kernels take half precision only
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        apart = model(input_ids=both, position_ids=anew, use_cache=False).logits[:, len(first) :]
        open_ = model(input_ids=both, use_cache=False).logits[:, len(first) :]
        single = model(input_ids=alone, use_cache=False).logits
    model.train(training)
    rounding = 64 * torch.finfo(torch.bfloat16 if half else single.dtype).eps * float(single.abs().max())
    bound = min(rounding, 0.25 * float((open_ - single).abs().max())) if half else rounding
    bound += 0.01 * float((open_ - single).abs().max())
    return bool(float((apart - single).abs().max()) <= bound)


def is_flash(model: Any) -> bool:
    """True where attention is one of the flash attention packages, which take rows of unequal length unpadded."""
    return "flash" in str(getattr(model.config, "_attn_implementation", None) or "")


def layout_for(model: Any, on_cpu: bool, packing: bool, probe: Sequence[Sequence[int]]) -> Layout | None:
    """The best layout that is safe for a model; None where `packing` is asked for and would leak.

    `probe` holds the ids of two rows. With flash attention the rows of a batch are one sequence. Else, on an
    accelerator, rows are only packed on request: there a padded batch without an attention mask runs faster kernels
    than a packed one with a mask.
    """
    if not takes_positions(model):
        return None if packing else "masked"
    if len(probe) == 2 and is_flash(model) and keeps_apart(model, probe[0], probe[1], sequences=1):
        return "flat"
    if not (on_cpu or packing):
        return "padded"
    if len(probe) == 2 and not is_flash(model) and keeps_apart(model, probe[0], probe[1]):
        return "packed"
    return None if packing else "padded"
