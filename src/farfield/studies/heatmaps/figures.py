"""Figures of the heat-maps' study."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import HEAT, STROKES, TRUTH
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.variants import Variant

_DECADES = 10.0 ** np.arange(-3, 200)


def heatmaps(figure: Figure, *, frame: pd.DataFrame, compared: tuple[Variant, ...]) -> None:
    """Draw each network's kernel above the exact one, both on one scale.

    Args:
        figure: An empty figure.
        frame: Columns kernel, variant, x, other and value.
        compared: The variants, from left to right.
    """
    kernels = sorted(frame["kernel"].unique(), reverse=True)
    axes = figure.subplots(len(kernels), len(compared), sharex=True, sharey=True, squeeze=False)
    far = float(frame["x"].max())
    for column, variant in enumerate(compared):
        own = frame[frame["variant"] == variant.key]
        low, high = min(0.0, float(own["value"].min())), float(own["value"].max())
        for row, kernel in enumerate(kernels):
            panel = axes[row, column]
            table = own[own["kernel"] == kernel].pivot(index="x", columns="other", values="value")
            image = panel.imshow(
                table.to_numpy(),
                cmap=HEAT,
                vmin=low,
                vmax=high,
                extent=(-far, far, -far, far),
                origin="lower",
                interpolation="nearest",
            )
            panel.grid(False)
            panel.set_xticks([-far, 0.0, far])
            panel.set_yticks([-far, 0.0, far])
            if column == 0:
                panel.set_ylabel(f"{kernel}\nx")
        axes[0, column].set_title(variant.label)
        axes[-1, column].set_xlabel("x'")
        figure.colorbar(
            image, ax=axes[:, column].tolist(), location="bottom", shrink=0.9, label="Theta(x, x')"
        )


def convergence(figure: Figure, *, metrics: pd.DataFrame, compared: tuple[Variant, ...]) -> None:
    """Draw the relative error against the width.

    Args:
        figure: An empty figure.
        metrics: Columns variant, width, seed and relative_error.
        compared: The variants.
    """
    axes = figure.subplots()
    finite = metrics[metrics["width"] > 0]
    widths = np.sort(finite["width"].unique())
    for number, variant in enumerate(compared):
        own = finite[finite["variant"] == variant.key].groupby("width")["relative_error"]
        means = [mean(own.get_group(width)) for width in widths]
        stroke = STROKES[variant.key]
        axes.errorbar(
            widths * 1.04 ** (number - (len(compared) - 1) / 2),  # so that bars do not hide bars
            [m.value for m in means],
            yerr=np.nan_to_num([m.half_width for m in means]),
            color=stroke.colour,
            linestyle=stroke.style,
            marker="o",
            markersize=4,
            capsize=3,
            label=variant.label,
        )
    start = finite.groupby("width")["relative_error"].mean().iloc[0]
    axes.plot(
        widths,
        1.6 * start * np.sqrt(widths[0] / widths),
        color=TRUTH.colour,
        linewidth=0.8,
        label="slope of 1 / sqrt(width)",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_yticks(*_ones_twos_fives(low, high))
    axes.minorticks_off()
    axes.set_xlabel("width of both hidden layers")
    axes.set_ylabel("relative error of the kernel")
    figure.legend(loc="outside lower center", ncols=3)


def rays(figure: Figure, *, frame: pd.DataFrame, compared: tuple[Variant, ...]) -> None:
    """Draw Theta(x, far) along a ray: lines are exact, dots of finite networks.

    Args:
        figure: An empty figure.
        frame: Columns kernel, variant, x, other and value.
        compared: The variants.
    """
    panels = figure.subplots(1, 2)
    for variant in compared:
        stroke, axes = STROKES[variant.key], panels[int(variant.norm is not None)]
        for kernel, own in frame[frame["variant"] == variant.key].groupby("kernel"):
            exact = kernel == "exact"
            axes.plot(
                own["x"],
                own["value"],
                color=stroke.colour,
                linestyle=stroke.style if exact else "none",
                marker="" if exact else "o",
                markersize=4,
                label=f"{variant.label}, {kernel}",
            )
    panels[0].set_yscale("log")
    panels[1].set_ylim(0.0, 1.2 * float(panels[1].get_ylim()[1]))
    for axes in panels:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xticks(_DECADES[(low <= _DECADES) & (high >= _DECADES)])
        axes.xaxis.set_major_formatter(plain)
        axes.minorticks_off()
        axes.set_xlabel("x")
    panels[0].yaxis.set_major_formatter(plain)
    panels[0].set_ylabel(f"Theta(x, {frame['other'].iloc[0]:g})")
    figure.legend(loc="outside lower center", ncols=2)


def _ones_twos_fives(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks of a short logarithmic axis, as numbers and as text."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    seen = [tick for tick in ticks if low <= tick <= high]
    return seen, [f"{tick:g}" for tick in seen]
