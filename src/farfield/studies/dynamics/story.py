"""The report of the training study: claims, tables, answer and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.dispersion.story import PAPER
from farfield.studies.dynamics import figures as figures
from farfield.studies.shared.claims import Claim, claims_frame, counted
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.dynamics.study import Result

CRITICAL = 2.0
"""sigma_w squared at the edge of chaos."""

_FIXED = 0.1  # a kernel that changed less counts as constant
_LEARNT = 0.5  # of the initial loss, at most
_BLOCKS = 1.5  # same class over other classes, over the same at the start


def claims(result: Result) -> tuple[Claim, ...]:
    """The papers' claims beside what was found.

    Args:
        result: What was measured.

    Returns:
        Claims in order.
    """
    start, end = _ends(result)
    learns = end.index >= CRITICAL
    ratio = (end["same_class"] / end["other_class"]) / (start["same_class"] / start["other_class"])
    loss = end["loss"] / start["loss"]
    return (
        Claim(
            "Kernel in training, edge of chaos and above",
            "At the edge of chaos and in the chaotic phase the kernel changes in training.",
            "changes by its own size",
            f"|K_t - K_0| / |K_0| = {_by_variance(end['change'])}",
            bool(learns.any() and (end["change"][learns] > _FIXED).all()),
            f"No lazy regime at depth / width {result.settings.depth / result.settings.width:.2g}.",
        ),
        Claim(
            "Kernel in training, ordered phase",
            "Only in the ordered phase the kernel may stay constant.",
            "may stay constant",
            f"|K_t - K_0| / |K_0| = {_by_variance(end['change'][~learns])}",
            bool((~learns).any() and (end["change"][~learns] < _FIXED).all()),
            "Decided after the last epoch: "
            + (
                "it stayed constant."
                if (end["change"][~learns] < _FIXED).all()
                else "Adam's step does not shrink with the gradient, so weights move all the same."
            ),
        ),
        Claim(
            "Trainability",
            "Deep networks in the ordered phase have vanishing gradients and hardly train.",
            "untrainable with depth",
            f"mean squared error over that at the start: {_by_variance(loss)}",
            bool(
                (~learns).any()
                and learns.any()
                and (loss[~learns] > _LEARNT).all()
                and (loss[learns] < _LEARNT).all()
            ),
            f"After {result.settings.epochs} epochs of Adam, whose step does not shrink with the "
            "gradient: they start late there, but do train."
            if (loss[~learns] <= _LEARNT).all()
            else f"After {result.settings.epochs} epochs of Adam.",
        ),
        Claim(
            "Block structure",
            "The kernel of trained networks shows the classes as blocks.",
            "blocks",
            "same class over other classes, over that at the start: " + _by_variance(ratio),
            bool(learns.any() and (ratio[learns] > _BLOCKS).all()),
            "Gradients of images of a class come to agree.",
        ),
    )


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings, found = result.settings, result.claims()
    start, end = _ends(result)
    paper = settings.epochs == 3000
    return Story(
        title="The tangent kernel of deep networks in training",
        question=(
            "Does the kernel stay what it was at initialisation while a deep network learns, on "
            "each side of the edge of chaos?"
        ),
        answer=(
            f"{counted(found)} After {settings.epochs} epochs the kernel had "
            f"changed by {_by_variance(end['change'], '.2g')} of its size; accuracy in training "
            f"{_by_variance(end['accuracy'], '.0%')}."
        ),
        tables=(
            Table("The papers' claims.", claims_frame(found), prose=True),
            Table(
                f"At the start and after {settings.epochs} epochs. Blocks: the mean of the kernel "
                "over pairs of the same class, and of other classes, over that of its diagonal.",
                _table(start, end),
            ),
        ),
        figures=(
            Figure(
                "curves",
                "The change of the kernel (left) and the mean squared error (right) over the "
                "epochs; all axes logarithmic, epoch 0 at the left edge.",
                functools.partial(figures.curves, metrics=result.metrics),
                size=(9.0, 4.0),
            ),
            Figure(
                "blocks",
                "Blocks of the kernel over its diagonal: pairs of images of the same class, and of "
                "other classes. The horizontal axis is logarithmic, epoch 0 at the left edge.",
                functools.partial(figures.blocks, metrics=result.metrics),
                size=(10.0, 3.8),
            ),
            Figure(
                "heatmaps",
                f"The kernel of {settings.per_class} images of each digit, in the order of the "
                "digits, over the mean of its diagonal.",
                functools.partial(figures.heatmaps, kernels=result.predictions),
                size=(10.0, 7.6),
            ),
        ),
        remarks=()
        if paper
        else (f"{settings.epochs} epochs; the paper trains for 3000 on MNIST.",),
        notes=(
            f"Networks: {settings.depth} hidden layers of {settings.width} ReLU, ten outputs, "
            "weights N(0, sigma_w^2 / fan_in), biases 0; full-batch Adam, mean squared error to "
            f"one-hot targets, {settings.rows} images, {settings.rows // 10} of each digit.",
            "The kernel is the inner product of the gradients of all parameters, summed over the "
            "outputs (ff.empirical_ntk), as published.",
            "The paper minimises half the squared error; here it is the mean over rows and "
            "outputs. Adam does not feel the factor, but for its eps where gradients vanish.",
            "Pixels are divided by the largest grey value, as published, and not standardised.",
        ),
        source=PAPER,
        rerun=f"farfield.studies.dynamics.run(farfield.studies.dynamics.{settings!r})",
    )


def _ends(result: Result) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first and the last epoch, a row for each sigma_w squared."""
    frame = result.metrics
    first, last = frame["epoch"] == 0, frame["epoch"] == result.settings.epochs
    return frame[first].set_index("weight_var"), frame[last].set_index("weight_var")


def _by_variance(values: pd.Series, form: str = ".3g") -> str:
    return ", ".join(f"{value:{form}} ({variance:g})" for variance, value in values.items())


def _table(start: pd.DataFrame, end: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "kernel's change": [f"{value:.3g}" for value in end["change"]],
        "loss, start": [f"{value:.3g}" for value in start["loss"]],
        "loss, end": [f"{value:.3g}" for value in end["loss"]],
        "accuracy, training": [f"{value:.1%}" for value in end["accuracy"]],
        "accuracy, others": [f"{value:.1%}" for value in end["accuracy_other"]],
    }
    for name, label in (("same_class", "same class"), ("other_class", "other classes")):
        columns[f"{label}, start"] = [f"{value:.3f}" for value in start[name]]
        columns[f"{label}, end"] = [f"{value:.3f}" for value in end[name]]
    names = [f"sigma_w^2 = {variance:g}" for variance in end.index]
    return pd.DataFrame(columns, index=pd.Index(names, name="network"))
