"""Figures of the toy study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farfield.studies.palette import SHADE, STROKES, TRUTH
from farfield.studies.statistics import mean
from farfield.studies.variants import Variant


def predictions(
    figure: Figure,
    *,
    frame: pd.DataFrame,
    compared: tuple[Variant, ...],
    interval: tuple[float, float],
    training_points: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Draw each function's predictions, in full and cut to the range of the normed networks.

    Args:
        figure: An empty figure.
        frame: Columns function, variant, seed, x and prediction.
        compared: The variants, in the order of the legend.
        interval: The training interval.
        training_points: Inputs and targets of each function.
    """
    axes = figure.subplots(2, len(training_points), sharex=True, squeeze=False)
    for column, (name, points) in enumerate(training_points.items()):
        own = frame[frame["function"] == name]
        for row in range(2):
            _panel(axes[row, column], own, compared, interval, points)
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel("x")
        normed = own[own["variant"] != "standard"]["prediction"]
        shown = np.concatenate([normed.to_numpy(), points[1]])
        margin = 0.15 * float(np.ptp(shown))
        axes[1, column].set_ylim(shown.min() - margin, shown.max() + margin)
    axes[0, 0].set_ylabel("prediction")
    axes[1, 0].set_ylabel("prediction, cut")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _panel(
    axes: Axes,
    frame: pd.DataFrame,
    compared: tuple[Variant, ...],
    interval: tuple[float, float],
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    axes.axvspan(*interval, color=SHADE, alpha=0.2, linewidth=0)
    for variant in compared:
        stroke = STROKES[variant.key]
        table = frame[frame["variant"] == variant.key].pivot(
            index="x", columns="seed", values="prediction"
        )
        means = [mean(row) for row in table.to_numpy()]
        middle = np.array([m.value for m in means])
        half = np.nan_to_num(np.array([m.half_width for m in means]))
        axes.plot(
            table.index, middle, color=stroke.colour, linestyle=stroke.style, label=variant.label
        )
        axes.fill_between(
            table.index, middle - half, middle + half, color=stroke.colour, alpha=0.2, linewidth=0
        )
    axes.plot(*points, ".", color=TRUTH.colour, markersize=2, label="training points", zorder=5)
