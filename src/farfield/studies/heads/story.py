"""The report of heads on a frozen backbone: tables, verdict and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.shared.certified import certificates_table
from farfield.studies.shared.claims import claims_table
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.verdict import verdict
from farfield.studies.tabular import figures
from farfield.studies.tabular.story import DOMAINS, METRICS

if TYPE_CHECKING:
    from farfield.studies.heads.study import Result


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: The comparison.

    Returns:
        Question, answer, tables and figures.
    """
    settings, framing = result.settings, result.framing
    names = {variant.key: variant.label for variant in settings.compared()}
    training, test, outside = result.counts
    held = " and ".join(settings.hold_out)
    return Story(
        title=framing.title,
        question=(
            f"Heads on the features of a frozen {framing.backbone} learn {framing.target} from "
            f"{training} images without {held}. How well do they predict the {outside} images of "
            f"{held}, and does one LayerNorm help?"
        ),
        answer=verdict(result.metrics, names),
        tables=(
            _table(result, names),
            claims_table(result.claims(), "The paper's claims."),
            _certificates(result, names),
            _details(result, names),
        ),
        figures=_figures(result, names),
        remarks=framing.notes,
        notes=(
            f"{training} images train, {test} more of the same groups test in domain; the split is "
            f"the same for all {settings.seeds} seeds, which differ in initial weights and "
            "batches.",
            f"Hidden widths {', '.join(map(str, settings.hidden))}, {settings.activation}, "
            f"{settings.epochs} epochs of Adam in batches of {settings.batch_size}, at "
            f"{settings.learning_rate:g} (standard, LayerNorm first) and "
            f"{settings.learning_rate_late:g} (the others).",
            f"Features {'' if settings.standardise_inputs else 'not '}standardised, target "
            f"{'' if settings.standardise_target else 'not '}standardised, by the training images; "
            f"weights N(0, {settings.weight_var:g} / fan_in), biases N(0, {settings.bias_var:g}); "
            "LayerNorm with PyTorch's gain, bias and eps.",
            "After ± stands half of the 95 % confidence interval of the mean over seeds "
            "(Student's t).",
            "R2 is 1 for perfect predictions, 0 for the mean of the test targets, negative for "
            "worse than that.",
        ),
        source=framing.source,
        rerun=_rerun(result),
    )


def _rerun(result: Result) -> str:
    study = f"farfield.studies.{result.record['study']}"
    return f"{study}.run(data=DATA, settings={study}.{result.settings!r})"


def _table(result: Result, names: dict[str, str]) -> Table:
    """R2 as in Table 2, beside the published numbers if there are some."""
    published = result.framing.published
    columns = {}
    for domain in ("out", "in"):
        title = f"R2 {DOMAINS[domain]}" + (", measured" if published else "")
        columns[title] = _means(result, names, domain, "r2")
        if published:
            columns[f"R2 {DOMAINS[domain]}, published"] = [
                published.get((key, domain), "") for key in names
            ]
    columns["mean |error| out of domain"] = _means(result, names, "out", "mae")
    columns["mean |error| in domain"] = _means(result, names, "in", "mae")
    return Table(
        f"R2 and mean absolute error of {result.framing.target}: mean and 95 % confidence "
        f"interval over {result.settings.seeds} seeds.",
        pd.DataFrame(columns, index=pd.Index(names.values(), name="head")),
    )


def _certificates(result: Result, names: dict[str, str]) -> Table:
    first = result.predictions.query("seed == 0")
    largest = first["prediction"].abs().groupby(first["variant"]).max()
    return certificates_table(
        f"Certificates of the trained head of seed 0 of each kind, over all features: "
        f"{result.framing.target}. Found by a search over features, and on the test images.",
        result.certificates,
        names,
        {"largest on the test images": [f"{largest[key]:.3g}" for key in names]},
        rows="head",
    )


def _details(result: Result, names: dict[str, str]) -> Table:
    columns = {
        f"{METRICS[metric]} {DOMAINS[domain]}": _means(result, names, domain, metric)
        for metric in ("rmse", "max_abs_prediction")
        for domain in ("out", "in")
    }
    return Table(
        "Root mean squared error and largest prediction, likewise.",
        pd.DataFrame(columns, index=pd.Index(names.values(), name="head")),
    )


def _means(result: Result, names: dict[str, str], domain: str, metric: str) -> list[str]:
    grouped = result.metrics.groupby(["variant", "domain"])[metric]
    return [str(mean(grouped.get_group((key, domain)))) for key in names]


def _figures(result: Result, names: dict[str, str]) -> tuple[Figure, ...]:
    outside = result.predictions[result.predictions["domain"] == "out"]
    target = result.framing.target
    return (
        Figure(
            "error-by-similarity",
            f"Absolute error of {target} out of domain against the mean cosine similarity of an "
            "image's features to those of the training images: LOWESS curves (fraction 0.5, no "
            "down-weighting) through each image's mean error over seeds; grey dots: the standard "
            "head's images, the largest hundredth cut off.",
            functools.partial(
                figures.error_by_distance,
                frame=outside,
                names=names,
                target=target,
                column="similarity",
                label="mean cosine similarity to the training features (left: farther away)",
            ),
            size=(7.2, 4.9),
        ),
        Figure(
            "histogram",
            f"Predictions of {target} out of domain, all seeds together, on a logarithmic scale; "
            "grey: the true values.",
            functools.partial(figures.histogram, frame=outside, names=names, target=target),
            size=(7.2, 4.9),
        ),
    )
