"""A first look that needs no download: the toy study and a small table, in one report."""

from __future__ import annotations

from pathlib import Path

from farfield.data import load_diabetes
from farfield.studies import tabular, toy

TOY = toy.Settings()

# On so small a table the networks soon fit the noise: of 30, 60, 100, 200 and 500 epochs, the
# in-domain R2 of all of them is near its best at 60.
DIABETES = tabular.Settings(
    target="progression", split_column="bmi", threshold=30.0, seeds=10, epochs=60
)


def run(
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[toy.Result, tabular.Result]:
    """Run the toy study at the paper's scale and a comparison on the diabetes table.

    Args:
        out: A folder; each study gets one in it.
        resume: Go on with an interrupted run.
        overwrite: Replace an earlier run.
        progress: Whether to show progress bars.

    Returns:
        The results of both.

    Raises:
        MissingExtraError: scikit-learn, XGBoost or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.
    """
    out = Path(out)
    table = load_diabetes().rename(columns={"target": "progression"})
    toy_result = toy.run(
        TOY, out=out / "toy", resume=resume, overwrite=overwrite, progress=progress
    )
    diabetes_result = tabular.run(
        table,
        DIABETES,
        out=out / "diabetes",
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        framing=tabular.Framing(
            study="diabetes",
            title="Diabetes progression of patients heavier than any in training",
            source=(
                "Data: Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression (2004), "
                "as bundled with scikit-learn."
            ),
        ),
    )
    return toy_result, diabetes_result
