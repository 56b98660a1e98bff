"""The report of the heat-maps: tables, answer and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.heatmaps import figures
from farfield.studies.heatmaps.claims import FIGURE, RECURSION, closed_forms, slope
from farfield.studies.shared.claims import claims_table, counted
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.heatmaps.study import Result


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings, claims = result.settings, result.claims()
    first, last = settings.widths[0], settings.widths[-1]
    errors = result.metrics.query("width > 0").groupby("width")["relative_error"].mean()
    return Story(
        title="The tangent kernel of networks with and without LayerNorm on a square",
        question=(
            "What does the tangent kernel of a random network look like far from 0, and is it "
            "that of infinite width?"
        ),
        answer=(
            f"{counted(claims)} Without LayerNorm the kernel grows without end; with one "
            "LayerNorm, wherever it stands, it settles. The kernel of a network of width "
            f"{first} is off the exact one by {errors[first]:.0%}, of width {last} by "
            f"{errors[last]:.1%} (like width^{slope(result):.2f})."
        ),
        tables=(
            Table(
                "The relative error of the kernel of one random network on the square, "
                "|K - Theta| / |Theta| in Frobenius norms: mean and 95 % confidence interval over "
                f"{settings.seeds} seeds.",
                result.errors().rename_axis(columns=None),
                item=FIGURE,
            ),
            claims_table(claims, "The paper's claims."),
            Table(
                "Two corners of the square: the exact kernel of ff.infinite_width, the closed "
                f"form, and networks of width {first} ({settings.seeds} seeds).",
                _corners(result),
                item=RECURSION,
            ),
        ),
        figures=_figures(result),
        remarks=(),
        notes=(
            "Networks: one input, two hidden layers of ReLU, in the paper's parametrisation "
            "(weights and biases N(0, 1), divided by the root of fan_in and multiplied by "
            f"sigma_b, sigma_b squared = {settings.bias_var:g}; activations times the root of 2; "
            "LayerNorm before the activation, without gain, bias and eps). The paper does not "
            "state the parametrisation of its figure.",
            "The kernel of a network is the inner product of gradients with respect to these "
            "N(0, 1) parameters: ff.empirical_ntk(network, parameterization='ntk'), without a "
            "Jacobian. The exact one is ff.infinite_width(network).ntk.",
            "The paper draws each map on a scale of its own and states no numbers.",
        ),
        source=(
            "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable Extrapolation "
            "(NeurIPS 2025), Figure 2 and proposition E.2."
        ),
        rerun=f"farfield.studies.heatmaps.run(farfield.studies.heatmaps.{settings!r})",
    )


def _corners(result: Result) -> pd.DataFrame:
    table = closed_forms(result)
    return pd.DataFrame(
        {
            "pair (x, x')": table["pair"],
            "exact": table["exact"].map(lambda value: f"{value:.8g}"),
            "closed form": table["closed"].map(lambda value: f"{value:.8g}"),
            "relative difference": table["difference"].map(lambda value: f"{value:.0e}"),
            f"width {result.settings.widths[0]}": table["first width"],
        }
    ).set_index(pd.Index(table["network"], name="network"))


def _figures(result: Result) -> tuple[Figure, ...]:
    settings, compared = result.settings, result.compared()
    values = result.predictions
    return (
        Figure(
            "heatmaps",
            f"Theta(x, x') for x and x' from {-settings.far:g} to {settings.far:g}. Above: random "
            f"networks of width {settings.widths[0]}, mean over {settings.seeds} seeds; below: "
            "infinite width, exact. Each column has one colour scale.",
            functools.partial(
                figures.heatmaps,
                frame=values[values["part"] == "square"],
                compared=compared,
            ),
            size=(10.0, 5.8),
            item=FIGURE,
        ),
        Figure(
            "convergence",
            "The relative error of the kernel of one random network on the square, against the "
            f"width: mean over {settings.seeds} seeds, bars are 95 % confidence intervals.",
            functools.partial(figures.convergence, metrics=result.metrics, compared=compared),
            size=(7.2, 4.6),
            item=FIGURE,
        ),
        Figure(
            "rays",
            f"Theta(x, {settings.far:g}) from x = {settings.far:g} to {settings.farthest:g}: "
            f"lines are exact, dots the mean of networks of width {settings.widths[0]}. Left: "
            "without LayerNorm, both axes logarithmic; right: with it.",
            functools.partial(
                figures.rays, frame=values[values["part"] == "ray"], compared=compared
            ),
            size=(9.0, 5.0),
            item=FIGURE,
        ),
    )
