"""Figures of the training study."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farfield.studies.shared.axes import plain
from farfield.studies.shared.palette import HEAT, SERIES


def curves(figure: Figure, *, metrics: pd.DataFrame) -> None:
    """Draw the change of the kernel and the loss over the epochs.

    Args:
        figure: An empty figure.
        metrics: The study's.
    """
    panels = figure.subplots(1, 2)
    for number, (variance, own) in enumerate(metrics.groupby("weight_var")):
        stroke = SERIES[number + 1]
        look = {
            "color": stroke.colour,
            "linestyle": stroke.style,
            "linewidth": 2.0,
            "label": f"{variance:g}",
        }
        trained = own[own["epoch"] > 0]
        panels[0].plot(trained["epoch"], trained["change"], **look)
        panels[1].plot(own["epoch"].clip(lower=0.7), own["loss"], **look)
    panels[0].set_ylabel("|K_t - K_0| / |K_0|  (log)")
    panels[1].set_ylabel("mean squared error  (log)")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(plain)
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(_some)
        axes.set_xlabel("epochs  (log)")
    panels[0].legend(title="sigma_w squared")


def blocks(figure: Figure, *, metrics: pd.DataFrame) -> None:
    """Draw the blocks of the kernel over its diagonal, same class and others.

    Args:
        figure: An empty figure.
        metrics: The study's.
    """
    groups = list(metrics.groupby("weight_var"))
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (variance, own) in zip(panels, groups, strict=True):
        for number, (name, label) in enumerate(
            (("same_class", "same class"), ("other_class", "other classes"))
        ):
            stroke = SERIES[number + 1]
            axes.plot(
                own["epoch"].clip(lower=0.7),
                own[name],
                color=stroke.colour,
                linestyle=stroke.style,
                linewidth=2.0,
                label=label,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(plain)
        axes.minorticks_off()
        axes.set_title(f"sigma_w squared = {variance:g}")
        axes.set_xlabel("epochs  (log)")
        axes.set_ylim(bottom=min(0.0, float(metrics["other_class"].min())))
    panels[0].set_ylabel("mean of blocks / mean of diagonal")
    panels[0].legend()


def heatmaps(figure: Figure, *, kernels: pd.DataFrame) -> None:
    """Draw the kernels during training, each over the mean of its diagonal.

    Args:
        figure: An empty figure.
        kernels: Columns weight_var, epoch, row, column and value.
    """
    variances, epochs = (np.sort(kernels[name].unique()) for name in ("weight_var", "epoch"))
    panels = figure.subplots(len(variances), len(epochs), squeeze=False)
    for line, variance in zip(panels, variances, strict=True):
        for axes, epoch in zip(line, epochs, strict=True):
            own = kernels[(kernels["weight_var"] == variance) & (kernels["epoch"] == epoch)]
            size = int(own["row"].max()) + 1
            matrix = own["value"].to_numpy().reshape(size, size)
            image = axes.imshow(
                matrix / matrix.diagonal().mean(),
                cmap=HEAT,
                vmin=0.0,
                vmax=1.0,
                interpolation="nearest",
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            if axes in panels[0]:
                axes.set_title(f"epoch {epoch}")
        line[0].set_ylabel(f"sigma_w squared = {variance:g}")
    figure.colorbar(image, ax=panels, shrink=0.6, label="kernel / mean of its diagonal")


def _some(value: float, position: float | int = 0.0) -> str:
    """Minor ticks: twos and fives alone."""
    digit = value / 10.0 ** np.floor(np.log10(value))
    return plain(value) if round(digit) in (2, 5) else ""
