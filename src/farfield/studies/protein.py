"""Table 1 and Fig. 3 of "Just One Layer Norm Guarantees Stable Extrapolation": proteins.

Networks learn to predict the RMSD of protein structures with a surface area (F1) below 20,000
and are asked about larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from farfield.data import PROTEIN, load_protein
from farfield.studies import tabular
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.published_scores import beside, r2_scores, ranking, unrun
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Result as StudyResult
from farfield.studies.tabular import QUICK, Result

__all__ = ["PUBLISHED", "QUICK", "Result", "Settings", "claims", "not_run", "run"]

PUBLISHED = {
    ("every", "out"): "0.50 ± 0.02",
    ("first", "out"): "0.50 ± 0.02",
    ("last", "out"): "0.50 ± 0.01",
    ("standard", "out"): "0.31 ± 0.02",
    ("xgboost", "out"): "0.27 ± 0.04",
    ("every", "in"): "0.60 ± 0.01",
    ("first", "in"): "0.59 ± 0.01",
    ("last", "in"): "0.60 ± 0.01",
    ("standard", "in"): "0.58 ± 0.01",
    ("xgboost", "in"): "0.61 ± 0.01",
}
"""R2 in Table 1 of the paper by (model, domain): mean and 95 % interval over 10 seeds."""

_TABLE, _FIGURE = "Table 1", "Fig. 3"
_SHORT = f"0.50 against {PUBLISHED['standard', 'out']}"
_HEAVY = "Out of domain the standard network's predictions have a tail of too large values."
_CONSTANT = "XGBoost's prediction stays nearly constant as the area grows."


@dataclass(frozen=True)
class Settings(tabular.Settings):
    """Settings of the protein study; the defaults are the paper's where it states them.

    Stated: the split, 90 % for training, two hidden layers of 128 ReLU units, 2500 epochs of
    Adam at 0.001 on the full batch, 10 seeds, XGBoost at its defaults with 100 rounds. Not
    stated: whether inputs and target were standardised (here they are), whether Kaiming's draw
    was normal or uniform (here normal), LayerNorm's gain, bias and eps (here PyTorch's). Exact
    duplicate rows stay on one side of each split, which the paper does not say of its own.

    Attributes: see :class:`farfield.studies.tabular.Settings`.
    """

    target: str = "RMSD"
    split_column: str | None = "F1"
    threshold: float | None = 20000.0
    seeds: int = 10


def run(
    settings: Settings | None = None,
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run the protein study.

    Args:
        settings: The settings; the paper's by default.
        data: A folder with ``protein.csv``; see :func:`farfield.data.locate`.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Metrics and predictions.

    Raises:
        DataError: The table is not there and cannot be downloaded.
        SettingsError: Settings other than those of the run to resume.
        MissingExtraError: XGBoost or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), section 4.2, Table 1 and Figure 3; data
    by P. Rana (2013), DOI 10.24432/C5QW3H, CC BY 4.0.
    """
    return tabular.run(
        load_protein(data),
        settings if settings is not None else Settings(),
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        framing=tabular.Framing(
            study="protein",
            title="Proteins larger than any in training",
            source=(
                "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
                "Extrapolation (NeurIPS 2025), section 4.2, Table 1 and Figure 3. "
                f"Data: {PROTEIN.citation}."
            ),
            published=PUBLISHED,
            settings=Settings(),
            claims=claims,
        ),
    )


def claims(result: StudyResult) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What :func:`run` returned.

    Returns:
        Claims.
    """
    scores = r2_scores(result.metrics)
    outside = result.predictions.query("domain == 'out'")
    found = [
        ranking(
            _TABLE,
            scores,
            _SHORT,
            "LayerNorm keeps predictions for larger proteins within the range of the targets.",
        ),
        *(beside(_TABLE, scores, PUBLISHED, domain) for domain in ("out", "in")),
        _tail(outside),
    ]
    if "xgboost" in set(outside["variant"]):
        found.append(_flat(outside))
    return tuple(found)


def not_run(why: str) -> tuple[Claim, ...]:
    """The same claims where there is no table.

    Args:
        why: Why not, and what to do.

    Returns:
        The claims, not run.
    """
    rows = (
        ranking(_TABLE, {}, _SHORT, ""),
        *(beside(_TABLE, {}, PUBLISHED, domain) for domain in ("out", "in")),
        unrun(f"{_FIGURE}, tail", _HEAVY, "a figure"),
        unrun(f"{_FIGURE}, XGBoost", _CONSTANT, "a figure"),
    )
    return tuple(replace(row, why=why) for row in rows)


def _tail(outside: pd.DataFrame) -> Claim:
    by_seed = outside.groupby(["variant", "seed"], sort=False)["prediction"].max()
    largest = {str(key): mean(own) for key, own in by_seed.groupby(level=0, sort=False)}
    networks = {key: value for key, value in largest.items() if key != "xgboost"}
    top = float(outside["target"].max())
    kept = all((value.value > top) is (key == "standard") for key, value in networks.items())
    told = not abs(networks["standard"].value - top) <= networks["standard"].half_width
    return Claim(
        f"{_FIGURE}, tail",
        _HEAVY,
        "a figure",
        f"largest prediction {', '.join(f'{value} ({key})' for key, value in networks.items())}; "
        f"largest true value {top:.3g}",
        kept if told else None,
        "Without LayerNorm the network goes on like a line beyond the areas of training."
        if told
        else "The standard network's interval holds the largest true value; take more seeds.",
    )


def _flat(outside: pd.DataFrame) -> Claim:
    fifths = pd.qcut(outside["split"], 5, labels=False, duplicates="drop")
    means = outside.groupby([fifths, "variant"])["prediction"].mean().unstack()
    truth = outside.groupby(fifths)["target"].mean()
    spread = means.max() - means.min()
    networks = spread.drop("xgboost")
    return Claim(
        f"{_FIGURE}, XGBoost",
        _CONSTANT,
        "a figure",
        f"means over fifths of the area span {spread['xgboost']:.2g}, those of the networks "
        f"{networks.min():.2g} to {networks.max():.2g}, the true ones {np.ptp(truth):.2g}",
        bool(spread["xgboost"] < networks.min()),
        "Trees go on with the value of their last leaf; other columns still move it a little.",
    )
