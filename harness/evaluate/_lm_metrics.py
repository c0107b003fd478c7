"""Which metrics of an lm-eval task a suite has: their names, their direction, and which are no means over items.

lm-eval aggregates most metrics by their mean; those are per item what they are in sum. Others (perplexities, BLEU) are
computed over all items at once: they appear under their own name in the suite's summary, with lm-eval's aggregation,
and as `item_<name>` per item (the same aggregation of that item alone), so that models can be compared item by item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.blocks.kinds import Metric
from harness.errors import UserError
from harness.evaluate._lm_spec import Function, Leaf, Spec

NUMERIC = "numeric"
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "generate_until": ("exact_match",),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
}
"""lm-eval's metrics for a task that lists none."""
DEFAULT_AGGREGATIONS: Mapping[str, str] = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "f1": "f1",
    "mcc": "matthews_corrcoef",
    "brier_score": "brier_score",
    "bleu": "bleu",
    "chrf": "chrf",
    "chrf++": "chrf++",
    "ter": "ter",
    "bypass": "bypass",
}
"""lm-eval's aggregations of metrics for which a task names none; the mean for all others."""
LOWER_IS_BETTER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"})
"""lm-eval's metrics that fall as a model gets better, where the task does not say."""
_MEANS = ("mean", "nanmean")
_NOT_OF_ONE_ITEM = ("f1", "matthews_corrcoef", "bypass", "median")
_SHARES = ("acc", "exact_match", "mc1", "mc2", "pass@")
_BINARY = ("exact_match", "acc", "acc_norm", "acc_bytes", "acc_mutual_info")


@dataclass(frozen=True)
class Measured:
    """One metric of a task under one of its filters.

    `name` is ours: `strict-match` where the task has one metric and named filters, `acc` where it has no filters, else
    `exact_match-strict-match`. `mean` is False where lm-eval does not average it; `alone` False where a single item
    has no value of it.
    """

    name: str
    filter: str
    metric: str
    mean: bool
    alone: bool
    higher: bool
    binary: bool

    @property
    def item_name(self) -> str:
        """The name of its value per item."""
        return self.name if self.mean else f"item_{self.name}"

    def as_metric(self) -> Metric:
        """What the suite says about its value per item."""
        share = self.metric.startswith(_SHARES) or self.metric.endswith(("_acc", "_accuracy"))
        unit: Any = "share" if share else "points"
        return Metric(name=self.item_name, unit=unit, binary=self.binary, higher_is_better=self.higher)


def measured(leaf: Leaf, config: Mapping[str, Any]) -> list[Measured]:
    """All metrics of a task, filter by filter in the task's order; `config` sets keys of its file otherwise."""
    return _measured({**leaf.spec(), **config})


def shared(leaves: Sequence[Leaf], config: Mapping[str, Any]) -> list[Measured]:
    """The metrics that all tasks have, in the order of the first.

    Raises:
        UserError: there is none.
    """
    first, *others = [measured(leaf, config) for leaf in leaves]
    names = [{m.item_name for m in found} for found in others]
    common = [m for m in first if all(m.item_name in found for found in names)]
    if not any(m.mean or m.alone for m in common):
        raise UserError(
            f"lm-eval tasks {', '.join(leaf.name for leaf in leaves)} have no metric in common that has a value per "
            "item, so they make no suite together: name one of them per suite"
        )
    return common


def _measured(spec: Spec) -> list[Measured]:
    filters = [str(entry["name"]) for entry in spec.get("filter_list") or ()] or ["none"]
    listed = spec.get("metric_list")
    if listed is None:
        listed = [{"metric": name} for name in DEFAULT_METRICS.get(str(spec.get("output_type")), ())]
    own = bool(spec.get("process_results"))
    return [_one(entry, name, len(listed), own) for name in filters for entry in listed]


def _one(entry: Mapping[str, Any], filter_name: str, metrics: int, own: bool) -> Measured:
    metric = str(entry["metric"])
    if isinstance(entry["metric"], Function):  # named after the Python function
        metric = metric.rpartition(".")[2]
    aggregation = entry.get("aggregation", DEFAULT_AGGREGATIONS.get(metric, "mean"))
    higher = entry.get("higher_is_better")
    return Measured(
        name=metric if filter_name == "none" else filter_name if metrics == 1 else f"{metric}-{filter_name}",
        filter=filter_name,
        metric=metric,
        mean=aggregation in _MEANS and not isinstance(aggregation, Function),
        alone=aggregation not in _NOT_OF_ONE_ITEM,
        higher=metric not in LOWER_IS_BETTER if higher is None else bool(higher),
        binary=metric in _BINARY and not own,
    )
