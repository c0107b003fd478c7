"""What a GPU reaches through loopbench: scoring, generation, embeddings, training, beside the device's ceilings.

    python3 benchmarks/gpu.py [--minutes 8] [--only scoring,decode] [--wheels DIR] [-o FILE]
    python3 benchmarks/gpu.py --device cpu --small          # does everything run? (a minute or two)

It needs torch, transformers and what they bring (numpy, tokenizers, safetensors), and this checkout, which need not be
installed. Models are made from configs with random weights, of Llama 3.2 1B's shape (1.24 billion weights, bf16);
nothing is downloaded. Every section compares values before it takes any time, warms up, runs its sides in turn, and
reports all times, their medians, and ratios. The two ceilings, a copy on the device and a bf16 matrix product, are
measured in the same run, the product once more at the end; shares are of its better rate.

| section | what | beside |
|---|---|---|
| ceilings | copy bytes/s, bf16 matrix product FLOP/s | |
| scoring | both losses of IFD, rows of Alpaca's lengths | one row at a time with all logits, bf16 and fp32 |
| decode | the workload of `benchmarks/workloads/decode.json` | `model.generate` in padded batches of its best size |
| training | our `sft`, sequences of 2,048 packed: tokens/s, MFU | a bare PyTorch step of the same shape |
| embedding | mean-pooled states of the 1B shape; a text encoder of BERT base's shape | |
| memory | what is left of an engine's memory when it is closed | |

Our trainer needs more packages: pydantic, trl, peft, datasets, accelerate, pyarrow and what they bring.
Where they are not installed, carry them as wheels for the Python there and name their folder, which is unpacked and put
in front of the path for this process only; for Python 3.12 on x86-64 Linux, where accelerate, peft, pyarrow and pandas
are there already:

    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\
        --platform manylinux2014_x86_64 --platform any -d wheels pydantic pydantic-core annotated-types \\
        typing-inspection trl datasets dill multiprocess

(pydantic names the one version of pydantic-core that it runs with: give that.) A figure that could not be had is null
in the result, which says why; a section that fails or finds wrong values takes none of the others with it. The file is
written after each section, so a run that is cut short leaves what it had. `--minutes` is shared out among the sections:
with less time a section takes fewer runs. It exits with 1 where a figure that was measured misses what it must reach.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from _gpu_shared import NotMeasured, Plan, copied, multiplied, release  # noqa: E402
from _machine import RESULTS, machine, quiet, versions, write  # noqa: E402

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "triton", "trl", "accelerate", "peft", "datasets")
SHARES = {"ceilings": 0.06, "scoring": 0.24, "decode": 0.34, "training": 0.2, "embedding": 0.12, "memory": 0.04}
"""Of the minutes; what a section leaves is there for those after it."""


def ceilings(plan: Plan) -> dict[str, Any]:
    return {"copy": copied(plan), "matmul_bf16": multiplied(plan)}


def scoring(plan: Plan) -> dict[str, Any]:
    import _gpu_scoring

    return _gpu_scoring.run(plan)


def decode(plan: Plan) -> dict[str, Any]:
    import _gpu_decode

    return _gpu_decode.run(plan)


def training(plan: Plan) -> dict[str, Any]:
    import _gpu_training

    return _gpu_training.run(plan)


def embedding(plan: Plan) -> dict[str, Any]:
    import _gpu_embedding

    return _gpu_embedding.run(plan)


def memory(plan: Plan) -> dict[str, Any]:
    import _gpu_embedding

    return _gpu_embedding.given_back(plan)


SECTIONS: Mapping[str, Callable[[Plan], dict[str, Any]]] = {
    one.__name__: one for one in (ceilings, scoring, decode, training, embedding, memory)
}


def measured(name: str, plan: Plan) -> dict[str, Any] | None:
    """A section's figures; of one that could not be measured, null and why."""
    start = time.perf_counter()
    try:
        if name not in ("ceilings", "memory") and not plan.peak:
            raise NotMeasured("the bf16 matrix product was not measured")
        found = SECTIONS[name](plan)
    except NotMeasured as why:
        found = {"value": None, "why": str(why)}
    except Exception as error:  # noqa: BLE001 - one section's end is not that of the others, and the result says it
        traceback.print_exc()
        found = {"value": None, "why": f"{type(error).__name__}: {error}"}
    if plan.built:
        release(plan)
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def unpacked(wheels: Path, folder: Path) -> None:
    """Puts what is in the wheels in front of the path."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    sys.path.insert(0, str(folder))


def device_facts(device: str) -> dict[str, Any] | None:
    """What the GPU is; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    facts = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except OSError:
        said = ""
    return {
        "name": facts.name,
        "capability": f"{facts.major}.{facts.minor}",
        "memory_gib": round(facts.total_memory / 2**30, 1),
        "multiprocessors": facts.multi_processor_count,
        "cuda": torch.version.cuda,
        "driver, largest clock, power": said or None,
    }


def empty(found: Any, where: str = "") -> Iterator[dict[str, str]]:
    """What was not measured, and why, wherever it stands in the result."""
    if isinstance(found, dict):
        if isinstance(found.get("why"), str):
            yield {"what": where, "why": found["why"]}
        for name, value in found.items():
            yield from empty(value, f"{where}.{name}" if where else name)


def missed(found: Any, where: str = "") -> Iterator[str]:
    """Names of what was measured and is not what it must be."""
    if isinstance(found, dict):
        for name, value in found.items():
            at = f"{where}.{name}" if where else name
            if value is False and "met" in at.split("."):
                yield at
            yield from missed(value, at)


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models and few rows: does it run?")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, by name")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "gpu.json")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return options


def main() -> int:
    options = options_of()
    quiet()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="loopbench-") as name:
        if options.wheels is not None:
            unpacked(options.wheels, Path(name) / "wheels")
        import torch

        torch.set_num_threads(1)
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            print("PyTorch sees no GPU here: give --device cpu --small to see whether the script runs", file=sys.stderr)
            return 2
        plan = Plan(options.device, options.small, Path(name))
        result: dict[str, Any] = {
            "benchmark": "gpu",
            "machine": machine(),
            "gpu": device_facts(options.device),
            "versions": versions(PACKAGES),
            "small": options.small,
            "model": plan.shape | {"kind": "Llama, random weights"},
        }
        asked = dict.fromkeys(["ceilings", *(one for one in SECTIONS if one in options.only.split(","))])
        share = 0.0
        for section in asked:
            share += SHARES[section]
            plan.deadline = start + 60 * options.minutes * share / sum(SHARES[one] for one in asked)
            print(f"{section}: until {plan.deadline - start:.0f} s", file=sys.stderr, flush=True)
            result[section] = measured(section, plan)
            result["empty"] = list(empty(result))
            write(options.output, result)
        if "value" not in result["ceilings"]:
            result["ceilings"]["matmul_bf16_at_the_end"] = multiplied(plan)
        result["missed"] = list(missed(result))
        result["seconds"] = round(time.perf_counter() - start, 1)
        write(options.output, result)
    return 1 if result["missed"] and not options.small else 0


if __name__ == "__main__":
    sys.exit(main())
