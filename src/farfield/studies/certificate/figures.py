"""The figure of a certificate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import SHADE, STROKES, TRUTH

_DECADES = 10.0 ** np.arange(-3.0, 200.0, 3.0)


def rays(figure: Figure, *, frame: pd.DataFrame, least: float, largest: float) -> None:
    """Draw an output along rays, and between what it is proven to stay.

    Args:
        figure: An empty figure.
        frame: Columns ray, radius and value; the first ray is the worst one.
        least: The proven lower bound, or minus infinity.
        largest: The proven upper bound, or infinity.
    """
    axes = figure.subplots()
    proven = math.isfinite(least) and math.isfinite(largest)
    if proven:
        axes.axhspan(least, largest, color=SHADE, alpha=0.2, linewidth=0, label="proven")
    worst = frame["ray"].iloc[0]
    for name, own in frame.groupby("ray", sort=False):
        stroke = STROKES["standard"] if name == worst else STROKES["first"]
        label = str(name) if name == worst else "random" if str(name).endswith(" 1") else None
        axes.plot(
            own["radius"],
            own["value"],
            color=stroke.colour,
            linestyle=stroke.style,
            label=label,
            linewidth=2.0 if name == worst else 1.0,
        )
    axes.set_xscale("log")
    axes.set_xticks(_DECADES[frame["radius"].max() >= _DECADES])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(plain)
    if not proven:
        axes.set_yscale("symlog", linthresh=1.0)
        seen = _DECADES[(_DECADES >= 1.0) & (frame["value"].abs().max() >= _DECADES)]
        axes.set_yticks([*-seen, 0.0, *seen])
        axes.yaxis.set_major_formatter(plain)
    axes.axhline(0.0, color=TRUTH.colour, linewidth=0.6)
    axes.set_xlabel("distance from the origin")
    axes.set_ylabel("output")
    axes.legend()
