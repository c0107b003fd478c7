"""A model that does not fit is refused from the headers of its files, before anything is read or computed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from engines.conftest import Opener, Requests

from harness.engines import fits
from harness.engines.base import LogprobRequest, ModelSpec
from harness.engines.forward import Forward
from harness.engines.limits import Limits, out_of_memory
from harness.engines.open import ready
from harness.engines.transformers import TransformersEngine
from harness.loop import memory


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "SMALL", 0)
    monkeypatch.setattr(fits, "_available", lambda: 100_000)
    monkeypatch.setattr(fits, "visible_devices", list)


def test_the_size_is_that_of_the_weights_in_the_format_they_are_opened_in(tiny: Path) -> None:
    from safetensors.numpy import load_file

    numbers = sum(tensor.size for tensor in load_file(tiny / "model.safetensors").values())
    assert fits.weights_bytes(tiny, "float32") == 4 * numbers
    assert fits.weights_bytes(tiny, "bfloat16") == 2 * numbers
    assert fits.weights_bytes(tiny, "auto") == 4 * numbers
    assert fits.weights_bytes(tiny.parent, "auto") is None


def test_a_model_that_does_not_fit_is_refused_with_what_to_do(tiny: Path, no_room: None) -> None:
    spec = ModelSpec(name="big", path=tiny)
    told = r"tiny\d* take 0\.0 GiB as float32, but do not fit into the memory of 0\.0 GiB of the CPU: write dtype: bf"
    for refuse in (TransformersEngine, ready):  # when it is opened, and before a run has computed anything
        with pytest.raises(fits.Unfit, match=told) as info:
            refuse(spec)
        assert info.value.exit_code == 2
        assert "\n" not in str(info.value)


def test_a_gpus_memory_is_what_the_driver_tells(tiny: Path, no_room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "_largest_gpu", lambda: 50_000)
    with pytest.raises(fits.Unfit, match="of the GPU: use a larger device or a smaller model"):
        fits.check_room(tiny, "bfloat16", "cuda:0")
    monkeypatch.setattr(fits, "_largest_gpu", lambda: None)  # no driver that could be asked
    fits.check_room(tiny, "bfloat16", "cuda:0")


def test_small_models_and_damaged_files_are_left_to_loading(
    tiny: Path, tmp_path: Path, no_room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 5)
    fits.check_room(tmp_path, "float32", "cpu")
    monkeypatch.setattr(fits, "SMALL", 2**30)
    fits.check_room(tiny, "float32", "cpu")


def test_memory_that_ran_out_is_told_once_and_stays_in_mind(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine, hidden, reads = opener(), Forward.hidden, []

    def scarce(self: Forward, ids: torch.Tensor, keep: object = None) -> torch.Tensor:
        reads.append(ids.numel())
        if ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, ids, keep)  # type: ignore[arg-type]

    monkeypatch.setattr(Forward, "hidden", scarce)
    asked = [LogprobRequest(id=str(n), ids=tuple(range(n, n + 80)), start=1) for n in range(20, 30)]
    assert {len(result.values) for result in engine.logprobs(asked)} == {79}
    assert engine.notes() == [
        "out of memory on cpu reading 10 rows of up to 79 tokens at once; going on with 5",
        "out of memory on cpu reading 5 rows of up to 79 tokens at once; going on with 2",
    ]
    assert engine.notes() == []
    before = len(reads)
    list(engine.logprobs(asked))
    assert max(reads[before:]) <= 300


def test_a_closed_engine_has_let_its_model_go_when_the_gpu_is_told(
    opener: Opener, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the weights stay on the device, and a vLLM process that is opened next lacks that memory."""
    import torch

    engine, gone = opener(), []
    list(engine.generate(requests(2)))
    model = weakref.ref(engine._forward.model)  # type: ignore[union-attr]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: gone.append(model() is None))
    gc.disable()
    try:
        engine.close()
    finally:
        gc.enable()
    assert gone == [True]


def test_after_a_stage_a_gpu_gets_back_what_pytorch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("emptied"))
    memory.give_back()
    assert told == ["emptied"]


@pytest.mark.parametrize(
    ("said", "memory"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("[enforce fail at alloc_cpu.cpp:73] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_the_many_ways_to_say_that_memory_is_used_up(said: str, memory: bool) -> None:
    assert out_of_memory(RuntimeError(said)) is memory


def test_batches_end_where_padding_costs_more_than_another_pass() -> None:
    limits = Limits(rows=8, tokens=1000, columns=8, cells=8, padding=40)
    assert limits.batch([100, 90, 80, 70, 60]) == 3
    assert limits.batch([100] * 20) == 10
    assert limits.batch([2000, 1999]) == 1
    assert limits.batch([100]) == 1
