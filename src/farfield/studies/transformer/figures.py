"""The figure of the transformer study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farfield.studies.shared.palette import SHADE, STROKES, TRUTH
from farfield.studies.shared.statistics import mean


def sequences(
    figure: Figure,
    *,
    frame: pd.DataFrame,
    labels: Mapping[str, str],
    examples: Sequence[tuple[float, float]],
    known: int,
) -> None:
    """Draw predictions and truth of example sequences, and the error over the random ones.

    Args:
        figure: An empty figure.
        frame: Columns variant, seed, sequence, i, truth and prediction; the examples come first.
        labels: Label of each variant.
        examples: Pairs (a, b).
        known: The last i that is known in training.
    """
    panels = figure.subplots(1, len(examples) + 1)
    for number, (a, b) in enumerate(examples):
        axes, own = panels[number], frame[frame["sequence"] == number]
        _bands(axes, own.assign(value=own["prediction"]), labels, known)
        truth = own.drop_duplicates("i").set_index("i")["truth"]
        axes.plot(truth.index, truth, color=TRUTH.colour, linewidth=1.0, label="truth")
        axes.set_title(f"a = {a:g}, b = {b:g}")
        axes.set_ylabel("a + b i" if number == 0 else "")
    drawn = frame[frame["sequence"] >= len(examples)]
    errors = drawn.assign(value=(drawn["prediction"] - drawn["truth"]).abs())
    means = errors.groupby(["variant", "seed", "i"], sort=False)["value"].mean().reset_index()
    _bands(panels[-1], means, labels, known)
    panels[-1].set_title("random sequences")
    panels[-1].set_ylabel("mean |error|")
    panels[-1].set_ylim(bottom=0)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def _bands(axes: Axes, frame: pd.DataFrame, labels: Mapping[str, str], known: int) -> None:
    """Mean and interval over seeds against i, over a grey ground where i is known."""
    axes.axvspan(
        frame["i"].min(), known, color=SHADE, alpha=0.2, linewidth=0, label="seen in training"
    )
    for key, label in labels.items():
        table = frame[frame["variant"] == key].pivot(index="i", columns="seed", values="value")
        means = [mean(row) for row in table.to_numpy()]
        middle = np.array([m.value for m in means])
        half = np.nan_to_num(np.array([m.half_width for m in means]))
        stroke = STROKES[key]
        axes.plot(table.index, middle, color=stroke.colour, linestyle=stroke.style, label=label)
        axes.fill_between(
            table.index, middle - half, middle + half, color=stroke.colour, alpha=0.2, linewidth=0
        )
    axes.set_xlabel("i")
