"""Figures of the dispersion study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from farfield.studies.shared.axes import log_ratio, plain
from farfield.studies.shared.palette import HEAT, SERIES, STROKES, TRUTH

LABELS = {
    "relu": "no norm",
    "first": "LayerNorm first",
    "last": "LayerNorm last",
    "every": "LayerNorm every",
}
"""Networks with and without LayerNorm."""

_PHASES = ("ordered", "edge of chaos", "chaotic")
_LINES = (":", "--", "-")


def phases(figure: Figure, *, metrics: pd.DataFrame, width: int) -> None:
    """Draw the dispersion of every variance against depth / width, with the three limits.

    Args:
        figure: An empty figure.
        metrics: The study's, of ReLU networks with all gradients counted.
        width: M.
    """
    axes = figure.subplots()
    variances = np.sort(metrics["weight_var"].unique())
    palette = colormaps[HEAT](np.linspace(0.0, 0.92, len(variances)))
    for variance, colour in zip(variances, palette, strict=True):
        own = metrics[metrics["weight_var"] == variance]
        x = own["depth"] / width
        axes.plot(x, own["dispersion"], color=colour, linewidth=1.3)
        axes.fill_between(x, own["low"], own["high"], color=colour, alpha=0.15, linewidth=0.0)
    limits = {
        "ordered": metrics["weight_var"] < 2.0,
        "edge of chaos": metrics["weight_var"] == 2.0,
        "chaotic": metrics["weight_var"] > 2.0,
    }
    for phase, line in zip(_PHASES, _LINES, strict=True):
        theory = metrics[limits[phase]].drop_duplicates("depth")
        if len(theory):
            axes.plot(
                theory["depth"] / width,
                theory["published"],
                color=TRUTH.colour,
                linestyle=line,
                linewidth=2.0,
                label=f"limit, {phase}",
            )
    log_ratio(axes, float(metrics["dispersion"].max()))
    axes.set_xlabel("depth / width")
    axes.set_ylabel("E[T^2] / E[T]^2  (log)")
    axes.legend(loc="upper left")
    _key(figure, axes, variances, palette)


def formulas(figure: Figure, *, metrics: pd.DataFrame, width: int) -> None:
    """Draw measured dispersion beside the exact law, its limit and the published limit.

    Args:
        figure: An empty figure.
        metrics: The study's, of ReLU networks at one variance (or of weights alone).
        width: M.
    """
    panels = figure.subplots(1, 2, sharey=True)
    cases = {
        "gradients of weights alone": metrics["counted"] == "weights",
        "edge of chaos, biases counted": metrics["counted"] == "all",
    }
    names = {"exact": "exact", "limit": "limit", "published": "limit, published"}
    for axes, (title, chosen) in zip(panels, cases.items(), strict=True):
        own = metrics[chosen]
        every = own.iloc[:: max(len(own) // 16, 1)]
        x = every["depth"] / width
        bars = np.abs(every[["low", "high"]].T.to_numpy() - every["dispersion"].to_numpy())
        axes.errorbar(
            x,
            every["dispersion"],
            yerr=bars,
            color=TRUTH.colour,
            linestyle="none",
            marker="o",
            markersize=4,
            capsize=2,
            label="measured",
        )
        for (name, label), stroke in zip(names.items(), SERIES[1:], strict=False):
            axes.plot(
                own["depth"] / width,
                own[name],
                color=stroke.colour,
                linestyle=stroke.style,
                linewidth=2.0,
                label=label,
            )
        axes.set_title(title)
        axes.set_xlabel("depth / width")
    log_ratio(panels[0], float(metrics["high"].max()))
    panels[0].set_ylabel("E[T^2] / E[T]^2  (log)")
    panels[0].legend(loc="upper left")


def norms(figure: Figure, *, metrics: pd.DataFrame, variances: tuple[float, ...]) -> None:
    """Draw the dispersion of networks with LayerNorm at different places.

    Args:
        figure: An empty figure.
        metrics: The study's.
        variances: sigma_w squared of each panel.
    """
    panels = figure.subplots(1, len(variances), sharey=True, squeeze=False)[0]
    highest = 1.0
    for axes, variance in zip(panels, variances, strict=True):
        for network, label in LABELS.items():
            own = _own(metrics, network, variance)
            stroke = STROKES["standard" if network == "relu" else network]
            axes.plot(
                own["depth"],
                own["dispersion"],
                color=stroke.colour,
                linestyle=stroke.style,
                linewidth=2.0,
                label=label,
            )
            axes.fill_between(
                own["depth"], own["low"], own["high"], color=stroke.colour, alpha=0.15, linewidth=0
            )
            highest = max(highest, float(own["dispersion"].max()))
        axes.set_title(f"sigma_w squared = {variance:g}")
        axes.set_xlabel("hidden layers")
    log_ratio(panels[0], highest)
    panels[0].set_ylabel("E[T^2] / E[T]^2  (log)")
    panels[0].legend(loc="upper left", fontsize=9)


def sigmoids(figure: Figure, *, metrics: pd.DataFrame) -> None:
    """Draw the dispersion of sigmoid networks for each variance.

    Args:
        figure: An empty figure.
        metrics: The study's.
    """
    axes = figure.subplots()
    own = metrics[metrics["network"] == "sigmoid"]
    variances = np.sort(own["weight_var"].unique())
    for number, variance in enumerate(variances):
        curve = own[own["weight_var"] == variance]
        stroke = SERIES[number % len(SERIES)]
        axes.plot(
            curve["depth"],
            curve["dispersion"],
            color=stroke.colour,
            linestyle=stroke.style,
            linewidth=2.0,
            label=f"{variance:g}",
        )
        axes.fill_between(
            curve["depth"],
            curve["low"],
            curve["high"],
            color=stroke.colour,
            alpha=0.15,
            linewidth=0,
        )
    log_ratio(axes, float(own["dispersion"].max()))
    axes.set_xlabel("hidden layers")
    axes.set_ylabel("E[T^2] / E[T]^2  (log)")
    axes.legend(title="sigma_w squared", loc="upper left")


def angles(figure: Figure, *, metrics: pd.DataFrame, variance: float, depths: list[int]) -> None:
    """Draw mean and dispersion of Theta(x, x') against the cosine of the angle.

    Args:
        figure: An empty figure.
        metrics: The study's.
        variance: sigma_w squared.
        depths: The depths shown.
    """
    panels = figure.subplots(1, 2)
    own = metrics[(metrics["network"] == "angles") & (metrics["weight_var"] == variance)]
    for number, depth in enumerate(depths):
        curve = own[own["depth"] == depth].sort_values("cosine")
        stroke = SERIES[number % len(SERIES)]
        same = float(curve["mean"].iloc[-1])
        look: dict[str, Any] = {
            "color": stroke.colour,
            "linestyle": stroke.style,
            "linewidth": 2.0,
            "label": f"{depth}",
        }
        panels[0].plot(curve["cosine"], curve["mean"] / same, **look)
        panels[1].plot(curve["cosine"], curve["dispersion"], **look)
    panels[0].set_ylabel("E Theta(x, x') / E Theta(x, x)")
    panels[1].set_ylabel("dispersion of Theta(x, x')  (log)")
    log_ratio(panels[1], float(own[own["depth"].isin(depths)]["dispersion"].max()))
    for axes in panels:
        axes.set_xlabel("cosine of x and x'")
    panels[0].legend(title="hidden layers")


def tails(figure: Figure, *, kernels: pd.DataFrame) -> None:
    """Draw the distribution of log10 of Theta(x, x) over draws.

    Args:
        figure: An empty figure.
        kernels: A column for each sigma_w squared.
    """
    axes = figure.subplots()
    logs = {name: np.log10(own / own.mean()).to_numpy() for name, own in kernels.items()}
    low, high = (float(bound([bound(own) for own in logs.values()])) for bound in (np.min, np.max))
    bins = np.linspace(low, high if high > low else low + 1.0, 80)
    for number, (name, own) in enumerate(logs.items()):
        stroke = SERIES[(number + 1) % len(SERIES)]
        counts, _ = np.histogram(own, bins, density=True)
        axes.stairs(
            counts,
            bins,
            color=stroke.colour,
            linestyle=stroke.style,
            linewidth=2.0,
            label=str(name),
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(plain)
    axes.minorticks_off()
    axes.set_xlabel("log10 of Theta(x, x) / its mean")
    axes.set_ylabel("density  (log)")
    axes.legend(title="sigma_w squared", loc="upper left")


def _own(metrics: pd.DataFrame, network: str, variance: float) -> pd.DataFrame:
    return metrics[
        (metrics["network"] == network)
        & (metrics["counted"] == "all")
        & (metrics["weight_var"] == variance)
    ]


def _key(figure: Figure, axes: Any, values: np.ndarray, palette: np.ndarray) -> None:
    """A bar with a field for each value, in the colours of the curves."""
    from matplotlib.cm import ScalarMappable

    edges = np.arange(len(values) + 1)
    mapped = ScalarMappable(
        BoundaryNorm(edges.tolist(), len(values)), ListedColormap(palette.tolist())
    )
    bar = figure.colorbar(mapped, ax=axes, label="sigma_w squared", pad=0.02)
    bar.set_ticks((edges[:-1] + 0.5).tolist(), labels=[f"{value:g}" for value in values])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.minorticks_off()
