"""Figures of the ELLA study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farfield.studies.ella import calibration
from farfield.studies.ella.metrics import probabilities_of
from farfield.studies.ella.tasks import IMAGES, PROTEINS, TEST
from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import SERIES, SHADE

_FEWEST = 10  # samples of a bin that is drawn
_MARKERS = "osv^D*Px"
_SHAPES = {IMAGES: "o", PROTEINS: "D"}
_LEVELS = [digit * 10.0**power for power in range(-12, 3) for digit in (1.0, 2.0, 5.0)]


def reliability(figure: Figure, *, predictions: pd.DataFrame, names: Mapping[str, str]) -> None:
    """Draw accuracy against confidence.

    Args:
        figure: An empty figure.
        predictions: Of all methods.
        names: Labels of the methods to draw, by key.
    """
    panels = figure.subplots(1, 2, sharey=True)
    domains = {TEST: "like training", "turned": "turned"}
    for axes, (domain, title) in zip(panels, domains.items(), strict=True):
        axes.plot([0.0, 1.0], [0.0, 1.0], color=SHADE, linewidth=1.0)
        for key, own in _methods(predictions, IMAGES, domain, names).items():
            bins = calibration.reliability(
                probabilities_of(own), own["target"].to_numpy().astype(np.int64)
            )
            bins = bins[bins["count"] >= _FEWEST]
            axes.plot(bins["confidence"], bins["accuracy"], **_look(names, key), markersize=4)
        axes.set_title(title)
        axes.set_xlabel("confidence")
    panels[0].set_ylabel("accuracy")
    _legend(figure, panels[0])


def quantiles(figure: Figure, *, predictions: pd.DataFrame, names: Mapping[str, str]) -> None:
    """Draw how far the coverage of quantiles is from their level.

    Args:
        figure: An empty figure.
        predictions: Of all methods.
        names: Labels of the methods to draw, by key.
    """
    panels = figure.subplots(1, 2, sharey=True)
    domains = {TEST: "like training", "larger": "larger than any in training"}
    for axes, (domain, title) in zip(panels, domains.items(), strict=True):
        axes.axhline(0.0, color=SHADE, linewidth=1.0)
        for key, own in _methods(predictions, PROTEINS, domain, names).items():
            columns = (own[name].to_numpy(float) for name in ("target", "mean", "std"))
            found = calibration.coverage(*columns) - calibration.LEVELS
            axes.plot(calibration.LEVELS, found, **_look(names, key), markersize=3)
        axes.set_title(title)
        axes.set_xlabel("level of the quantile")
    panels[0].set_ylabel("part of targets below it, less the level")
    _legend(figure, panels[0])


def rays(figure: Figure, *, frame: pd.DataFrame) -> None:
    """Draw standard deviations and the alarm along rays.

    Args:
        figure: An empty figure.
        frame: Columns network, kind, distance, value.
    """
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, own) in zip(panels, frame.groupby("network", sort=False), strict=True):
        for number, (kind, curve) in enumerate(own.groupby("kind", sort=False)):
            stroke = SERIES[number]
            start = curve["value"].iloc[(curve["distance"] - 1.0).abs().argmin()]
            axes.plot(
                curve["distance"],
                curve["value"] / start,
                color=stroke.colour,
                linestyle=stroke.style,
                label=kind,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(plain)
        axes.yaxis.set_major_formatter(plain)
        axes.minorticks_off()
        axes.set_title(name)
        axes.set_xlabel("distance from the data's mean  (log)")
    panels[0].set_ylabel("over the value at distance 1  (log)")
    _legend(figure, panels[0])


def ablation(figure: Figure, *, frame: pd.DataFrame) -> None:
    """Draw ELLA's errors against K.

    Args:
        figure: An empty figure.
        frame: Columns task, inducing, features, kernel_error, covariance_error.
    """
    panels = figure.subplots(1, 2)
    sizes = sorted(frame["inducing"].unique())
    titles = {"kernel_error": "kernel", "covariance_error": "covariances of outputs"}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for (task, inducing), own in frame.groupby(["task", "inducing"]):
            axes.plot(
                own["features"],
                own[column],
                color=SERIES[sizes.index(inducing) % len(SERIES)].colour,
                linestyle="-" if task == IMAGES else "--",
                marker=_SHAPES[str(task)],
                markersize=5,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = sorted(frame["features"].unique())
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(0.7 * float(frame[column].min()), 1.4 * float(frame[column].max()))
        levels = [level for level in _LEVELS if axes.get_ylim()[0] < level < axes.get_ylim()[1]]
        axes.set_yticks(levels, [f"{level:g}" for level in levels])
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel("features K  (log)")
    panels[0].set_ylabel("relative error  (log)")
    handles = [
        Line2D([], [], color=SERIES[k % len(SERIES)].colour, label=f"M = {size}")
        for k, size in enumerate(sizes)
    ]
    handles += [
        Line2D([], [], color=SHADE, linestyle="-", marker=_SHAPES[IMAGES], label=IMAGES),
        Line2D([], [], color=SHADE, linestyle="--", marker=_SHAPES[PROTEINS], label=PROTEINS),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def _methods(
    predictions: pd.DataFrame, task: str, domain: str, names: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """The predictions of each method that was run, by key."""
    own = predictions[(predictions["task"] == task) & (predictions["domain"] == domain)]
    groups = dict(list(own.groupby("method", sort=False)))
    return {key: groups[key] for key in names if key in groups}


def _look(names: Mapping[str, str], key: str) -> dict[str, object]:
    number = list(names).index(key)
    stroke = SERIES[number % len(SERIES)]
    return {
        "color": stroke.colour,
        "linestyle": stroke.style,
        "marker": _MARKERS[number % len(_MARKERS)],
        "label": names[key],
    }


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
