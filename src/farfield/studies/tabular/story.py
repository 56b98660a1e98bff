"""The report of a tabular comparison: tables, verdict and figures."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.shared.claims import claims_table
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.verdict import verdict
from farfield.studies.tabular import figures

if TYPE_CHECKING:
    from farfield.studies.tabular.study import Result

DOMAINS = {"in": "in domain", "out": "out of domain"}
METRICS = {
    "r2": "R2",
    "rmse": "RMSE",
    "mae": "MAE",
    "max_abs_prediction": "largest |prediction|",
}


def labels(result: Result) -> dict[str, str]:
    """Label of each model by its key, in reading order.

    Args:
        result: The comparison.

    Returns:
        Networks first, then XGBoost if it was compared.
    """
    names = {variant.key: variant.label for variant in result.compared()}
    if result.settings.xgboost:
        names["xgboost"] = "XGBoost"
    return names


def summary(result: Result) -> pd.DataFrame:
    """Mean and 95 % interval over seeds of each metric, in and out of domain.

    Args:
        result: The comparison.

    Returns:
        A row for each model, a column for each metric and domain, as text.
    """
    grouped = result.metrics.groupby(["variant", "domain"])
    names = labels(result)
    table = {
        f"{title}, {DOMAINS[domain]}": [
            str(mean(grouped.get_group((key, domain))[metric])) for key in names
        ]
        for metric, title in METRICS.items()
        for domain in DOMAINS
    }
    return pd.DataFrame(table, index=pd.Index(names.values(), name="model"))


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: The comparison.

    Returns:
        Question, answer, tables and figures.
    """
    settings = result.settings
    names = labels(result)
    networks = {variant.key: variant.label for variant in result.compared()}
    inside, outside, rule = result.domains
    return Story(
        title=result.framing.title,
        question=(
            f"Trained where {rule} ({inside} rows): how well do networks predict "
            f"{settings.target} on the other {outside} rows, and does one LayerNorm help?"
        ),
        answer=verdict(result.metrics, networks),
        tables=_tables(result, names),
        figures=_figures(result, names),
        remarks=(*result.notes, *_deviations(result)),
        notes=(
            f"{_count(settings.seeds, 'random split')} ({settings.train_fraction:.0%} train), a "
            f"network of each kind on each; hidden widths {', '.join(map(str, settings.hidden))}, "
            f"{settings.activation}, {settings.epochs} epochs of Adam at "
            f"{settings.learning_rate:g}, "
            + (
                "full batch."
                if settings.batch_size is None
                else f"batches of {settings.batch_size}."
            ),
            f"Inputs {'' if settings.standardise_inputs else 'not '}standardised, target "
            f"{'' if settings.standardise_target else 'not '}standardised, by the training rows; "
            f"weights N(0, {settings.weight_var:g} / fan_in), biases N(0, {settings.bias_var:g}); "
            "LayerNorm with PyTorch's gain, bias and eps.",
            "After ± stands half of the 95 % confidence interval of the mean over seeds "
            "(Student's t); seeds differ in the split and in the initial weights.",
            "R2 is 1 for perfect predictions, 0 for the mean of the test targets, negative for "
            "worse than that.",
        ),
        source=result.framing.source,
        rerun=f"farfield.studies.tabular.run(table, farfield.studies.tabular.{settings!r})",
    )


def _deviations(result: Result) -> list[str]:
    """In what the settings are not those of the published experiment, if there is one."""
    published = result.framing.settings
    if published is None:
        return []
    own, other = dataclasses.asdict(result.settings), dataclasses.asdict(published)
    changed = [
        f"{name} {own[name]} (published: {other[name]})"
        for name in own
        if own[name] != other[name] and name != "device"
    ]
    return [f"Not the published settings: {', '.join(changed)}."] if changed else []


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _tables(result: Result, names: dict[str, str]) -> tuple[Table, ...]:
    full = summary(result)
    details = [
        Table(
            f"All scores {title}, mean and 95 % confidence interval over "
            f"{result.settings.seeds} seeds.",
            full[[f"{metric}, {title}" for metric in METRICS.values()]].set_axis(
                list(METRICS.values()), axis=1
            ),
        )
        for title in (DOMAINS["out"], DOMAINS["in"])
    ]
    claims = result.claims()
    if claims:
        details.append(claims_table(claims, "The paper's claims."))
    if result.framing.published:
        return (_beside_published(result, names), *details)
    short = ["R2, in domain", "R2, out of domain", "largest |prediction|, out of domain"]
    caption = "In short: how well each model predicts, and how large its predictions get."
    return (Table(caption, full[short]), *details)


def _beside_published(result: Result, names: dict[str, str]) -> Table:
    measured = result.metrics.groupby(["variant", "domain"])["r2"]
    columns = {}
    for domain in ("out", "in"):
        columns[f"R2 {DOMAINS[domain]}, measured"] = [
            str(mean(measured.get_group((key, domain)))) for key in names
        ]
        columns[f"R2 {DOMAINS[domain]}, published"] = [
            result.framing.published.get((key, domain), "") for key in names
        ]
    return Table(
        "R2 beside the published table; measured: mean and 95 % confidence interval over "
        f"{result.settings.seeds} seeds; in domain: the held-back rows of the training domain.",
        pd.DataFrame(columns, index=pd.Index(names.values(), name="model")),
    )


def _figures(result: Result, names: dict[str, str]) -> tuple[Figure, ...]:
    settings = result.settings
    outside = result.predictions[result.predictions["domain"] == "out"]
    drawn = [
        Figure(
            "histogram",
            f"Predictions of {settings.target} out of domain, all seeds together, on a "
            "logarithmic scale; grey: the true values. Tails beyond the grey are predictions "
            "that no row warrants.",
            functools.partial(
                figures.histogram, frame=outside, names=names, target=settings.target
            ),
            size=(7.2, 4.9),
        ),
        Figure(
            "error-by-distance",
            "Absolute error out of domain against the distance from the training domain "
            "(Euclidean distance to its nearest row, in standard deviations of its features): "
            "LOWESS curves (fraction 0.5, no down-weighting) through each row's mean error over "
            "seeds; grey dots: the standard network's rows, the largest hundredth cut off.",
            functools.partial(
                figures.error_by_distance,
                frame=outside,
                names=names,
                target=settings.target,
            ),
            size=(7.2, 4.9),
        ),
    ]
    if settings.split_column is not None:
        assert settings.threshold is not None
        drawn.append(
            Figure(
                "prediction-by-split",
                f"Predictions out of domain against {settings.split_column}: LOWESS curves "
                "(fraction 0.5) through each row's mean prediction over seeds; grey dots: the true "
                "values, black: their LOWESS curve. The training domain ends at "
                f"{settings.threshold:.12g}.",
                functools.partial(
                    figures.prediction_by_split,
                    frame=outside,
                    names=names,
                    target=settings.target,
                    column=settings.split_column,
                ),
                size=(7.2, 4.9),
            )
        )
    return tuple(drawn)
