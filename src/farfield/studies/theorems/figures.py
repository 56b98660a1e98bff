"""Figures of the theorems."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import SERIES
from farfield.studies.theorems.bounds import DATA

_FORMS = {
    "found": "largest |f| found",
    "norm": "norm",
    "root": "root (theorem 3.3)",
    "linear": "linear",
}


def curves(figure: Figure, *, frame: pd.DataFrame, label: str) -> None:
    """Draw sizes of functions along a ray.

    Args:
        figure: An empty figure.
        frame: Columns case, x and value.
        label: Of the vertical axis.
    """
    axes = figure.subplots()
    for stroke, (case, own) in zip(SERIES, frame.groupby("case", sort=False), strict=False):
        axes.plot(
            own["x"], own["value"].abs(), color=stroke.colour, linestyle=stroke.style, label=case
        )
    _logarithmic(axes)
    axes.set_xlabel("|x|")
    axes.set_ylabel(label)
    axes.legend()


def bounds(figure: Figure, *, frame: pd.DataFrame) -> None:
    """Draw the forms of the bound against the number of training points.

    Args:
        figure: An empty figure.
        frame: A row for each training set, with the columns n and each form.
    """
    panels = figure.subplots(1, len(DATA), sharey=True)
    for axes, (data, title) in zip(panels, DATA.items(), strict=True):
        own = frame[frame.index.str.startswith(data)]
        for stroke, (form, label) in zip(SERIES, _FORMS.items(), strict=False):
            axes.plot(
                own["n"],
                own[form],
                color=stroke.colour,
                linestyle=stroke.style,
                marker="o",
                markersize=4,
                label=label,
            )
        _logarithmic(axes)
        axes.set_xticks(own["n"], [f"{n:g}" for n in own["n"]])
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel("training points n")
    panels[0].set_ylabel("|f(x)|, or its bound")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(plain)
    axes.minorticks_off()
