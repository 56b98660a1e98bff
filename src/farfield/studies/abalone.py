"""Ages of abalone: networks learn those of grown shells and are asked about infants.

The group shift of Table 2 of "Just One Layer Norm Guarantees Stable Extrapolation", on a table that
anybody may have: train on two groups, test on the third.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farfield.data import ABALONE, load_abalone
from farfield.studies import tabular
from farfield.studies.shared.claims import NOT_RUN, Claim
from farfield.studies.shared.statistics import mean
from farfield.studies.tabular import QUICK, Result

__all__ = ["QUICK", "Result", "Settings", "claims", "not_run", "run"]

_FAR = 1.0  # standard deviations of the training features


_CLAIM = (
    "Beyond: abalone, as Table 2",
    "In a group that training has not seen every network with LayerNorm predicts better than the "
    "standard one.",
    "faces (Table 2): R2 0.47 (first), 0.36 (last), 0.42 (every) against 0.27",
)


@dataclass(frozen=True)
class Settings(tabular.Settings):
    """Settings of the abalone study: those of the protein study but for what a small table needs.

    Training is short: of 100, 200 and 400 epochs, 200 gives networks with LayerNorm the best R2 in
    domain.

    Attributes: see :class:`farfield.studies.tabular.Settings`.
    """

    target: str = "rings"
    group_column: str | None = "sex"
    hold_out: tuple[str, ...] = ("I",)
    seeds: int = 10
    epochs: int = 200


def run(
    settings: Settings | None = None,
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run the abalone study.

    Args:
        settings: The settings.
        data: A folder with ``abalone.csv``; see :func:`farfield.data.locate`.
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

    Source: Nash et al. (1994), DOI 10.24432/C55C7W, CC BY 4.0; the experiment is Table 2 of Ziomek,
    Whittle and Osborne (NeurIPS 2025) with another table.
    """
    return tabular.run(
        load_abalone(data),
        settings if settings is not None else Settings(),
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        framing=tabular.Framing(
            study="abalone",
            title="Ages of infant abalone, learned from grown ones (age = rings + 1.5 years)",
            source=(
                "A group shift as in Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees "
                f"Stable Extrapolation (NeurIPS 2025), Table 2. Data: {ABALONE.citation}."
            ),
            claims=claims,
        ),
    )


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claim for a group shift beside what was found on this table.

    Args:
        result: What :func:`run` returned.

    Returns:
        One claim.
    """
    own = result.metrics.query("domain == 'out'")
    scores = own.pivot(index="seed", columns="variant", values="r2")
    ahead = {
        variant.key: mean(scores[variant.key] - scores["standard"])
        for variant in result.compared()
        if variant.norm is not None
    }
    kept = all(value.value > 0 for value in ahead.values())
    return (
        Claim(
            *_CLAIM,
            f"R2 {', '.join(f'{mean(scores[key])} ({key})' for key in ahead)} against "
            f"{mean(scores['standard'])}; paired differences "
            f"{', '.join(str(value) for value in ahead.values())}",
            kept,
            f"Not an experiment of the paper. {_by_distance(result)}",
        ),
    )


def not_run(why: str) -> tuple[Claim, ...]:
    """The same claim where there is no table.

    Args:
        why: The reason.

    Returns:
        The claim, not run.
    """
    return (Claim(*_CLAIM, NOT_RUN, None, why),)


def _by_distance(result: Result) -> str:
    """How far the held-out group is, and how the networks do where it is far."""
    outside = result.predictions.query("domain == 'out'")
    errors = outside.assign(error=(outside["prediction"] - outside["target"]).abs())
    far = errors[errors["distance"] > _FAR]
    told = (
        f"The median infant is {outside['distance'].median():.2g} standard deviations from the "
        "nearest shell of training"
    )
    if far.empty:
        return f"{told}, none more than {_FAR:g}."
    rows = far["row"].nunique()
    by_network = far.groupby("variant")["error"].mean()
    means = ", ".join(
        f"{by_network[variant.key]:.2g} ({variant.key})" for variant in result.compared()
    )
    return f"{told}; of the {rows} beyond {_FAR:g} the mean error is {means} rings."
