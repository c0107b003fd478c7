"""Whether a model's weights fit a device: asked from the files' headers, before anything is read or computed."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

from harness.engines.vllm.installed import visible_devices
from harness.errors import UserError

SMALL = 2**28
"""Bytes of weights that fit anywhere: nobody is asked for them."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_STORED = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Number formats of safetensors, in bytes; what is no floating-point number keeps its format."""
_HEADER = 8
"""Bytes that say how long the header of a safetensors file is."""


class Unfit(UserError):
    """A model whose weights are larger than the memory of its device."""


def check_room(folder: Path, dtype: str, device: str) -> None:
    """Refuses a model that its device cannot hold: in seconds, not after minutes of loading or hours of other stages.

    Weights alone are compared. On a GPU with its whole memory; on a CPU with what is available now, since a process
    that takes more ends without a word.

    Args:
        folder: a Hugging Face model folder.
        dtype: the format that the weights are opened in; `auto` is that of the files.
        device: `auto`, or a name that PyTorch knows.

    Raises:
        Unfit: the weights are larger than the memory.
    """
    need = weights_bytes(folder, dtype)
    if need is None or need < SMALL:
        return
    gpu = device.startswith("cuda") or (device == "auto" and bool(visible_devices()))
    have = _largest_gpu() if gpu else _available() if device in ("auto", "cpu") else None
    if have is not None and need > have:
        raise Unfit(unfit(folder, dtype, need, "GPU" if gpu else "CPU", have))


def unfit(folder: Path, dtype: str, need: int | None, device: str, have: int | None) -> str:
    """The paragraph for a model that does not fit, with what to do."""
    size = "" if need is None else f" take {need / 2**30:.1f} GiB as {dtype}, but"
    room = "" if have is None else f" of {have / 2**30:.1f} GiB"
    smaller = "" if dtype in ("bfloat16", "float16") else "write dtype: bfloat16 for this model (half the memory), "
    return (
        f"the weights in {folder}{size} do not fit into the memory{room} of the {device}: {smaller}use a larger "
        f"device or a smaller model, or end what else uses this memory."
    )


def weights_bytes(folder: Path, dtype: str) -> int | None:
    """Memory of the weights in a number format; None where they are not in safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    try:
        return sum(_bytes(file, BYTES.get(dtype)) for file in files) if files else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # loading says what is wrong with them


def _bytes(file: Path, width: int | None) -> int:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER), "little")
        if length > file.stat().st_size:  # no header at all: a damaged file may ask for any amount of memory
            raise ValueError(f"{file} has no safetensors header")
        header = json.loads(opened.read(length))
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, end = tensor["data_offsets"]
        stored = _STORED.get(tensor["dtype"])
        total += (end - start) * width // stored if width and stored else end - start
    return total


def _available() -> int:
    """Memory that this machine has free, and not more than its control group may use."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return free


@cache
def _largest_gpu() -> int | None:
    """Memory of the largest GPU of this machine, told without loading PyTorch; None where it is not known."""
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True)
        return max(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
