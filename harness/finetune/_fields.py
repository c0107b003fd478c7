"""Which options TRL's configurations know, and which of them are not for users to set here.

The names are read from the source of the installed packages as syntax trees: a typo under `trl:` is found while a
configuration is checked, without the seconds that importing TRL takes.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_SHARED = (("trl", "trainer/base_config.py"), ("transformers", "training_args.py"))
_SOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "SFTConfig": (("trl", "trainer/sft_config.py"), *_SHARED),
    "DPOConfig": (("trl", "trainer/dpo_config.py"), *_SHARED),
}
RENAMED: Mapping[str, str] = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_sampling_strategy": "group_by_length",
    "assistant_only_loss": "loss_on",
    "completion_only_loss": "loss_on",
    "seed": "seeds of the experiment",
    "data_seed": "seeds of the experiment",
}
"""TRL's name to the name of the same thing here."""
_REFUSED: Mapping[str, str] = {
    "padding_free": "it needs flash attention to keep rows apart; `packing` keeps them apart with any attention",
    "packing_strategy": "the other strategies cut rows or join them across their borders",
    "truncation_mode": "rows are cut at their end, so that a cut answer is trained without its end token",
    "auto_find_batch_size": "a batch size that depends on the machine would change the result",
    "ignore_data_skip": "a resumed training must see the rows that the interrupted one would have seen",
    "trust_remote_code": "code that comes with a model is not run",
    "use_cpu": "the device is chosen where the model is named",
    "shuffle_dataset": "rows are shuffled anew in each epoch by the training seed",
    "sync_ref_model": "a reference that moves during a training is not supported: its checkpoints would lack it",
    "full_determinism": "it changes settings of the whole worker process",
}
_OURS = "loopbench decides this itself"
_PREFIXES = (
    "output_dir", "push_to_hub", "hub_", "save_", "eval_", "logging_", "log_", "report_to", "run_name", "project",
    "trackio", "resume_from", "load_best", "metric_for_best", "greater_is", "do_", "disable_tqdm", "remove_unused",
    "label_names", "length_column", "dataset_", "eos_token", "pad_token", "chat_template", "per_device_eval", "debug",
    "prediction_loss", "deepspeed", "fsdp", "ddp_", "parallelism", "local_rank", "accelerator_config", "enable_jit",
    "restore_callback", "batch_eval", "include_", "skip_memory", "precompute_ref_batch",
)  # fmt: skip


def problem(config: str, name: str, own: Mapping[str, object]) -> str | None:
    """Why `name` may not stand under `trl:`, or None where it may. `own` are the options of the block itself."""
    if name in own:
        return f"{name} is an option of its own: write it beside trl"
    if name in RENAMED:
        return f"{name} is called {RENAMED[name]} here: write that beside trl"
    if name in _REFUSED:
        return f"{name} cannot be set: {_REFUSED[name]}"
    known = names(config)
    if known and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        return f"TRL's {config} has no option {name}" + (f"; did you mean {near[0]}?" if near else "")
    if name.startswith(_PREFIXES):
        return f"{name} cannot be set: {_OURS}"
    return None


@cache
def names(config: str) -> frozenset[str]:
    """Field names of `SFTConfig` or `DPOConfig` with what they inherit; empty where the packages cannot be read."""
    return frozenset(name for package, file in _SOURCES[config] for name in _annotated(package, file))


def _annotated(package: str, file: str) -> Iterator[str]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    path = Path(spec.origin).parent / file
    if not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    yield part.target.id
