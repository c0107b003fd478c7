"""The vLLM processes of one open model: one per copy, started when they are needed, shared by adapters of one base."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from harness.engines.adapters import Adapter
from harness.engines.base import ModelSpec
from harness.engines.vllm.installed import HOW, build, visible_devices
from harness.engines.vllm.link import Link
from harness.engines.vllm.options import VllmOptions, arguments
from harness.errors import UserError

_COMMON = {
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # one place more than the context: see `Hosts`
}
_CPU = {
    # All in one process: ours is one of its own already.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Two workers would be bound to the same core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_GPU = {"VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn"}


class Hosts:
    """Processes with one model (or base of adapters). They end when the last engine that uses them is closed."""

    def __init__(
        self, spec: ModelSpec, options: VllmOptions, adapter: Adapter | None, threads: int, models: int = 1
    ) -> None:
        """Starts the processes, all at once; `start` waits until their models are loaded.

        Raises:
            UserError: vLLM is not installed, or the devices do not suffice.
        """
        self._name, self._base = spec.name, adapter.base if adapter is not None else spec.path
        self._like = (spec.dtype, spec.device, dict(spec.options))
        made = build()
        if made is None:
            raise UserError(f"the model {spec.name} asks for `engine: vllm`, and vLLM is not installed here: {HOW}.")
        self._arguments = arguments(spec, options, made, models, adapter)
        self._environments = environments(spec, options, made, threads)
        self._links: list[Link] = []
        self._numbers: dict[Path, int] = {}
        self._users = 0
        self.tickets = itertools.count()
        """Numbers of calls, one count for all engines here: answers to one must not reach another."""
        self.context = 0
        self.vocabulary = 0
        self._waiting = False
        self.launch()

    def launch(self) -> None:
        """Starts the processes where they do not run: at first all, later what died. They load while others work."""
        if self._links and all(link.alive for link in self._links):
            return
        self._end()
        self._waiting = True
        for environment in self._environments:
            self._links.append(Link(self._name, self._arguments, environment))

    def start(self) -> None:
        """Waits until the models are loaded, in processes that are started now where need be.

        Raises:
            UserError: the model cannot be opened.
        """
        self.launch()
        if not self._waiting:
            return
        try:
            opened = [link.opened() for link in self._links]
        except BaseException:
            self._end()
            raise
        self._waiting = False
        self.context, self.vocabulary = opened[0].limit - 1, opened[0].vocabulary
        self.import_s = max(one.import_s for one in opened)
        self.open_s = max(one.open_s for one in opened)

    def links(self) -> list[Link]:
        """The processes."""
        return list(self._links)

    def serves(self, spec: ModelSpec, adapter: Adapter) -> bool:
        """Whether these processes could answer for another adapter of their base."""
        made = self._arguments
        return (
            self._base is not None
            and adapter.base.samefile(self._base)
            and (spec.dtype, spec.device, dict(spec.options)) == self._like
            and adapter.rank <= made.get("max_lora_rank", 0)
            and adapter.modules <= set(made.get("lora_target_modules", ()))
        )

    def number(self, adapter: Path) -> int:
        """The number of an adapter inside vLLM."""
        return self._numbers.setdefault(adapter.resolve(), len(self._numbers) + 1)

    def join(self) -> None:
        """Another engine uses these processes."""
        self._users += 1

    def leave(self) -> None:
        """An engine is closed; with the last one the processes end."""
        self._users -= 1
        if self._users <= 0:
            self._end()

    def _end(self) -> None:
        while self._links:
            self._links.pop().close()


def environments(spec: ModelSpec, options: VllmOptions, made: str, threads: int) -> list[Mapping[str, str]]:
    """The environment of each copy's process: threads, and its share of the devices.

    Raises:
        UserError: the installed vLLM or the visible devices are not what the model asks for.
    """
    copies, each = options.data_parallel_size, options.devices
    mine = {name: value for name, value in (_CPU if made == "cpu" else _GPU).items() if name not in os.environ}
    common = _COMMON | mine | {"OMP_NUM_THREADS": str(threads)}
    if made == "cpu":
        if spec.device not in ("auto", "cpu"):
            raise UserError(
                f"the model {spec.name} asks for the device {spec.device!r}, and the vLLM that is installed here was "
                "built for CPUs: write device: auto, or install vLLM for CUDA (docs/engines.md)."
            )
        return [common] * copies
    if spec.device == "cpu":
        raise UserError(
            f"the model {spec.name} asks for the CPU, and the vLLM that is installed here was built for GPUs: write "
            "`engine: transformers`."
        )
    devices = visible_devices()
    if ":" in spec.device:
        chosen = int(spec.device.partition(":")[2])
        devices = devices[chosen : chosen + 1]
    if len(devices) < copies * each:
        raise UserError(
            f"the model {spec.name} needs {copies * each} devices (data_parallel_size {copies} times "
            f"tensor_parallel_size and pipeline_parallel_size, {each}), and its worker sees {len(devices)}: run with "
            "fewer `--workers`, which share the devices of this machine evenly."
        )
    return [common | {"CUDA_VISIBLE_DEVICES": ",".join(devices[k * each : (k + 1) * each])} for k in range(copies)]
