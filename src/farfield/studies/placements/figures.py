"""Figures of the placement study: dots with intervals, and ladders."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from farfield.studies.placements.analysis import Difference, ranks
from farfield.studies.placements.designs import Design
from farfield.studies.shared.palette import SHADE, STROKES, TRUTH
from farfield.studies.shared.statistics import Interval, bootstrap, mean
from farfield.studies.shared.variants import NORM_NAMES

_COLOURS = {
    "none": STROKES["standard"],
    "first": STROKES["first"],
    "last": STROKES["last"],
    "every": STROKES["every"],
}
_MARKERS = {"layer": "o", "rms": "s", "none": "D"}


def effects(
    figure: Figure,
    *,
    found: Mapping[str, Difference],
    ratios: Mapping[str, Mapping[str, tuple[Interval, Interval]]],
) -> None:
    """Draw what each choice changes, over all tasks and on each.

    Args:
        figure: An empty figure.
        found: Change of the mean rank by choice, from top to bottom.
        ratios: By task and choice, the ratio of errors out of domain and in domain.
    """
    axes = figure.subplots(1, 1 + len(ratios), sharey=True)
    rows = np.arange(len(found), dtype=float)[::-1]
    first = axes[0]
    first.axvline(0.0, color=TRUTH.colour, linewidth=0.8)
    for row, effect in zip(rows, found.values(), strict=True):
        half = np.nan_to_num(effect.value.half_width)
        _dot(first, effect.value.value, row, half, half, colour=TRUTH.colour, filled=effect.shown)
    first.set_title("all tasks")
    first.set_xlabel("change of mean rank\n(filled: shown)")
    wrapped = ["\n".join(textwrap.wrap(label, 20)) for label in found]
    first.set_yticks(rows, wrapped)
    for panel, (task, own) in zip(axes[1:], ratios.items(), strict=True):
        panel.axvline(1.0, color=TRUTH.colour, linewidth=0.8)
        for row, label in zip(rows, found, strict=True):
            for value, shift, filled in (
                (own[label][0], 0.13, True),
                (own[label][1], -0.13, False),
            ):
                _dot(
                    panel,
                    value.value,
                    row + shift,
                    *_sides(value),
                    colour=STROKES["first"].colour if filled else STROKES["standard"].colour,
                    filled=filled,
                )
        panel.set_xscale("log")
        _ratio_ticks(panel)
        panel.set_title(task)
        panel.set_xlabel("ratio of errors")
    handles = [
        _mark("o", "out of domain", colour=STROKES["first"].colour),
        _mark("o", "in domain", colour=STROKES["standard"].colour, filled=False),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def choices(figure: Figure, *, values: pd.DataFrame, designs: Sequence[Design]) -> None:
    """Draw the mean rank of each combination.

    Args:
        figure: An empty figure.
        values: Mean ranks, a row for each seed and a column for each design.
        designs: From top to bottom.
    """
    axes = figure.subplots()
    rows = np.arange(len(designs), dtype=float)[::-1]
    for row, design in zip(rows, designs, strict=True):
        own = bootstrap(values[design.key])
        _design_dot(axes, design, own.value, row, *_sides(own))
    axes.set_yticks(rows, [design.label for design in designs])
    axes.set_ylim(-0.7, len(designs) - 0.3)
    axes.set_xlabel(f"mean rank over tasks (1 is best of {len(designs)})")
    figure.legend(handles=_key(designs), loc="outside lower center", ncols=4)


def by_task(
    figure: Figure, *, metrics: pd.DataFrame, designs: Sequence[Design], tasks: Sequence[str]
) -> None:
    """Draw the error of each combination on each task.

    Args:
        figure: An empty figure.
        metrics: Columns design, task, seed, error_out and error_in.
        designs: From top to bottom.
        tasks: From left to right.
    """
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    rows = np.arange(len(designs), dtype=float)[::-1]
    for panel, task in zip(axes, tasks, strict=True):
        own = metrics[metrics["task"] == task].groupby("design")
        panel.axvline(1.0, color=TRUTH.colour, linewidth=0.8)
        for row, design in zip(rows, designs, strict=True):
            scores = own.get_group(design.key)
            found = mean(scores["error_out"])
            half = np.nan_to_num(found.half_width)
            # On a logarithmic axis an interval cannot reach 0.
            _design_dot(panel, design, found.value, row, min(half, 0.9 * found.value), half)
            panel.plot(scores["error_in"].mean(), row, "x", color=SHADE, markersize=4)
        panel.set_xscale("log")
        _plain(panel)
        panel.set_title(task)
        panel.set_xlabel("error (standard\ndeviations)")
    axes[0].set_yticks(rows, [design.label for design in designs])
    axes[0].set_ylim(-0.7, len(designs) - 0.3)
    cross = _mark("x", "in domain", colour=SHADE)
    figure.legend(handles=[*_key(designs), cross], loc="outside lower center", ncols=5)


def ladder(
    figure: Figure,
    *,
    metrics: pd.DataFrame,
    rungs: Mapping[str, Sequence[Design]],
    sizes: Sequence[int],
    labels: Mapping[str, str],
    tasks: Sequence[str],
    axis: str,
) -> None:
    """Draw errors and mean ranks along a ladder of depths or widths.

    Args:
        figure: An empty figure.
        metrics: Columns design, task, seed, error_out and error_in.
        rungs: By place, the designs of all sizes.
        sizes: Their sizes.
        labels: Of the places.
        tasks: A panel each.
        axis: What the sizes are.
    """
    columns = min(3, len(tasks) + 1)
    panels = figure.subplots(-(-(len(tasks) + 1) // columns), columns, squeeze=False).ravel()
    at = np.arange(len(sizes))
    values = ranks(metrics, [one for own in rungs.values() for one in own])
    for index, task in enumerate(tasks):
        own = metrics[metrics["task"] == task].groupby("design")
        for number, (place, designs) in enumerate(rungs.items()):
            groups = [own.get_group(design.key) for design in designs]
            found = [mean(group["error_out"]) for group in groups]
            half = [min(float(np.nan_to_num(m.half_width)), 0.9 * m.value) for m in found]
            above = [float(np.nan_to_num(m.half_width)) for m in found]
            middle = [m.value for m in found]
            _line(panels[index], at + 0.08 * (number - 1), middle, half, above, place, labels)
            panels[index].plot(
                at + 0.08 * (number - 1),
                [group["error_in"].mean() for group in groups],
                color=_COLOURS[place].colour,
                linestyle="--",
                linewidth=0.9,
            )
        panels[index].set_yscale("log")
        _plain(panels[index], vertical=True)
        panels[index].set_title(task)
        if index % columns == 0:
            panels[index].set_ylabel("error (standard deviations)")
    last = panels[len(tasks)]
    for number, (place, designs) in enumerate(rungs.items()):
        own_ranks = [bootstrap(values[design.key]) for design in designs]
        low, high = zip(*(_sides(one) for one in own_ranks), strict=True)
        middle = [one.value for one in own_ranks]
        _line(last, at + 0.08 * (number - 1), middle, list(low), list(high), place, labels)
    last.set_title("all tasks")
    last.set_ylabel(f"mean rank (1 is best of {values.shape[1]})")
    for panel in panels[: len(tasks) + 1]:
        panel.set_xticks(at, [str(size) for size in sizes])
        panel.set_xlabel(axis)
    for panel in panels[len(tasks) + 1 :]:
        panel.set_visible(False)
    handles, names = last.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def _line(
    axes: Axes,
    at: np.ndarray,
    middle: Sequence[float],
    below: Sequence[float],
    above: Sequence[float],
    place: str,
    labels: Mapping[str, str],
) -> None:
    axes.errorbar(
        at,
        middle,
        yerr=[below, above],
        color=_COLOURS[place].colour,
        marker={"none": "D", "first": "o", "every": "^"}[place],
        markersize=5,
        linewidth=1.6,
        elinewidth=1.2,
        label=labels[place],
    )


def _design_dot(
    axes: Axes, design: Design, value: float, row: float, below: float, above: float
) -> None:
    _dot(
        axes,
        value,
        row,
        below,
        above,
        colour=_COLOURS[design.place].colour,
        filled=design.gain,
        marker=_MARKERS[design.norm],
    )


def _dot(
    axes: Axes,
    value: float,
    row: float,
    below: float,
    above: float,
    *,
    colour: str,
    filled: bool,
    marker: str = "o",
) -> None:
    axes.errorbar(
        value,
        row,
        xerr=[[below], [above]],
        marker=marker,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=6,
        elinewidth=1.4,
    )


def _sides(own: Interval) -> tuple[float, float]:
    """How far the ends lie from the mean; 0 with a single seed."""
    if not np.isfinite(own.low):
        return 0.0, 0.0
    return max(own.value - own.low, 0.0), max(own.high - own.value, 0.0)


def _key(designs: Sequence[Design]) -> list[Line2D]:
    """What colours, markers and fillings mean."""
    names = {"none": "no norm", "first": "first", "last": "last", "every": "every"}
    used = {design.place for design in designs}
    found = [
        Line2D([], [], color=stroke.colour, linewidth=3, label=names[place])
        for place, stroke in _COLOURS.items()
        if place in used
    ]
    return [
        *found,
        _mark(_MARKERS["layer"], NORM_NAMES["layer"]),
        _mark(_MARKERS["rms"], NORM_NAMES["rms"]),
        _mark("o", "gain"),
        _mark("o", "no gain", filled=False),
    ]


def _mark(marker: str, label: str, *, colour: str = "#555555", filled: bool = True) -> Line2D:
    return Line2D(
        *([], []),
        marker=marker,
        linestyle="",
        color=colour,
        markerfacecolor=colour if filled else "white",
        label=label,
    )


def _ratio_ticks(axes: Axes) -> None:
    """Few plain numbers around 1; no narrower than a tenth to both sides."""
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.9), max(high, 1.1))
    low, high = axes.get_xlim()
    reach = max(high, 1.0 / low)
    steps = next(
        own
        for limit, own in (
            (1.4, (0.8, 0.9, 1.0, 1.1, 1.25)),
            (3.0, (0.5, 0.7, 1.0, 1.5, 2.0)),
            (12.0, (0.1, 0.3, 1.0, 3.0, 10.0)),
            (120.0, (0.01, 0.1, 1.0, 10.0, 100.0)),
            (np.inf, (1e-4, 1e-2, 1.0, 1e2, 1e4)),
        )
        if reach <= limit
    )
    axes.set_xticks([step for step in steps if low <= step <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _plain(axes: Axes, *, vertical: bool = False) -> None:
    """Plain numbers on a logarithmic axis: formulas are switched off in the report's figures."""
    own = axes.yaxis if vertical else axes.xaxis
    low, high = axes.get_ylim() if vertical else axes.get_xlim()
    if high / low < 12.0:
        steps = [
            digit * 10.0**power
            for power in range(-6, 8)
            for digit in ((1, 2, 5) if high / low > 2.5 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
        ]
    else:
        every = 1 if high / low < 2e3 else 2
        steps = [10.0**power for power in range(-6, 8, every)]
    own.set_ticks([step for step in steps if low <= step <= high])
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    own.set_minor_locator(NullLocator())
    own.set_minor_formatter(NullFormatter())
