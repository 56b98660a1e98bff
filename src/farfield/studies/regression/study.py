"""Predictions of an infinitely wide network for a table's new rows, with a bound everywhere."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from farfield.data import NewRows, Prepared, digest, encode_new, prepare, read_table
from farfield.errors import DataError, FarfieldWarning, SettingsError
from farfield.regression import FitCertificate, certify_fit
from farfield.regression.kernel_regression import check_ridge
from farfield.studies.certificate import as_json, finite_or_none
from farfield.studies.regression import rays, rows, story
from farfield.studies.regression.fit import Fitted, choose_ridge, fit_table, training_rows
from farfield.studies.regression.memory import require_matrix
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import check_scale
from farfield.studies.shared.workspace import CERTIFICATE, LIMITS, METRICS, PREDICTED, Workspace

_CHOICES = {
    "norm": ("first", "last", "every", "none"),
    "kernel": ("ntk", "nngp"),
    "std": ("ensemble", "posterior", "none"),
}
_PARTS = {"ridge": 20, "fit": 50, "predict": 20, "certify": 10}  # shares of the progress bar


@dataclass(frozen=True)
class Settings:
    """Settings of a prediction.

    Attributes:
        target: The numeric column to predict.
        hidden: Number of hidden layers.
        activation: The activation.
        norm: Which hidden layers have a LayerNorm: ``"first"``, ``"last"``, ``"every"`` or
            ``"none"``.
        kernel: ``"ntk"``: the network after training; ``"nngp"``: the Bayesian network.
        ridge: What is added to the diagonal of the kernel matrix, in units of the target's
            variance; ``None`` chooses it by leave-one-out errors.
        std: Standard deviations over an ``"ensemble"`` of trained networks, of the
            ``"posterior"`` with the kernel as prior covariance, or ``"none"``.
        ignore: Columns to leave out.
        rows: Train on so many random rows at most; ``None`` takes all.
        weight_var: Weights are N(0, weight_var / fan_in).
        bias_var: Biases are N(0, bias_var).
        seed: Of what is drawn at random: the training rows with ``rows``, and of more than 2,000
            rows those that choose the ridge.
    """

    target: str
    hidden: int = 2
    activation: str = "relu"
    norm: str = "first"
    kernel: str = "ntk"
    ridge: float | None = None
    std: str = "ensemble"
    ignore: tuple[str, ...] = ()
    rows: int | None = None
    weight_var: float = 2.0
    bias_var: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}."
                )
        if self.std == "ensemble" and self.kernel == "nngp":
            raise SettingsError(
                "An ensemble is of trained networks, with the kernel ntk; the kernel nngp goes "
                "with --std posterior or --std none."
            )
        if self.hidden < 1:
            raise SettingsError(f"hidden is {self.hidden}; at least one hidden layer is needed.")
        if self.target in self.ignore:
            raise SettingsError(
                f"The target {self.target!r} cannot be ignored; name another column."
            )
        if self.rows is not None and self.rows < 1:
            raise SettingsError(f"rows is {self.rows}; it must be at least 1.")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}; it must be at least 0.")
        if self.ridge is not None:
            check_ridge(self.ridge)
        check_scale(1, [2] * self.hidden, self.activation, self.weight_var, self.bias_var)


@dataclass(frozen=True, eq=False)
class Result:
    """Predictions of new rows, and what is known of the predictor everywhere.

    Attributes:
        settings: The settings.
        prepared: The training table as numbers.
        new: The new rows as numbers.
        fitted: The predictor.
        certificate: Its certificate, in standardised units.
        metrics: Scores of all new rows, and of those inside and outside the training ranges.
        predictions: A row for each row of the new table.
        limits: For each numeric feature and direction: degree and limit, per unit of the feature.
        curves: Predictions along some features.
        record: Settings, tables, versions and machine.
        warned: What was remarkable in the computation.
    """

    settings: Settings
    prepared: Prepared
    new: NewRows
    fitted: Fitted
    certificate: FitCertificate
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    limits: pd.DataFrame
    curves: pd.DataFrame
    record: Mapping[str, object]
    warned: tuple[str, ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """Between what the prediction stays for every input, in units of the target."""
        level, unit = float(self.fitted.outputs.shift[0]), float(self.fitted.outputs.unit[0])
        bound = self.certificate.bound
        return level + unit * float(bound.lower[0]), level + unit * float(bound.upper[0])

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    train: pd.DataFrame | Path | str,
    new: pd.DataFrame | Path | str,
    settings: Settings,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Fit an infinitely wide network to a table and predict the rows of another one.

    Features and target are brought to mean 0 and standard deviation 1 on the training rows;
    predictions and all that is told of them are in the target's own units.

    Args:
        train: A table, or the path of a CSV or Parquet file.
        new: Likewise; its columns are found by name, and it may lack the target.
        settings: What to predict, and how.
        out: A folder for predictions, limits, certificate, metrics and settings; nothing is
            written by default.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Predictions, scores where targets are known, and the certificate.

    Raises:
        DataError: A table that cannot be used; the message says which and why.
        SettingsError: More rows than fit in memory.
        SingularKernelError: A ridge that is too small for these rows.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Jacot, Gabriel and Hongler (2018) for the predictor; Ziomek, Whittle and Osborne, "Just
    One Layer Norm Guarantees Stable Extrapolation" (NeurIPS 2025), for its bound.

    Example:
        >>> import pandas as pd, farfield as ff
        >>> train = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0.0, 1.0, 4.0, 9.0]})
        >>> settings = ff.studies.regression.Settings(target="y", ridge=1e-6)
        >>> result = ff.studies.regression.run(train, pd.DataFrame({"x": [3.0, 1e6]}), settings)
        >>> result.predictions["prediction"].round(1).tolist(), result.certificate.bounded
        ([9.0, 9.1], True)
    """
    with _about(train, "the training table"):
        frame = _read(train)
        prepared = prepare(frame, settings.target, ignore=settings.ignore)
    with _about(new, "the new table"):
        other = _read(new)
        asked = encode_new(other, prepared, settings.target)
    training = training_rows(prepared, settings.rows, settings.seed)
    require_matrix(len(training))
    tables = {
        name: {"table": _name(table, name), "sha256": digest(read)}
        for name, table, read in (("train", train, frame), ("new", new, other))
    }
    workspace = Workspace.open(
        out, "regress", settings, data=tables, resume=None, overwrite=overwrite
    )
    with (
        workspace.kept_if_finished(),
        Steps(sum(_PARTS.values()), progress) as steps,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", FarfieldWarning)
        steps.stage("choosing the ridge", _PARTS["ridge"])
        chosen = choose_ridge(prepared, training, settings)
        steps.stage(f"fitting {len(training):,} rows", _PARTS["fit"])
        fitted = fit_table(prepared, training, chosen, settings)
        done = steps.stage(f"predicting {len(asked.rows):,} rows", _PARTS["predict"])
        parts: list[np.ndarray] = []
        for part in rows.predicted(fitted, asked.features, settings.std != "none"):
            parts.append(part)
            share = sum(p.shape[1] for p in parts) / len(asked.rows)
            done(round(_PARTS["predict"] * share))
        predictions = rows.table(asked, prepared, fitted, np.hstack(parts))
        steps.stage("certifying", _PARTS["certify"])
        certificate = certify_fit(fitted.fit)
        metrics = rows.metrics(predictions)
        limits = rays.limits(prepared, fitted)
        curves = rays.curves(prepared, asked, fitted, settings.std != "none")
        result = Result(
            settings, prepared, asked, fitted, certificate, metrics, predictions, limits, curves,
            workspace.record, _told(caught),
        )  # fmt: skip
        workspace.write(PREDICTED, predictions.to_csv(index=False))
        workspace.write(LIMITS, limits.to_csv(index=False))
        workspace.write(CERTIFICATE, json.dumps(_certificate(result), indent=2) + "\n")
        workspace.write(METRICS, metrics.to_csv(index=False))
        workspace.finish()
    return result


def _read(table: pd.DataFrame | Path | str) -> pd.DataFrame:
    return table if isinstance(table, pd.DataFrame) else read_table(table)


def _name(table: pd.DataFrame | Path | str, otherwise: str) -> str:
    return otherwise if isinstance(table, pd.DataFrame) else str(table)


@contextlib.contextmanager
def _about(table: pd.DataFrame | Path | str, otherwise: str) -> Iterator[None]:
    """Say of an error which of the two tables it is about."""
    name = _name(table, otherwise)
    try:
        yield
    except DataError as error:
        text = str(error)
        raise DataError(text if name in text else f"In {name}: {text}") from error


def _told(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """The warnings of farfield, as remarks of the report; others are given again."""
    told = []
    for one in caught:
        if issubclass(one.category, FarfieldWarning):
            told.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return tuple(dict.fromkeys(told))


def _certificate(result: Result) -> dict[str, object]:
    """The certificate as plain values, in standardised units and in those of the target."""
    cert, fitted = result.certificate, result.fitted
    lower, upper = result.bounds
    forms = cert.forms
    return {
        "target units": {
            "lower": finite_or_none(lower),
            "upper": finite_or_none(upper),
            "mean": float(fitted.outputs.shift[0]),
            "standard deviation": float(fitted.outputs.unit[0]),
        },
        "standardised": as_json(cert),
        "kernel": {
            "supremum": finite_or_none(cert.kernel_bound.value),
            "proven": cert.kernel_bound.proven,
            "smallest eigenvalue": cert.smallest_eigenvalue,
            "points": cert.points,
        },
        "forms": None
        if forms is None
        else {name: float(getattr(forms, name)[0]) for name in ("norm", "root", "linear")},
        "ridge": {"value": fitted.chosen.ridge, "leave_one_out_rmse": fitted.chosen.error},
    }
