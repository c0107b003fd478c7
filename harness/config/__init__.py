"""YAML to frozen, typed configuration: every mistake at once, with file, line and the nearest valid name."""

from harness.config.load import load
from harness.config.model import (
    Budget,
    Dataset,
    Experiment,
    Gate,
    Limits,
    LoopPolicy,
    Model,
    Recipe,
    Registry,
    Scratch,
    Source,
    Step,
    SuiteRef,
    Train,
    Window,
    Withhold,
)
from harness.config.places import copy_presets, find, found, names, preset_path, preset_root, summary
from harness.config.single import load_block, load_dataset, load_leaks, load_model, load_suite

__all__ = [
    "Budget", "Dataset", "Experiment", "Gate", "Limits", "LoopPolicy", "Model", "Recipe", "Registry", "Scratch",
    "Source", "Step", "SuiteRef", "Train", "Window", "Withhold",
    "copy_presets", "find", "found", "load", "load_block", "load_dataset", "load_leaks", "load_model", "load_suite",
    "names", "preset_path", "preset_root", "summary",
]  # fmt: skip
