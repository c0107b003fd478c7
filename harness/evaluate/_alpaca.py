"""The statistics of the alpaca-eval package, on plain numbers: win rate, and win rate with length control.

Importing alpaca_eval takes about two seconds, warns about pkg_resources and sets the root logger to INFO; all of that
is kept in here. Nothing is downloaded, and nothing is written into the installed package.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import datafile


@dataclass(frozen=True)
class Annotation:
    """One verdict: the instruction's row in its source, the preference (1..2) and the lengths of both outputs."""

    index: int
    preference: float
    length: int
    reference_length: int


def win_rates(preferences: Sequence[float]) -> dict[str, float]:
    """alpaca-eval's win_rate, standard_error, discrete_win_rate (percent), n_wins, n_wins_base, n_draws and n_total."""
    with _quiet():
        from alpaca_eval.metrics import get_winrate

        found = get_winrate([{"preference": preference} for preference in preferences])
    return {name: float(value) for name, value in found.items()}


def length_controlled(
    annotations: Sequence[Annotation], difficulty_path: str, regulariser_path: str | None
) -> dict[str, float]:
    """alpaca-eval's length_controlled_winrate and lc_standard_error (percent), fitted on these annotations.

    The package reads instruction difficulties, and the rows of two baselines that regularise the fit, from one table
    that it downloads. Here the table comes from local files; without the second file the fit is not regularised.

    Args:
        annotations: verdicts; `index` is the row of `difficulty_path`.
        difficulty_path: CSV with `index` and `instruction_difficulty`.
        regulariser_path: CSV with model, index, std_delta_len, instruction_difficulty, not_gamed_baseline, preference.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import pandas as pd
        from alpaca_eval.metrics import glm_winrate

        table = _baselines(difficulty_path, regulariser_path)
        file = Path(folder) / "df_gamed.csv"
        table.to_csv(file, index=False)
        _check(annotations, table)
        frame = pd.DataFrame(
            [_row(a) for a in annotations], index=pd.Index([a.index for a in annotations], name="index")
        )
        original = glm_winrate.hf_hub_download
        glm_winrate.hf_hub_download = lambda **_: str(file)
        try:
            found = glm_winrate.get_length_controlled_winrate(
                frame,
                glm_name="length_controlled_v1" if regulariser_path else "length_controlled_noreg",
                save_weights_dir=None,
                is_add_glm_preference_inplace=False,
                is_warn_extreme_changes=False,
            )
        finally:
            glm_winrate.hf_hub_download = original
    return {name: float(found[name]) for name in ("length_controlled_winrate", "lc_standard_error")}


def _row(annotation: Annotation) -> dict[str, Any]:
    # The package takes lengths from texts, so texts of the right lengths are all that it needs.
    return {
        "preference": annotation.preference,
        "output_1": " " * annotation.reference_length,
        "output_2": " " * annotation.length,
        "generator_1": "reference",
        "generator_2": "model",
    }


def _baselines(difficulty_path: str, regulariser_path: str | None) -> Any:
    import pandas as pd

    path = regulariser_path or difficulty_path
    table = pd.read_csv(datafile.locate(path, "regulariser_path" if regulariser_path else "difficulty_path"))
    table = table.rename(columns={"preference_fitted": "preference"})
    if regulariser_path is None:
        table = table.assign(model="none", preference=1.5, std_delta_len=0.0, not_gamed_baseline=True)
    wanted = ["model", "index", "instruction_difficulty", "preference", "std_delta_len", "not_gamed_baseline"]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}, which length control needs")
    return table[wanted]


def _check(annotations: Sequence[Annotation], table: Any) -> None:
    known = set(table["index"])
    unknown = [a.index for a in annotations if a.index not in known]
    if unknown:
        raise UserError(
            f"instruction {unknown[0]} has no difficulty: the difficulties are of another set of instructions"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
