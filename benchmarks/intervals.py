"""Simulations behind the statistics: coverage, false alarms, power, the gate's error rates, and speed.

    python benchmarks/intervals.py [--simulations 2000] [--json benchmarks/results/intervals.json]

Exits with 1 where the interval of a score covers less than 93 %, or more than 98 % although n·p is at least 20, or a
paired difference covers less than 93 %.

Grades are 0 or 1. `fresh`: an item is drawn anew in every run; `shared`: an item that is hard for one run is hard for
all; `half` lies between. The seed deviation is 0, one or two times the standard error of one run's mean over its items;
at two the figures are shown, but nothing is promised.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.stats import Noise, detectable, error_rates, non_inferior
from harness.stats.paired import small_sample
from harness.stats.scores import interval
from harness.stats.spread import Spread, half_width, p_value, spread

Floats = npt.NDArray[np.float64]
RUNS, CHUNK = 3, 250
SIZES, SHARES, RATIOS, KINDS = (40, 805), (0.03, 0.5), (0, 1, 2), ("fresh", "half", "shared")
PACKAGES = ("loopbench", "numpy", "scipy")


def grades(rng: np.random.Generator, count: int, n: int, p: float, ratio: float, kind: str) -> Floats:
    """Grades of `count` experiments, shape (count, runs, items), with a mean of exactly p over runs and items."""
    from scipy.special import ndtr

    level = np.full((count, RUNS), p)
    if ratio:
        strength = n / ratio**2 - 1  # of the Beta distribution whose deviation is ratio * sqrt(p (1 - p) / n)
        level = rng.beta(p * strength, (1 - p) * strength, (count, RUNS))
    if kind == "half":
        item, rest = rng.standard_normal((count, 1, n)), rng.standard_normal((count, RUNS, n))
        draws = ndtr((item + rest) / np.sqrt(2))
    else:
        draws = rng.random((count, 1 if kind == "shared" else RUNS, n))
    result: Floats = (draws < level[..., None]).astype(np.float64)
    return result


def chunks(simulations: int) -> Iterator[int]:
    for start in range(0, simulations, CHUNK):
        yield min(CHUNK, simulations - start)


def settings() -> Iterator[tuple[int, float, int, str]]:
    yield from itertools.product(SIZES, SHARES, RATIOS, KINDS)


def scores(simulations: int) -> list[dict[str, Any]]:
    """Coverage of the interval of a score."""
    rows = []
    for n, p, ratio, kind in settings():
        rng = np.random.default_rng([1, n, int(100 * p), ratio, KINDS.index(kind)])
        hits, widths = [], []
        for count in chunks(simulations):
            values = grades(rng, count, n, p, ratio, kind)
            low, high = interval(values, clusters=None, bounds=(0.0, 1.0), binary=True)
            hits.append((low <= p) & (p <= high))
            widths.append(high - low)
        coverage = float(np.concatenate(hits).mean())
        ok = ratio > 1 or (coverage >= 0.93 and (coverage <= 0.98 or n * p < 20))
        width = float(np.concatenate(widths).mean())
        rows.append({"n": n, "p": p, "seed_sd": ratio, "items": kind, "coverage": coverage, "width": width, "ok": ok})
    return rows


def differences(simulations: int) -> list[dict[str, Any]]:
    """Coverage and false alarms of a paired difference, and power at the effect that `detectable` names."""
    rows = []
    for n, p, ratio, kind in settings():
        rng = np.random.default_rng([2, n, int(100 * p), ratio, KINDS.index(kind)])
        covered, alarms, noises = [], [], []
        for count in chunks(simulations):
            gaps = grades(rng, count, n, p, ratio, kind) - grades(rng, count, n, p, ratio, kind)
            of = spread(gaps)
            floor = small_sample(gaps, of, 1.0, True)
            covered.append(np.abs(of.mean) <= half_width(of, 0.05, floor))
            alarms.append(p_value(of, floor) < 0.05)
            noises.append(of)
        effect, power = measured_power(noises, rng)
        coverage = float(np.concatenate(covered).mean())
        rows.append(
            {
                "n": n,
                "p": p,
                "seed_sd": ratio,
                "items": kind,
                "coverage": coverage,
                "false_alarm": float(np.concatenate(alarms).mean()),
                "effect": effect,
                "power": power,
                "ok": ratio > 1 or coverage >= 0.93,
            }
        )
    return rows


def typical(spreads: list[Spread]) -> Noise:
    """The noise of the simulated truth, from the mean of all experiments' components."""
    units, between, rest = (float(np.concatenate([getattr(s, name) for s in spreads]).mean()) for name in PARTS)
    return Noise(
        persistent=max(0.0, units - rest), residual=rest, seed=max(0.0, between - rest), n=spreads[0].n, runs=RUNS
    )


PARTS = ("units", "between", "rest")


def measured_power(spreads: list[Spread], rng: np.random.Generator) -> tuple[float, float]:
    """The detectable effect of the true noise, and how often it is found when added to the simulated differences."""
    effect = detectable(typical(spreads))
    found = [p_value(Spread(s.mean + effect, s.units, s.between, s.rest, s.n, s.runs)) < 0.05 for s in spreads]
    return effect, float(np.concatenate(found).mean())


def alternatives(simulations: int) -> list[dict[str, Any]]:
    """What other intervals for the mean would cover, in normal theory: why this one was chosen."""
    from scipy import stats

    rows = []
    rng = np.random.default_rng(3)
    for n, ratio, kind in itertools.product((805,), (0, 1, 2), ("fresh", "shared")):
        item = rng.standard_normal((simulations, 1, n)) if kind == "shared" else 0.0
        rest = rng.standard_normal((simulations, RUNS, n)) * (0.3 if kind == "shared" else 1.0)
        scale = np.sqrt(1 + 0.09) if kind == "shared" else 1.0
        seeds = ratio * scale / np.sqrt(n) * rng.standard_normal((simulations, RUNS, 1))
        of = spread(seeds + item + rest)
        anova = np.maximum(of.units, of.units + of.between - of.rest)
        counts = of.between > of.rest
        freedom = np.where(counts, anova**2 / (of.between**2 / (RUNS - 1)), 1e6)
        runs = (seeds + item + rest).mean(axis=-1)
        boot = runs[:, rng.integers(0, RUNS, (500, RUNS))].mean(axis=-1)
        low, high = np.quantile(boot, [0.025, 0.975], axis=-1)
        halves = {
            "ours": half_width(of, 0.05),
            "items only": 1.96 * np.sqrt(of.units),
            "t over 3 seed means": stats.t.ppf(0.975, RUNS - 1) * np.sqrt(of.between),
            "ANOVA, Satterthwaite": stats.t.ppf(0.975, freedom) * np.sqrt(anova),
        }
        row: dict[str, Any] = {"n": n, "seed_sd": ratio, "items": kind}
        row |= {name: float((np.abs(of.mean) <= half).mean()) for name, half in halves.items()}
        rows.append(row | {"bootstrap of 3 seeds": float(((low <= 0) & (high >= 0)).mean())})
    return rows


def gates(simulations: int) -> list[dict[str, Any]]:
    """The gate on simulated items: A/A, and a planted loss of twice the margin; beside what the gate says of itself."""
    rows = []
    for n, ratio, margin in itertools.product((400, 1319), (0, 1), (0.03, 0.06)):
        rng = np.random.default_rng([4, n, ratio, int(100 * margin)])
        same: list[str] = []
        worse: list[str] = []
        spreads = []
        for count in chunks(simulations):
            base = grades(rng, count, n, 0.5, ratio, "half")
            for loss, into in ((0.0, same), (2 * margin, worse)):
                gaps = grades(rng, count, n, 0.5 - loss, ratio, "half") - base
                of = spread(gaps)
                half = half_width(of, 0.05, small_sample(gaps, of, 1.0, True))
                into += [non_inferior(m, m - h, m + h, margin) for m, h in zip(of.mean, half, strict=True)]
                if not loss:
                    spreads.append(of)
        says = error_rates(typical(spreads), margin)
        rows.append(
            {
                "n": n,
                "seed_sd": ratio,
                "margin": margin,
                "false_alarm": same.count("failed") / len(same),
                "it_says": says.false_alarm,
                "undecided": same.count("cannot tell") / len(same),
                "undecided_it_says": says.undecided,
                "miss": worse.count("passed") / len(worse),
                "miss_it_says": says.miss,
                "found": worse.count("failed") / len(worse),
                "found_it_says": says.found,
            }
        )
    return rows


def speed() -> dict[str, float]:
    """Seconds for the statistics of 10 suites × 1,319 items × 12 cells (4 recipes, 3 seeds), reading left out."""
    from harness.stats import difference, score

    rng = np.random.default_rng(0)
    suites = [[grades(rng, 1, 1319, 0.5, 1, "half")[0] for _ in range(4)] for _ in range(10)]
    start = time.perf_counter()
    for arms in suites:
        for arm in arms:
            score(arm, bounds=(0, 1))
        for a, b in itertools.combinations(arms, 2):
            difference(a, b, bounds=(0, 1))
    return {"seconds": time.perf_counter() - start}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    names = list(rows[0])
    print("  ".join(f"{name:>9}" for name in names))
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("  ".join(f"{cell:>{max(9, len(name))}}" for name, cell in zip(names, cells, strict=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures, with versions, to this file")
    options = parser.parse_args()
    parts = {
        "coverage of scores": scores(options.simulations),
        "paired differences": differences(options.simulations),
        "alternatives (coverage)": alternatives(options.simulations),
        "gate: A/A and planted regression": gates(options.simulations),
        "speed": [speed()],
    }
    for title, rows in parts.items():
        show(title, rows)
    bad = [row for rows in parts.values() for row in rows if not row.get("ok", True)]
    print(f"\n{len(bad)} settings outside what is promised")
    if options.json is not None:
        about = {"simulations": options.simulations, "runs": RUNS, "outside": len(bad)}
        versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        options.json.write_text(json.dumps(about | {"versions": versions} | parts, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
