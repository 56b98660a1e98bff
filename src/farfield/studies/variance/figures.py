"""Figures of the output-variance study."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import SERIES

_DIVERGING = "PuOr"  # orange and violet, which colour-blind readers tell apart
_SPAN = 10.0  # ratios beyond this have the last colour


def deviations(figure: Figure, *, metrics: pd.DataFrame) -> None:
    """Draw the standard deviation before and after training against depth.

    Args:
        figure: An empty figure.
        metrics: The study's.
    """
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"prior_": "before training", "": "after training"}
    for axes, (start, title) in zip(panels, titles.items(), strict=True):
        for number, (variance, own) in enumerate(metrics.groupby("weight_var")):
            stroke = SERIES[(number + 1) % len(SERIES)]
            axes.plot(
                own["depth"],
                np.sqrt(own[f"{start}theory"]),
                color=stroke.colour,
                linestyle=stroke.style,
                linewidth=2.0,
                label=f"{variance:g}",
            )
            axes.plot(
                own["depth"],
                np.sqrt(own[f"{start}measured"]),
                color=stroke.colour,
                linestyle="none",
                marker="o",
                markersize=6,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        depths = np.sort(metrics["depth"].unique())
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.yaxis.set_major_formatter(plain)
        axes.minorticks_off()
        axes.set_title(title)
        axes.set_xlabel("hidden layers  (log)")
    panels[0].set_ylabel("standard deviation of the output  (log)")
    panels[0].legend(title="sigma_w squared", fontsize=9)


def grid(figure: Figure, *, metrics: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    """Draw measured over theoretical variance for each depth and variance of the weights.

    Args:
        figure: An empty figure.
        metrics: The study's.
        verdicts: A word for each cell, depths in rows.
    """
    axes = figure.subplots()
    table = metrics.pivot(index="depth", columns="weight_var", values="ratio")
    image = axes.imshow(
        table.to_numpy().clip(1.0 / _SPAN, _SPAN),
        cmap=_DIVERGING,
        norm=LogNorm(1.0 / _SPAN, _SPAN),
        aspect="auto",
        origin="lower",
    )
    for row, depth in enumerate(table.index):
        for column, variance in enumerate(table.columns):
            ratio = float(table.loc[depth, variance])
            axes.text(
                column,
                row,
                f"{ratio:.2g}\n{verdicts.loc[depth, variance]}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if abs(np.log10(ratio)) > 0.7 else "black",
            )
    axes.set_xticks(range(len(table.columns)), [f"{value:g}" for value in table.columns])
    axes.set_yticks(range(len(table.index)), [str(value) for value in table.index])
    axes.grid(False)
    axes.set_xlabel("sigma_w squared")
    axes.set_ylabel("hidden layers")
    bar = figure.colorbar(image, ax=axes, label="variance, measured / theory  (log)")
    bar.set_ticks([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
    bar.ax.yaxis.set_major_formatter(plain)
    bar.minorticks_off()
