"""The report of the output-variance study: verdicts, claims, tables and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.dispersion.story import PAPER
from farfield.studies.shared.claims import Claim, claims_frame, counted
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.variance import figures as figures

if TYPE_CHECKING:
    from farfield.studies.variance.study import Result

HOLDS = "holds"
UNTRAINED = "not trained"
DIVERGED = "diverges"

_WITHIN = 1.25  # a variance off by less is called right
_TRAINED = 0.01  # part of the initial loss that may be left
_SHALLOW = 0.05  # depth / width below which theory should hold
CRITICAL = 2.0
"""sigma_w squared at the edge of chaos."""


def verdicts(result: Result) -> pd.DataFrame:
    """Whether theory holds in each cell.

    Diverges: the kernel of some network grew in training until the steps were too large for it. Not
    trained: the median network has more than 1 % of its initial loss left, and the
    formula, which is of networks trained to the end, does not apply. Otherwise it holds if the 95 %
    interval of measured over theoretical variance meets [1 / 1.25, 1.25].

    Args:
        result: What was measured.

    Returns:
        A word for each depth (row) and sigma_w squared (column).
    """
    words = [_word(row) for _, row in result.metrics.iterrows()]
    frame = result.metrics.assign(verdict=words)
    return frame.pivot(index="depth", columns="weight_var", values="verdict")


def _word(row: pd.Series) -> str:
    if np.isnan(row["loss"]):
        return DIVERGED
    if row["loss"] > _TRAINED:
        return UNTRAINED
    if row["low"] > _WITHIN:
        return "too large"
    return "too small" if row["high"] < 1.0 / _WITHIN else HOLDS


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims in order.
    """
    settings = result.settings
    words = verdicts(result)
    ratio = words.index.to_numpy() / settings.width
    shallow = words[ratio <= _SHALLOW]
    deepest = result.metrics[result.metrics["depth"] == settings.depths[-1]]
    chaotic = deepest[deepest["weight_var"] > CRITICAL]
    ordered = deepest[deepest["weight_var"] < CRITICAL]
    depth = settings.depths[-1]
    return (
        Claim(
            "Variance of shallow networks",
            "The variance after training follows from the kernels of infinite width.",
            "theory holds for small depth / width",
            f"{_count(shallow, HOLDS)} where depth / width is at most {_SHALLOW:g}",
            bool(shallow.size and (shallow == HOLDS).all(axis=None)),
            f"Ensembles of {settings.seeds} networks of width {settings.width}."
            + (f" Not: {_elsewhere(shallow)}." if _elsewhere(shallow) else ""),
        ),
        Claim(
            "Exploding gradients",
            "With exploding gradients theory fails in deep networks: the kernel is random.",
            "fails",
            f"{depth} layers: measured over theoretical variance {_ratios(chaotic)}",
            bool(len(chaotic) and not any(_word(row) == HOLDS for _, row in chaotic.iterrows())),
            "Each network starts from a kernel and a size of outputs of its own.",
        ),
        Claim(
            "Vanishing gradients",
            "With vanishing gradients deep networks stay in the regime of the NTK, but do not "
            "train.",
            "NTK regime, untrainable",
            f"{depth} layers: measured over theoretical variance {_ratios(ordered)}; loss left "
            f"{_joined(ordered['loss'])}",
            bool(len(ordered) and all(_word(row) == UNTRAINED for _, row in ordered.iterrows())),
            "Steps are scaled here by the size of the kernel, which makes up for small gradients; "
            "the outputs start so small that weights must move far, and networks leave the regime.",
        ),
    )


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings, found, words = result.settings, result.claims(), verdicts(result)
    return Story(
        title="The variance of trained networks over initialisations, in theory and measured",
        question=(
            "How much do networks trained from different random weights differ, and does the "
            "theory of infinite width know it?"
        ),
        answer=f"{counted(found)} Theory holds in {_count(words, HOLDS)}"
        + (f"; elsewhere: {_elsewhere(words)}." if _elsewhere(words) else "."),
        tables=(
            Table("The paper's claims.", claims_frame(found), prose=True),
            Table(
                "Each depth and sigma_w squared: the mean variance at the test points, by theory "
                f"and over {settings.seeds} networks, their ratio with a 95 % interval, how far "
                "the means are apart in units of the standard deviation, the loss that is left, "
                "and the condition number of the training kernel.",
                _table(result),
            ),
        ),
        figures=(
            Figure(
                "deviations",
                "The standard deviation of the output over random networks, before and after "
                "training: lines are theory of infinite width, dots ensembles of width "
                f"{settings.width}. Both axes logarithmic.",
                functools.partial(figures.deviations, metrics=result.metrics),
                size=(9.0, 4.2),
            ),
            Figure(
                "grid",
                "Variance after training, measured over theory, and the verdict. The colours are "
                "logarithmic and end at 0.1 and 10.",
                functools.partial(figures.grid, metrics=result.metrics, verdicts=words),
                size=(8.0, 4.8),
            ),
        ),
        remarks=(),
        notes=(
            f"Networks: {settings.features} inputs, hidden layers of {settings.width} ReLU, one "
            "output; weights N(0, sigma_w^2 / fan_in), biases 0, all trained (standard "
            "parametrisation).",
            f"{settings.rows} training points on a sphere, targets their first coordinate; "
            f"full-batch gradient descent with momentum {settings.momentum:g}, {settings.steps} "
            "steps at a rate that suits the network of the ensemble with the largest "
            "kernel.",
            "Theory: ff.KernelRegression(limit.ntk, prior=limit.nngp) with limit = "
            "ff.infinite_width(network, parameterization='standard').",
            "The paper's widths, depths and data are not stated.",
        ),
        source=PAPER,
        rerun=f"farfield.studies.variance.run(farfield.studies.variance.{settings!r})",
    )


def _elsewhere(words: pd.DataFrame) -> str:
    """Where theory does not hold, in words."""
    return "; ".join(
        f"{word} at {depth} layers, sigma_w^2 = {variance:g}"
        for depth, line in words.iterrows()
        for variance, word in line.items()
        if word != HOLDS
    )


def _joined(values: pd.Series) -> str:
    return ", ".join(f"{value:.1e}" for value in values)


def _count(words: pd.DataFrame, word: str) -> str:
    return f"{int((words == word).to_numpy().sum())} of {words.size} cells"


def _ratios(frame: pd.DataFrame) -> str:
    return ", ".join(f"{row['ratio']:.3g} ({row['weight_var']:g})" for _, row in frame.iterrows())


def _table(result: Result) -> pd.DataFrame:
    frame = result.metrics
    columns = {
        "sigma_w^2": [f"{value:g}" for value in frame["weight_var"]],
        "theory": [f"{value:.3g}" for value in frame["theory"]],
        "measured": [f"{value:.3g}" for value in frame["measured"]],
        "ratio": [
            f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            for _, row in frame.iterrows()
        ],
        "means apart": [f"{value:.2f}" for value in frame["mean_off"]],
        "loss left": [f"{value:.1e}" for value in frame["loss"]],
        "condition": [f"{value:.1e}" for value in frame["condition"]],
        "verdict": [_word(row) for _, row in frame.iterrows()],
    }
    return pd.DataFrame(columns, index=pd.Index(frame["depth"].tolist(), name="layers"))
