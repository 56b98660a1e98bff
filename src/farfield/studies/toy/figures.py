"""Figures of the toy study."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farfield.studies.shared.palette import BAND, SHADE, STROKES, TRUTH
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.variants import Variant

_TRAINED = ", trained"


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


def theory(
    figure: Figure,
    *,
    frame: pd.DataFrame,
    constants: pd.DataFrame,
    compared: tuple[Variant, ...],
    interval: tuple[float, float],
    training_points: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Draw trained networks beside exact predictions, limits and bounds.

    Args:
        figure: An empty figure.
        frame: Columns function, variant, quantity, seed, x and value.
        constants: By function and variant: limits, certificate and proven bound.
        compared: The variants, from left to right.
        interval: The training interval.
        training_points: Inputs and targets of each function, from top to bottom.
    """
    shape = len(training_points), len(compared)
    axes = figure.subplots(*shape, sharex=True, sharey="row", squeeze=False)
    for row, (name, points) in enumerate(training_points.items()):
        for column, variant in enumerate(compared):
            panel = axes[row, column]
            own = frame[(frame["function"] == name) & (frame["variant"] == variant.key)]
            panel.axvspan(*interval, color=SHADE, alpha=0.2, linewidth=0)
            _bounds(panel, constants.T[(name, variant.key)].to_dict(), float(frame["x"].max()))
            _trained(panel, own, variant)
            exact = own[own["quantity"] == "exact"]
            panel.plot(
                exact["x"],
                exact["value"],
                color=TRUTH.colour,
                linestyle=(0, (4, 2)),
                linewidth=1.2,
                label="infinite width, exact",
            )
            panel.plot(*points, color=TRUTH.colour, linewidth=2.5, label="training targets")
        largest = float(np.abs(points[1]).max())
        axes[row, 0].set_yscale("symlog", linthresh=2.0 * largest, linscale=2.0)
        axes[row, 0].set_ylabel(f"{name}: f(x)")
        _symmetric_ticks(axes[row, 0], largest)
    for column, variant in enumerate(compared):
        axes[0, column].set_title(variant.label)
        axes[-1, column].set_xlabel("x")
    found: dict[str, Artist] = {}
    for panel in axes.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    # By columns: the networks, then what theory says.
    ordered = sorted(found, key=lambda label: not label.endswith(_TRAINED))
    handles = [found[label] for label in ordered]
    figure.legend(handles, ordered, loc="outside lower center", ncols=3)


def _bounds(axes: Axes, constants: Mapping[Hashable, float], end: float) -> None:
    """The bound of infinite width as a band, that of the trained network as two lines."""
    bound, proven = constants.get("certificate", np.nan), constants.get("proven", np.nan)
    if np.isfinite(bound):
        axes.axhspan(
            -bound, bound, color=BAND, alpha=0.15, linewidth=0, label="infinite width, bound"
        )
    if np.isfinite(proven):
        for sign in (-1.0, 1.0):
            axes.axhline(
                sign * proven,
                color=BAND,
                linewidth=2.5,
                label="trained, proven bound" if sign > 0 else None,
            )
    for side, limit in ((-1.0, "limit_left"), (1.0, "limit_right")):
        value = constants.get(limit, np.nan)
        if np.isfinite(value):
            axes.plot(
                [0.4 * side * end, side * end],
                [value, value],
                color=TRUTH.colour,
                linestyle=":",
                linewidth=1.0,
                label="infinite width, limit" if side > 0 else None,
            )


def _trained(axes: Axes, frame: pd.DataFrame, variant: Variant) -> None:
    own = frame[frame["quantity"] == "trained"]
    table = own.pivot(index="x", columns="seed", values="value")
    means = [mean(row) for row in table.to_numpy()]
    middle = np.array([m.value for m in means])
    half = np.nan_to_num(np.array([m.half_width for m in means]))
    colour = STROKES[variant.key].colour
    axes.plot(table.index, middle, color=colour, label=f"{variant.label}{_TRAINED}")
    axes.fill_between(table.index, middle - half, middle + half, color=colour, alpha=0.25, lw=0)


def _symmetric_ticks(axes: Axes, largest: float) -> None:
    """Zero, the largest target, and powers of ten beyond twice of it."""
    top = axes.get_ylim()[1]
    powers = 10.0 ** np.arange(0, 12)
    seen = powers[(powers > 2.0 * largest) & (powers <= top)]
    axes.set_yticks([*-seen[::-1], -largest, 0.0, largest, *seen])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.minorticks_off()


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
