"""Figures of predictions by an infinitely wide network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import SHADE, STROKES, TRUTH

MOST_POINTS = 1000
"""Rows that are drawn at most."""

_INSIDE, _OUTSIDE = STROKES["first"].colour, STROKES["standard"].colour


def predictions(figure: Figure, *, frame: pd.DataFrame, target: str) -> None:
    """Draw each row's prediction against its distance from the training rows.

    Args:
        figure: An empty figure.
        frame: Columns distance, prediction, lower, upper, outside, and target if it is known.
        target: Name of the target.
    """
    axes = figure.subplots()
    places = np.linspace(0, len(frame) - 1, min(len(frame), MOST_POINTS)).round().astype(int)
    shown = frame.iloc[places]
    outside = shown["outside"].to_numpy(dtype=bool)
    for mask, colour, marker, label in (
        (~outside, _INSIDE, "o", "predicted, inside the training ranges"),
        (outside, _OUTSIDE, "^", "predicted, outside"),
    ):
        own = shown[mask]
        if own.empty:
            continue
        axes.vlines(own["distance"], own["lower"], own["upper"], color=colour, alpha=0.35, lw=1.0)
        axes.plot(own["distance"], own["prediction"], marker, color=colour, ms=4.5, label=label)
    if "target" in shown:
        axes.plot(shown["distance"], shown["target"], ".", color=TRUTH.colour, ms=3, label="target")
    axes.set_xlabel("distance from the nearest training row (standard deviations)")
    axes.set_ylabel(target)
    if shown["distance"].max() > 50 * max(float(shown["distance"].median()), 1e-3):
        axes.set_xscale("symlog", linthresh=1.0)
        axes.xaxis.set_major_formatter(plain)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def rays(figure: Figure, *, curves: pd.DataFrame, limits: pd.DataFrame, target: str) -> None:
    """Draw predictions along features, with their limits.

    Args:
        figure: An empty figure.
        curves: Columns feature, value, prediction, lower and upper.
        limits: For each feature two rows, down and up: least, largest, degree and limit.
        target: Name of the target.
    """
    groups = list(curves.groupby("feature", sort=False))
    columns = min(len(groups), 2)
    panels = figure.subplots(-(-len(groups) // columns), columns, squeeze=False).ravel()
    for axes, (name, own) in zip(panels, groups, strict=False):
        ends = limits[limits["feature"] == name]
        _ray(axes, own, ends)
        axes.set_xlabel(str(name))
        axes.set_ylabel(target)
    for axes in panels[len(groups) :]:
        axes.remove()
    far = "limit" if (limits["degree"] == 0).all() else "leading term of the growth"
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=_INSIDE, label="prediction"),
        Line2D([], [], color=_OUTSIDE, linestyle="--", label=far),
        Patch(color=SHADE, alpha=0.25, label="training range"),
    ]
    if curves["lower"].notna().any():
        handles.insert(1, Patch(color=_INSIDE, alpha=0.2, label="95 % interval"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _ray(axes: Axes, own: pd.DataFrame, ends: pd.DataFrame) -> None:
    value, low, high = own["value"], float(ends["least"].iloc[0]), float(ends["largest"].iloc[0])
    axes.axvspan(low, high, color=SHADE, alpha=0.25, linewidth=0)
    if own["lower"].notna().any():
        axes.fill_between(value, own["lower"], own["upper"], color=_INSIDE, alpha=0.2, linewidth=0)
    axes.plot(value, own["prediction"], color=_INSIDE, linewidth=1.8)
    middle = 0.5 * (float(value.iloc[0]) + float(value.iloc[-1]))
    level = float(own["prediction"].iloc[len(own) // 2])
    for (_, end), x in zip(
        ends.iterrows(), (value[value <= middle], value[value >= middle]), strict=True
    ):
        if end["degree"] == 0:
            line = np.full(len(x), end["limit"])
        else:
            line = level + end["limit"] * np.abs(x - middle) ** end["degree"]
        axes.plot(x, line, color=_OUTSIDE, linestyle="--", linewidth=1.4)


def bound(figure: Figure, *, sizes: Mapping[str, tuple[float, bool]], unit: str) -> None:
    """Draw how large things are, on a logarithmic scale.

    Args:
        figure: An empty figure.
        sizes: By name: how large, and whether it is a proven bound.
        unit: What is measured.
    """
    axes = figure.subplots()
    shown = {name: pair for name, pair in sizes.items() if pair[0] > 0}
    places = np.arange(len(shown))[::-1]
    for place, (value, proven) in zip(places, shown.values(), strict=True):
        colour = _OUTSIDE if proven else _INSIDE
        axes.plot(value, place, "D" if proven else "o", color=colour, ms=7)
        axes.annotate(
            _rounded(value), (value, place), xytext=(9, 0), textcoords="offset points", va="center"
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(places, list(shown))
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.margins(x=0.25)
    axes.set_xlabel(unit)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if 100.0 <= value < 1e7 else f"{value:.3g}"
