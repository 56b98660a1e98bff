"""Table 1 and Fig. 3 of "Just One Layer Norm Guarantees Stable Extrapolation": proteins.

Networks learn to predict the RMSD of protein structures with a surface area (F1) below 20,000
and are asked about larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farfield.data import PROTEIN, load_protein
from farfield.studies import tabular
from farfield.studies.claims import Claim
from farfield.studies.statistics import Mean, mean
from farfield.studies.story import Result as StudyResult
from farfield.studies.tabular import QUICK, Result

__all__ = ["PUBLISHED", "QUICK", "Result", "Settings", "claims", "run"]

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
    groups = result.metrics.groupby(["variant", "domain"])["r2"]
    scores = {(str(key[0]), str(key[1])): mean(own) for key, own in groups}
    return (_better(scores), *(_table(scores, domain) for domain in ("out", "in")))


def _better(scores: dict[tuple[str, str], Mean]) -> Claim:
    standard = scores["standard", "out"]
    normed = {key: scores[key, "out"] for key in ("first", "last", "every")}
    return Claim(
        "Table 1, ranking",
        "Out of domain every network with LayerNorm predicts better than the standard one.",
        f"0.50 against {PUBLISHED['standard', 'out']}",
        f"R2 {', '.join(f'{value} ({key})' for key, value in normed.items())} against {standard}",
        all(value.value > standard.value for value in normed.values()),
        "LayerNorm keeps predictions for larger proteins within the range of the targets.",
    )


def _table(scores: dict[tuple[str, str], Mean], domain: str) -> Claim:
    apart, ours, theirs = [], [], []
    for (variant, where), published in PUBLISHED.items():
        if where != domain or (variant, where) not in scores:
            continue
        found = scores[variant, where]
        value, half_width = (float(part) for part in published.split(" ± "))
        ours.append(f"{found} ({variant})")
        theirs.append(f"{published} ({variant})")
        if abs(found.value - value) > found.half_width + half_width:
            apart.append(variant)
    place = "out of domain" if domain == "out" else "in domain"
    return Claim(
        f"Table 1, {place}",
        f"R2 {place}, mean and 95 % interval over seeds.",
        ", ".join(theirs),
        ", ".join(ours),
        not apart,
        "All intervals overlap."
        if not apart
        else f"The intervals of {', '.join(apart)} do not overlap: fewer epochs or seeds than "
        "published do that, and so may settings that the paper does not state.",
    )
