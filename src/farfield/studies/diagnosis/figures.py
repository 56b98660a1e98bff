"""The figures of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from farfield.studies.shared.palette import SHADE, STROKES, TRUTH

_BINS = 30


def kernels(figure: Figure, *, values: npt.NDArray[np.float64]) -> None:
    """Draw the law of log T over draws.

    Args:
        figure: An empty figure.
        values: log T of each draw.
    """
    axes = figure.subplots()
    middle = float(np.median(values))
    half = max(float(np.abs(values - middle).max()), 0.5)  # a fixed kernel is a narrow peak
    bins = np.linspace(middle - half, middle + half, _BINS + 1)
    axes.hist(values, bins=bins.tolist(), color=SHADE)
    axes.axvline(middle, color=TRUTH.colour, linewidth=1.0)
    axes.set_xlabel("log T(x, x)")
    axes.set_ylabel("networks")


def gradients(figure: Figure, *, sizes: Sequence[float]) -> None:
    """Draw the size of gradients over layers.

    Args:
        figure: An empty figure.
        sizes: Mean squared gradients, from the first layer to the last.
    """
    axes = figure.subplots()
    stroke = STROKES["first"]
    there = np.flatnonzero(np.array(sizes) > 0)  # 0 has no logarithm
    values = np.log10(np.array(sizes)[there])
    axes.plot(there + 1, values, color=stroke.colour, marker="o", markersize=3)
    low, high = float(values.min()), float(values.max())
    if high - low < 1.0:  # less than a decade is no slope to look at
        axes.set_ylim(0.5 * (low + high) - 0.6, 0.5 * (low + high) + 0.6)
    axes.set_xlabel("layer")
    axes.set_ylabel("log10 of the gradients' variance")


def agreement(figure: Figure, *, finite: Sequence[float], infinite: Sequence[float]) -> None:
    """Draw the kernel of a finite network over the infinite-width one.

    Args:
        figure: An empty figure.
        finite: Values at pairs of inputs.
        infinite: Exact values of infinite width at the same pairs.
    """
    axes = figure.subplots()
    ends = [min(*finite, *infinite), max(*finite, *infinite)]
    axes.plot(ends, ends, color=TRUTH.colour, linewidth=0.8)
    axes.scatter(infinite, finite, s=10, color=STROKES["standard"].colour)
    axes.set_xlabel("infinite width")
    axes.set_ylabel("one finite network")
