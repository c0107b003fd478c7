"""How far a judge's grades of single answers hang on their length. Suites of pairs say it themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.blocks.kinds import Answer, Grade, Metric
from harness.scoring.figures import Z
from harness.scoring.judging import Graded
from harness.scoring.result import Figure
from harness.scoring.stored import Run


def length_sensitivity(
    runs: Mapping[Run, Graded], answers: Mapping[Run, Sequence[Answer]], metrics: Sequence[Metric]
) -> tuple[Figure, ...]:
    """How far a judge's grades hang on length: Spearman's correlation of a grade with its answer's characters.

    The metric is the judge's own (in points) where there is one. The interval is Fisher's with the questions as sample
    (Bonett and Wright 2000); better answers may well be longer, so 0 is not what a fair judge must give.
    """
    import numpy as np
    from scipy.stats import spearmanr

    metric = next((m for m in metrics if m.unit == "points"), metrics[0])
    pairs = [
        (len(outputs[turn]), value, grade.cluster or grade.item)
        for run, graded in runs.items()
        for outputs, turn, grade in _answered(graded, answers[run])
        if (value := grade.values.get(metric.name)) is not None
    ]
    n = len({cluster for _, _, cluster in pairs})
    lengths, values = [p[0] for p in pairs], [p[1] for p in pairs]
    if n < 4 or len(set(lengths)) < 2 or len(set(values)) < 2:
        return ()
    rho = float(spearmanr(lengths, values).statistic)
    half = Z * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(min(max(rho, -0.999999), 0.999999))
    missing = sum(len(graded.grades) for graded in runs.values()) - len(pairs)
    name, low, high = "length:correlation", float(np.tanh(centre - half)), float(np.tanh(centre + half))
    return (Figure(name=name, value=rho, low=low, high=high, n=n, missing=missing, unit=""),)


def _answered(graded: Graded, answers: Sequence[Answer]) -> Iterator[tuple[tuple[str, ...], int, Grade]]:
    """Grades with the outputs that they are about, and which of them."""
    outputs = {answer.item: answer.outputs for answer in answers}
    for grade in graded.grades:
        turn = int(grade.tags.get("turn", "1")) - 1
        if turn < len(outputs.get(grade.item, ())):
            yield outputs[grade.item], turn, grade
