"""Figures of a tabular comparison."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from farfield.errors import MissingExtraError
from farfield.studies.shared.palette import SHADE, STROKES, TRUTH

# With fewer different positions than this, a curve goes through the mean at each.
_FEWEST_POSITIONS = 10


def histogram(
    figure: Figure, *, frame: pd.DataFrame, names: Mapping[str, str], target: str
) -> None:
    """Draw how often each model predicts what, out of domain.

    Args:
        figure: An empty figure.
        frame: Columns variant, seed, row, target and prediction.
        names: Labels by model, in order.
        target: Name of the target.
    """
    axes = figure.subplots()
    values = np.concatenate([frame["prediction"], frame["target"]])
    truth = frame.drop_duplicates("row")["target"]
    edges = _edges(values, truth.to_numpy())
    axes.hist(
        truth, edges, weights=_share(truth), color=SHADE, alpha=0.4, label="true values", log=True
    )
    for key, label in names.items():
        own = frame.loc[frame["variant"] == key, "prediction"]
        stroke = STROKES[key]
        axes.hist(
            own,
            edges,
            weights=_share(own),
            histtype="step",
            color=stroke.colour,
            linestyle=stroke.style,
            linewidth=1.6,
            label=label,
            log=True,
        )
    axes.set_xlabel(f"predicted {target}")
    axes.set_ylabel("share of samples")
    # Plain numbers: the powers of ten of a logarithmic axis are formulas, which are switched off.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(figure, axes)


def error_by_distance(
    figure: Figure,
    *,
    frame: pd.DataFrame,
    names: Mapping[str, str],
    target: str,
    column: str = "distance",
    label: str = "distance from the training domain (standard deviations)",
) -> None:
    """Draw each model's error against the distance from the training domain.

    Args:
        figure: An empty figure.
        frame: Columns variant, row, target, prediction and the one that tells the distance.
        names: Labels by model, in order.
        target: Name of the target.
        column: The column that tells the distance.
        label: What that is.
    """
    axes = figure.subplots()
    errors = frame.assign(value=(frame["prediction"] - frame["target"]).abs())
    rows = _by_row(errors, column)
    standard = rows["standard"]
    axes.plot(
        standard.index,
        standard,
        ".",
        color=SHADE,
        markersize=3,
        alpha=0.5,
        rasterized=True,
        label="_rows",
    )
    for key, name in names.items():
        _curve(axes, rows[key], key, name)
    tops = [float(np.max(line.get_ydata())) for line in axes.get_lines()[1:]]
    axes.set_ylim(0, 1.05 * max(*tops, float(np.quantile(standard, 0.99))))
    axes.set_xlabel(label)
    axes.set_ylabel(f"|error| of {target}")
    _legend(figure, axes)


def prediction_by_split(
    figure: Figure, *, frame: pd.DataFrame, names: Mapping[str, str], target: str, column: str
) -> None:
    """Draw each model's predictions against the split column, out of domain.

    Args:
        figure: An empty figure.
        frame: Columns variant, row, target, prediction and split.
        names: Labels by model, in order.
        target: Name of the target.
        column: Name of the split column.
    """
    axes = figure.subplots()
    rows = _by_row(frame.assign(value=frame["prediction"]), "split")
    truth = frame.drop_duplicates("row").set_index("split")["target"].sort_index()
    axes.plot(
        truth.index, truth, ".", color=SHADE, markersize=3, alpha=0.4, rasterized=True, label="_"
    )
    axes.plot(*_lowess(truth), color=TRUTH.colour, linewidth=2.2, label="true values")
    for key, label in names.items():
        _curve(axes, rows[key], key, label)
    axes.set_xlabel(column)
    axes.set_ylabel(target)
    _legend(figure, axes)


def require_smoother() -> None:
    """See that the library of LOWESS is there.

    Raises:
        MissingExtraError: statsmodels is not installed.
    """
    try:
        import statsmodels.nonparametric.smoothers_lowess  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "The figures' LOWESS curves need statsmodels, which is not installed; install it "
            "with: pip install 'farfield[tabular]'"
        ) from error


def _by_row(frame: pd.DataFrame, position: str) -> dict[str, pd.Series]:
    """For each model the mean value of each row over seeds, by its position, in order."""
    means = frame.groupby(["variant", "row"])[["value", position]].mean()
    return {
        str(key): part.set_index(position)["value"].sort_index()
        for key, part in means.groupby(level="variant")
    }


def _curve(axes: Axes, values: pd.Series, key: str, label: str) -> None:
    stroke = STROKES[key]
    axes.plot(
        *_lowess(values), color=stroke.colour, linestyle=stroke.style, linewidth=1.8, label=label
    )


def _lowess(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.nonparametric.smoothers_lowess import lowess

    positions = values.index.to_numpy(dtype=float)
    if values.index.nunique() < _FEWEST_POSITIONS:
        means = values.groupby(level=0).mean()
        return means.index.to_numpy(), means.to_numpy()
    with warnings.catch_warnings():
        # Where half of the rows share a position, statsmodels divides by 0 and gives no value.
        warnings.simplefilter("ignore", RuntimeWarning)
        smooth = lowess(
            values.to_numpy(),
            positions,
            frac=0.5,
            it=0,  # no down-weighting of outliers: large errors are what is looked for
            delta=0.01 * float(np.ptp(positions)),
            return_sorted=True,
        )
    smooth = smooth[np.isfinite(smooth[:, 1])]
    return smooth[:, 0], smooth[:, 1]


def _edges(values: np.ndarray, truth: np.ndarray) -> list[float]:
    """Edges of bins; for whole-numbered targets each bin holds as many whole numbers."""
    bins = int(np.clip(3 * np.sqrt(len(truth)), 15, 60))
    edges = np.histogram_bin_edges(values, bins=bins)
    if (truth == np.round(truth)).all() and edges[-1] - edges[0] < 2**31:
        width = max(1, int(np.ceil(edges[1] - edges[0])))
        edges = np.arange(np.floor(edges[0]) - 0.5, np.ceil(edges[-1]) + width, width)
    return [float(edge) for edge in edges]


def _legend(figure: Figure, axes: Axes) -> None:
    # Below the axes, where it hides nothing.
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def _share(values: pd.Series) -> np.ndarray:
    return np.full(len(values), 1.0 / len(values))
