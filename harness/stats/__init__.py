"""Statistics of paired experiments: intervals, differences, tests, ties, power, the gate's rule. Stands alone."""

from harness.stats.auroc import Auroc, auroc
from harness.stats.bootstrap import item_bootstrap
from harness.stats.estimate import ALPHA, CONFIDENCE, MIN_RUNS, Difference, Estimate, Noise
from harness.stats.exact import holm, paired_test
from harness.stats.groups import tie_groups
from harness.stats.paired import difference
from harness.stats.power import Settle, assumed, detectable, settle
from harness.stats.scores import score
from harness.stats.unpaired import Unpaired, unpaired
from harness.stats.verdict import Rates, error_rates, non_inferior

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "MIN_RUNS",
    "Auroc",
    "Difference",
    "Estimate",
    "Noise",
    "Rates",
    "Settle",
    "Unpaired",
    "assumed",
    "auroc",
    "detectable",
    "difference",
    "error_rates",
    "holm",
    "item_bootstrap",
    "non_inferior",
    "paired_test",
    "score",
    "settle",
    "tie_groups",
    "unpaired",
]
