"""The report of the dispersion study: tables, answer and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.dispersion import figures as figures
from farfield.studies.dispersion.claims import CRITICAL, relu, z_scores
from farfield.studies.shared.claims import claims_frame, counted
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.dispersion.study import Result

PAPER = (
    "Seleznova and Kutyniok, Neural Tangent Kernel Beyond the Infinite-Width Limit: Effects of "
    "Depth and Initialization (ICML 2022), arXiv 2202.00553; Analyzing Finite Neural Networks: Can "
    "We Trust Neural Tangent Kernel Theory? (MSML 2021), arXiv 2012.04477."
)
"""The papers, for citing."""


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings, claims = result.settings, result.claims()
    depth = settings.depths
    return Story(
        title="How random the tangent kernel is at initialisation",
        question=(
            "Does one random network have the kernel of the theory, or does every draw have a "
            "kernel of its own, as depth / width and the variance of the weights grow?"
        ),
        answer=f"{counted(claims)} {_answer(result)}",
        tables=(
            Table("The paper's claims.", claims_frame(claims), prose=True),
            Table(
                "Monte Carlo against formula. E[T^2] / E[T]^2 of T = Theta(x, x) with its "
                f"standard deviation by the bootstrap over {settings.draws} draws, and z-scores of "
                "three formulas: exact at this depth and width, the limit of depth and width, and "
                "the limit as published. The last column is the part of the sum of T^2 that the "
                "largest draw makes up.",
                _z_table(result),
            ),
            Table(
                f"What the papers do not say: the dispersion with LayerNorm, {depth} hidden "
                f"layers, with 95 % intervals over {settings.draws} draws.",
                _norm_table(result),
            ),
            Table(
                f"Tails: log of the mean less the median of log T, {depth} hidden layers. 0 is a "
                "symmetric law on the scale of T; the larger, the rarer the draws that make up "
                "the mean.",
                _tail_table(result),
            ),
        ),
        figures=_figures(result),
        remarks=_remarks(result),
        notes=(
            f"Networks: {settings.width} inputs, 1 to {depth} hidden layers of {settings.width} "
            "ReLU, one output; weights N(0, sigma_w^2 / fan_in), biases 0, all of whose gradients "
            "count plainly (standard parametrisation); inputs are Gaussian vectors over their "
            "norm.",
            "Every draw has new weights and new inputs. All depths share the weights of a draw, "
            "each with a readout of its own, so that the curves of neighbouring depths go up and "
            "down together.",
            "The 16 values of sigma_w^2 share the draws: a ReLU network with biases 0 is "
            "homogeneous in its weights, so that one draw gives the kernels of all values exactly. "
            "The paper draws 500 for each value.",
            "LayerNorm stands before the activation, without gain, bias and eps.",
            "Intervals are percentiles of the bootstrap. With heavy tails they are too narrow and "
            "too low, since the draws that matter most are missing from the sample.",
        ),
        source=PAPER,
        rerun=f"farfield.studies.dispersion.run(farfield.studies.dispersion.{settings!r})",
    )


def _answer(result: Result) -> str:
    depth = result.settings.depths
    ends = {v: _value(result, "relu", v) for v in result.settings.phases()}
    listed = "; ".join(f"{value:.3g} at sigma_w^2 = {v:g}" for v, value in ends.items())
    chaotic = result.settings.phases()[-1]
    places = ", ".join(
        f"{figures.LABELS[place]} {_value(result, place, chaotic):.3g}"
        for place in ("first", "last", "every")
    )
    return (
        f"With {depth} hidden layers of {result.settings.width} the dispersion is {listed}. "
        f"LayerNorm at sigma_w^2 = {chaotic:g}: {places}."
    )


def _value(result: Result, network: str, variance: float) -> float:
    row = _row(result, network, "all", variance)
    return float(row["dispersion"])


def _row(result: Result, network: str, counted: str, variance: float) -> pd.Series:
    frame = result.metrics
    own = frame[
        (frame["network"] == network)
        & (frame["counted"] == counted)
        & (frame["weight_var"] == variance)
        & (frame["depth"] == result.settings.depths)
    ]
    return own.iloc[0]


def _z_table(result: Result) -> pd.DataFrame:
    table = z_scores(result)
    names = [
        "weights alone" if row.counted == "weights" else f"sigma_w^2 = {row.weight_var:g}"
        for row in table.itertuples()
    ]
    columns = {
        "depth / width": [f"{value:.2g}" for value in table["ratio"]],
        "measured": [
            f"{value:.3f} ± {error:.3f}"
            for value, error in zip(table["dispersion"], table["error"], strict=True)
        ],
    }
    for name in ("exact", "limit", "published"):
        columns[name] = [f"{value:.3f}" for value in table[name]]
        columns[f"z, {name}"] = [f"{value:+.1f}" for value in table[f"z_{name}"]]
    columns["largest"] = [f"{value:.1%}" for value in table["largest"]]
    return pd.DataFrame(columns, index=pd.Index(names, name="network"))


def _norm_table(result: Result) -> pd.DataFrame:
    def cell(network: str, counted: str, variance: float) -> str:
        row = _row(result, network, counted, variance)
        return f"{row['dispersion']:.3f} ({row['low']:.3f} to {row['high']:.3f})"

    columns = {
        **{f"sigma_w^2 = {v:g}": ("all", v) for v in result.settings.phases()},
        "weights alone": ("weights", 0.0),
    }
    return pd.DataFrame(
        {
            name: {label: cell(key, *case) for key, label in figures.LABELS.items()}
            for name, case in columns.items()
        }
    ).rename_axis("network")


def _tail_table(result: Result) -> pd.DataFrame:
    import numpy as np

    rows = {}
    for variance in result.settings.phases():
        row = _row(result, "relu", "all", variance)
        rows[f"sigma_w^2 = {variance:g}"] = {
            "log mean": f"{np.log(row['mean']):.2f}",
            "median of log T": f"{row['median_log']:.2f}",
            "difference": f"{np.log(row['mean']) - row['median_log']:.2f}",
            "largest draw": f"{row['largest']:.1%}",
        }
    return pd.DataFrame(rows).T.rename_axis("network")


def _remarks(result: Result) -> tuple[str, ...]:
    settings = result.settings
    table = z_scores(result)
    heavy = relu(result, "weights", 0.0)
    worst = float(heavy["largest"].max())
    found = [
        f"Heavy tails: of weights alone, one of {settings.draws} draws makes up {worst:.0%} of the "
        "sum of T^2 in the deepest networks; ratios there are to be read with their intervals."
    ]
    apart = (table["limit"] / table["published"] - 1.0).abs()
    found.append(
        "The published formula of the chaotic phase takes the backward pass as independent of the "
        f"forward one; the limit itself is up to {apart.max():.1%} larger at these depths."
    )
    return tuple(found)


def _figures(result: Result) -> tuple[Figure, ...]:
    settings, metrics = result.settings, result.metrics
    own = metrics[(metrics["network"] == "relu")]
    critical = own[(own["counted"] == "weights") | (own["weight_var"] == CRITICAL)]
    chaotic = settings.phases()[-1]
    shown = sorted(
        {settings.shown_depths[0], *settings.shown_depths[1:-1:2], settings.shown_depths[-1]}
    )
    return (
        Figure(
            "phases",
            "E[T^2] / E[T]^2 of T = Theta(x, x) against depth / width for each sigma_w squared, "
            f"width {settings.width}; bands are 95 % intervals over {settings.draws} draws. Black: "
            "the published limits of the three phases.",
            functools.partial(
                figures.phases, metrics=own[own["counted"] == "all"], width=settings.width
            ),
            size=(8.0, 5.0),
        ),
        Figure(
            "formulas",
            "Measured (dots, 95 % intervals) and in theory. Left: gradients of weights alone, the "
            "same for every sigma_w. Right: at sigma_w squared = 2 with biases counted.",
            functools.partial(figures.formulas, metrics=critical, width=settings.width),
            size=(9.0, 4.2),
        ),
        Figure(
            "norms",
            "The same with LayerNorm before the activations of one hidden layer or all; bands are "
            f"95 % intervals over {settings.draws} draws.",
            functools.partial(figures.norms, metrics=metrics, variances=settings.phases()),
            size=(10.0, 4.2),
        ),
        Figure(
            "sigmoids",
            "The same for networks of sigmoids, whose edge of chaos is near sigma_w squared = "
            f"100; {settings.further_draws} draws each.",
            functools.partial(figures.sigmoids, metrics=metrics),
        ),
        Figure(
            "angles",
            f"Theta(x, x') against the cosine of x and x', sigma_w squared = {chaotic:g}: its mean "
            "over that of Theta(x, x), and its dispersion.",
            functools.partial(figures.angles, metrics=metrics, variance=chaotic, depths=shown),
            size=(9.0, 4.2),
        ),
        Figure(
            "tails",
            f"The law of Theta(x, x) over {settings.draws} networks of {settings.depths} hidden "
            "layers, one sigma_w squared of each phase; both axes logarithmic.",
            functools.partial(figures.tails, kernels=result.predictions),
        ),
    )
