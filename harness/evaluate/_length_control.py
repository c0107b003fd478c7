"""AlpacaEval 2's length-controlled win rate (arXiv 2404.04475), by the alpaca-eval package on local files.

The package reads instruction difficulties, and the rows of two baselines that regularise the fit, from one table that
it downloads. Here the table comes from files: its loader is pointed at them while it works. Without the baselines the
fit is not regularised. Coefficients that were published give the published figure without a fit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.evaluate._alpaca import Annotation
from harness.evaluate._figures import Figures, absent, figure, percent
from harness.evaluate._logistic import mean_prediction
from harness.judges._alpaca_eval import quiet
from harness.records import datafile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

NAME = "length_controlled_winrate"
_LENGTH, _DIFFICULTY, _MODEL = "np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"
LEAST = 50
"""Verdicts without which no model of three coefficients, cross-validated in five parts, is fitted."""
_BASELINE_WEIGHT = 0.1
"""Of a regularising row in the package's fit: its lambda of 0.2 over two baselines."""


def fitted(
    annotations: Sequence[Annotation], difficulty_path: str, regulariser_path: str | None, missing: int = 0
) -> Figures:
    """`length_controlled_winrate` with its interval and the package's `lc_standard_error`, in percent.

    The package's standard error is that of the predictions over instructions. The interval is wider: it also holds that
    the coefficients are estimated (see `_logistic`).

    Args:
        annotations: verdicts; `index` is the row of `difficulty_path`.
        difficulty_path: CSV with `index` and `instruction_difficulty`.
        regulariser_path: CSV with model, index, std_delta_len, instruction_difficulty, not_gamed_baseline, preference.
        missing: items without a verdict; they are counted and widen the interval.

    Returns:
        The figures, or None for each where no model can be fitted: too few verdicts, equal lengths, or verdicts that
        are all alike (the package then says 50 % of a model that won nothing).
    """
    import pandas as pd

    table = _baselines(difficulty_path, regulariser_path)
    _check(annotations, table)
    varied = all(len(set(values)) > 1 for values in zip(*map(_varying, annotations), strict=True))
    if len(annotations) < LEAST or not varied:
        return absent(NAME, len(annotations) + missing)
    frame = pd.DataFrame([_row(a) for a in annotations], index=pd.Index([a.index for a in annotations], name="index"))
    with quiet(), tempfile.TemporaryDirectory() as folder:
        from alpaca_eval.metrics import glm_winrate

        name = "length_controlled_v1" if regulariser_path else "length_controlled_noreg"
        with _local(glm_winrate, table, Path(folder)):
            found = glm_winrate.get_length_controlled_winrate(
                frame,
                glm_name=name,
                save_weights_dir=Path(folder),
                is_add_glm_preference_inplace=False,
                is_warn_extreme_changes=False,
            )
        weights = pd.read_csv(Path(folder) / name / "baseline_reference.csv", index_col=0).loc["model"]
    coefficients = weights[[_LENGTH, _DIFFICULTY, _MODEL]].to_numpy(dtype=float)
    error = _error(annotations, table, coefficients, regularised=regulariser_path is not None)
    value = float(found[NAME])
    return percent(NAME, value, 100 * error, len(annotations) + missing, missing) | {
        "lc_standard_error": float(found["lc_standard_error"])
    }


def published(model: str, coefficients_path: str, difficulty_path: str) -> float:
    """The length-controlled win rate (percent) of a published model, from its published coefficients.

    Args:
        model: its name in the first column.
        coefficients_path: CSV of the package's weights, one row per model, the baseline's row being zero.
        difficulty_path: CSV with `index` and `instruction_difficulty`, of all instructions.

    Raises:
        UserError: the model has no row.
    """
    weights = _csv(coefficients_path, "coefficients_path").pipe(lambda table: table.set_index(table.columns[0]))
    if model not in weights.index or not {_DIFFICULTY, _MODEL} <= set(weights):
        raise UserError(f"{coefficients_path} has no coefficients of {model!r}: it needs one row per model, by name")
    zero = weights.index[(weights == 0).all(axis=1)]
    if zero.empty:
        raise UserError(f"{coefficients_path} has no baseline: the row whose coefficients are all 0")
    with quiet(), tempfile.TemporaryDirectory() as folder:
        from alpaca_eval.metrics import glm_winrate

        with _local(glm_winrate, _difficulties(difficulty_path)[["index", _DIFFICULTY]], Path(folder)):
            return 100 * float(glm_winrate.predict_winrate(model, str(zero[0]), weights))


def beside(fitted: Figures, value: float) -> Figures:
    """A published figure beside the fitted ones, with an interval as wide: the coefficients were estimated alike."""
    low, middle, high = (fitted[NAME + end] for end in (".low", "", ".high"))
    name = f"{NAME}:published"
    if low is None or middle is None or high is None:
        return {name: value}
    n, missing = (int(fitted[NAME + end] or 0) for end in (".n", ".missing"))
    return figure(name, value, max(0.0, value - (middle - low)), min(100.0, value + (high - middle)), n, missing)


def has_published(model: str, coefficients_path: str) -> bool:
    """Whether the file has coefficients of a model of this name."""
    return any(next(iter(row.values()), None) == model for row in datafile.rows(coefficients_path, "coefficients_path"))


def _varying(annotation: Annotation) -> tuple[int, float]:
    """What must differ between verdicts so that a model can be fitted: lengths and preferences."""
    return annotation.length - annotation.reference_length, annotation.preference


def _row(annotation: Annotation) -> dict[str, Any]:
    # The package takes lengths from texts, so texts of the right lengths are all that it needs.
    return {
        "preference": annotation.preference,
        "output_1": " " * annotation.reference_length,
        "output_2": " " * annotation.length,
        "generator_1": "reference",
        "generator_2": "model",
    }


@contextmanager
def _local(module: Any, table: Any, folder: Path) -> Iterator[None]:
    """The package finds `table` where it would download one."""
    file = folder / "df_gamed.csv"
    table.to_csv(file, index=False)
    original = module.hf_hub_download
    module.hf_hub_download = lambda **_: str(file)
    try:
        yield
    finally:
        module.hf_hub_download = original


def _error(annotations: Sequence[Annotation], table: Any, coefficients: Floats, *, regularised: bool) -> float:
    """The standard error of the mean prediction at equal length, as a share."""
    import numpy as np

    difficulty = table.drop_duplicates("index").set_index("index")[_DIFFICULTY]
    delta = np.array([a.reference_length - a.length for a in annotations], dtype=float)
    own = np.column_stack(
        [
            np.tanh(delta / delta.std(ddof=1)),
            difficulty.loc[[a.index for a in annotations]].to_numpy(),
            np.ones(len(annotations)),
        ]
    )
    wins = np.array([a.preference - 1 for a in annotations])
    given = table if regularised else table.iloc[:0]
    theirs = np.column_stack([np.tanh(given["std_delta_len"]), given[_DIFFICULTY], np.zeros(len(given))])
    _, error = mean_prediction(
        np.concatenate([own, theirs]),
        np.concatenate([wins, given["preference"].to_numpy(dtype=float)]),
        np.concatenate([np.ones(len(own)), np.full(len(given), _BASELINE_WEIGHT)]),
        np.concatenate([np.arange(len(own)), np.full(len(given), -1)]),
        coefficients,
        own * np.array([0.0, 1.0, 1.0]),
    )
    return error


def _csv(path: str, option: str) -> Any:
    """A CSV file as pandas, gzip or not.

    Raises:
        UserError: it is not there, or no CSV.
    """
    import pandas as pd

    try:
        return pd.read_csv(datafile.locate(path, option))
    except (ValueError, pd.errors.ParserError) as error:  # among them: empty, no text, no columns
        raise UserError(f"option `{option}`: {path} cannot be read as CSV: {error}") from error


def _numbers(table: Any, wanted: Sequence[str], path: str) -> Any:
    """The table, whose named columns are there and hold numbers.

    Raises:
        UserError: one does not.
    """
    from pandas.api.types import is_numeric_dtype

    for name in wanted:
        if name not in table:
            raise UserError(f"{path} has no column {name}, which length control needs")
        if not is_numeric_dtype(table[name]) or table[name].isna().any():
            raise UserError(f"{path}: the column {name} should hold a number in each row, for length control")
    return table


def _difficulties(path: str) -> Any:
    """The table of difficulties, in the order of the instructions, from 0 on without gaps as the package takes them."""
    table = _numbers(_csv(path, "difficulty_path"), ("index", _DIFFICULTY), path)
    return table.sort_values("index").reset_index(drop=True)


def _baselines(difficulty_path: str, regulariser_path: str | None) -> Any:
    """The package's table: per baseline and instruction, difficulty, length difference and preference."""
    if regulariser_path is None:
        return _difficulties(difficulty_path)[["index", _DIFFICULTY]].assign(
            model="none", preference=0.5, std_delta_len=0.0, not_gamed_baseline=True
        )
    table = _csv(regulariser_path, "regulariser_path").rename(columns={"preference_fitted": "preference"})
    numbers = ["index", _DIFFICULTY, "preference", "std_delta_len", "not_gamed_baseline"]
    wanted = ["model", *numbers]
    if "model" not in table:
        raise UserError(f"{regulariser_path} has no column model, which length control needs")
    table = _numbers(table, numbers, regulariser_path)
    # The package finds an instruction's difficulty by the place of its row: the first baseline's must come in order.
    return table[wanted].sort_values(["model", "index"], kind="stable").reset_index(drop=True)


def _check(annotations: Sequence[Annotation], table: Any) -> None:
    known = dict.fromkeys(table["index"])
    unknown = [a.index for a in annotations if a.index not in known]
    if unknown:
        raise UserError(
            f"instruction {unknown[0]} has no difficulty: the difficulties are of another set of instructions"
        )
    if list(known) != list(range(len(known))):
        raise UserError("the difficulties must number their instructions from 0 on without gaps")
