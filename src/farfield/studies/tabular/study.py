"""How networks extrapolate on a table: inside the training domain and out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from farfield.data import (
    Domains,
    Prepared,
    digest,
    prepare,
    read_table,
    split_by_group,
    split_by_threshold,
)
from farfield.errors import DataError, SettingsError
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import Variant, check_scale, variants
from farfield.studies.shared.workspace import Workspace
from farfield.studies.tabular import figures, story
from farfield.studies.tabular.models import (
    draw_splits,
    fit_networks,
    fit_xgboost,
    load_xgboost,
    require_representable,
)
from farfield.studies.tabular.scores import Scores
from farfield.training import TrainingSettings

QUICK = {"seeds": 3, "epochs": 100}
"""Settings of a first look."""


@dataclass(frozen=True)
class Framing:
    """How a comparison is presented.

    Attributes:
        study: Name that the folder of the run remembers.
        title: Title of the report; made from the split if empty.
        source: Papers and data to cite; the table if empty.
        published: Published R2, as text, by (model, domain).
        settings: The published experiment's settings, to tell in what these differ.
        claims: Compares a result with a paper.
    """

    study: str = "extrapolate"
    title: str = ""
    source: str = ""
    published: Mapping[tuple[str, str], str] = field(default_factory=dict)
    settings: Settings | None = None
    claims: Callable[[Result], tuple[Claim, ...]] | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison on a table.

    Attributes:
        target: The numeric column to predict.
        split_column: A numeric column; rows below ``threshold`` are the training domain.
        threshold: The value that separates the domains.
        group_column: Instead of a threshold: a column that names groups. It is no feature.
        hold_out: The groups that are out of domain.
        ignore: Columns to leave out.
        seeds: Random splits and networks of each kind, from the seeds 0, 1, ...
        train_fraction: Part of the training domain's rows that train; the others test.
        hidden: Hidden widths.
        activation: The activation.
        epochs: Passes of Adam over the training rows.
        learning_rate: Adam's step size.
        batch_size: Rows in a batch; ``None`` takes all (full batch).
        weight_var: Weights are N(0, weight_var / fan_in); 2 is Kaiming's normal draw.
        bias_var: Biases are N(0, bias_var).
        standardise_inputs: Whether features are brought to mean 0 and standard deviation 1 on
            the training rows.
        standardise_target: Likewise for the target; predictions are turned back.
        xgboost: Whether to compare with XGBoost at its defaults.
        xgboost_rounds: Its number of trees.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
    """

    target: str
    split_column: str | None = None
    threshold: float | None = None
    group_column: str | None = None
    hold_out: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    seeds: int = 5
    train_fraction: float = 0.9
    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    epochs: int = 2500
    learning_rate: float = 1e-3
    batch_size: int | None = None
    weight_var: float = 2.0
    bias_var: float = 0.01
    standardise_inputs: bool = True
    standardise_target: bool = True
    xgboost: bool = True
    xgboost_rounds: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing and splits that are not one split."""
        by_threshold = self.split_column is not None or self.threshold is not None
        by_group = self.group_column is not None or bool(self.hold_out)
        if by_threshold == by_group:
            raise SettingsError(
                "Say how to split, in one of two ways: a split column with a threshold "
                "(--split-column, --threshold), or a group column with the groups to hold out "
                "(--group-column, --hold-out)."
            )
        if by_threshold and (self.split_column is None or self.threshold is None):
            raise SettingsError(
                "A split column and a threshold go together (--split-column, --threshold); one "
                "of them is missing."
            )
        if by_group and (self.group_column is None or not self.hold_out):
            raise SettingsError(
                "A group column and the groups to hold out go together (--group-column, "
                "--hold-out); one of them is missing."
            )
        if self.target in (self.split_column, self.group_column, *self.ignore):
            raise SettingsError(
                f"The target {self.target!r} cannot be the split or group column as well, nor be "
                "ignored; name another column."
            )
        if set(self.ignore) & {self.split_column, self.group_column}:
            raise SettingsError("The split or group column cannot be ignored.")
        check_scale(self.seeds, self.hidden, self.activation, self.weight_var, self.bias_var)
        if not 0.0 < self.train_fraction < 1.0:
            raise SettingsError(
                f"train_fraction is {self.train_fraction}; it must lie between 0 and 1."
            )
        if self.xgboost_rounds < 1:
            raise SettingsError(f"xgboost_rounds is {self.xgboost_rounds}; it must be 1 or more.")
        self.training()

    def training(self) -> TrainingSettings:
        """How each network is trained."""
        return TrainingSettings(self.epochs, self.learning_rate, self.batch_size)


@dataclass(frozen=True)
class Result:
    """What a comparison on a table measured.

    Attributes:
        settings: The settings.
        domains: Number of rows in and out of domain, and the rule that separates them.
        metrics: For each model, seed and domain ("in", "out"): number of rows, R2, RMSE, MAE and
            the largest absolute prediction.
        predictions: For each model, seed and test row: domain, position in the table, target,
            prediction, distance from the training domain, and the split column's value.
        record: Settings, data, versions and machine.
        notes: What was dropped, encoded or found remarkable in the table.
        framing: Title, sources and published numbers.
    """

    settings: Settings
    domains: tuple[int, int, str]
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]
    notes: tuple[str, ...]
    framing: Framing

    def compared(self) -> tuple[Variant, ...]:
        """The networks compared, in order."""
        return variants("layer", len(self.settings.hidden))

    def summary(self) -> pd.DataFrame:
        """Mean and 95 % confidence interval over seeds of every metric, a row for each model."""
        return story.summary(self)

    def claims(self) -> tuple[Claim, ...]:
        """A paper's claims beside what was found, if there is a paper."""
        return () if self.framing.claims is None else self.framing.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    table: pd.DataFrame | Path | str,
    settings: Settings,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    framing: Framing | None = None,
) -> Result:
    """Compare how networks and XGBoost extrapolate on a table.

    On each of several random splits, the standard network and those with LayerNorm at the
    first, the last and every hidden layer train on 90 % of the rows of the training domain; all
    are scored on the other 10 % and on the rows out of domain. Exact duplicate rows stay on one
    side of a split.

    Args:
        table: A table, or the path of a CSV or Parquet file.
        settings: What to predict, how to split, how to train.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.
        framing: Title, sources and published numbers for the report.

    Returns:
        Metrics and predictions.

    Raises:
        DataError: A table that cannot be used; the message says why.
        SettingsError: Settings that contradict each other or the run to resume.
        MissingExtraError: XGBoost or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), section 4.2.

    Example:
        >>> import farfield as ff
        >>> table = ff.data.load_diabetes()
        >>> settings = ff.studies.tabular.Settings(
        ...     target="target", split_column="bmi", threshold=32.0, seeds=1, epochs=2
        ... )
        >>> result = ff.studies.tabular.run(table, settings)
        >>> sorted(result.metrics["variant"].unique())
        ['every', 'first', 'last', 'standard', 'xgboost']
    """
    framing = framing if framing is not None else Framing()
    name = "the table" if isinstance(table, pd.DataFrame) else str(table)
    frame = table if isinstance(table, pd.DataFrame) else read_table(table)
    prepared = prepare(
        frame,
        settings.target,
        ignore=settings.ignore,
        not_features=[settings.group_column] if settings.group_column else [],
    )
    domains = domains_of(prepared, settings)
    _require_varied_target(prepared, domains, settings)
    figures.require_smoother()
    if settings.xgboost:
        load_xgboost()
    device = resolve_device(settings.device)
    splits = draw_splits(prepared, domains, settings.train_fraction, settings.seeds)
    require_representable(prepared, splits, settings)
    scores = Scores(prepared, domains, settings.split_column)
    workspace = Workspace.open(
        out,
        framing.study,
        settings,
        data={"table": name, "sha256": digest(frame)},
        resume=resume,
        overwrite=overwrite,
    )
    compared = variants("layer", len(settings.hidden))
    with Steps(settings.epochs * len(compared), progress) as steps:
        for variant in compared:
            outcome = fit_networks(
                prepared,
                splits,
                variant,
                settings,
                device,
                workspace,
                steps.stage(f"{variant.label}: {settings.seeds} networks", settings.epochs),
            )
            scores.add(variant.key, splits, outcome)
            workspace.save(scores.metrics, scores.predictions)
        if settings.xgboost:
            scores.add("xgboost", splits, fit_xgboost(prepared, splits, settings.xgboost_rounds))
            workspace.save(scores.metrics, scores.predictions)
    workspace.finish()
    return Result(
        settings=settings,
        domains=(len(domains.inside), len(domains.outside), domains.rule),
        metrics=scores.metrics,
        predictions=scores.predictions,
        record=workspace.record,
        notes=tuple(_notes(frame, prepared, domains)),
        framing=replace(
            framing,
            title=framing.title or f"Extrapolating {settings.target} from {domains.rule}",
            source=framing.source or f"Data: {name}.",
        ),
    )


def domains_of(prepared: Prepared, settings: Settings) -> Domains:
    """The rows on both sides of the split that the settings ask for.

    Args:
        prepared: The table.
        settings: A threshold, or groups to hold out.

    Returns:
        Both sides.

    Raises:
        DataError: The table does not suit the split.
    """
    if settings.group_column is not None:
        return split_by_group(prepared, settings.group_column, settings.hold_out)
    assert settings.split_column is not None
    assert settings.threshold is not None
    return split_by_threshold(prepared, settings.split_column, settings.threshold)


def _require_varied_target(prepared: Prepared, domains: Domains, settings: Settings) -> None:
    values = prepared.target[domains.inside]
    if (values == values[0]).all():
        raise DataError(
            f"The target {settings.target!r} is {values[0]:g} in every row of the training "
            "domain; there is nothing to learn."
        )


def _notes(frame: pd.DataFrame, prepared: Prepared, domains: Domains) -> list[str]:
    """What a reader should know about the table."""
    notes = [
        f"{len(frame)} rows, {len(prepared.names)} features; {len(domains.inside)} rows in the "
        f"training domain ({domains.rule}), {len(domains.outside)} out of it."
    ]
    if prepared.dropped:
        were = (
            "rows with missing values were"
            if prepared.dropped > 1
            else "row with a missing value was"
        )
        notes.append(f"{prepared.dropped} {were} dropped.")
    if prepared.duplicates:
        notes.append(
            f"Exact repetitions of an earlier row: {prepared.duplicates}; equal rows were kept on "
            "one side of each split."
        )
    if prepared.encoded:
        notes.append(f"Text columns as 0/1 columns: {', '.join(prepared.encoded)}.")
    if prepared.ignored:
        notes.append(f"Columns that are no features: {', '.join(prepared.ignored)}.")
    inside = prepared.features[domains.inside]
    constant = [
        n for n, flat in zip(prepared.names, np.ptp(inside, axis=0) == 0, strict=True) if flat
    ]
    if constant:
        notes.append(f"Constant in the training domain, kept: {', '.join(constant)}.")
    return notes
