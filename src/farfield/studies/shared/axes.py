"""Axes that several studies' figures share."""

from __future__ import annotations

from typing import Any


def plain(value: float, position: float | int = 0.0) -> str:
    """A tick's label; powers of ten of a logarithmic axis would be formulas, which are off.

    Args:
        value: The tick.
        position: Its number, which matplotlib gives.

    Returns:
        The number in the digits it needs.
    """
    return f"{value:g}"


def log_ratio(axes: Any, highest: float) -> None:
    """A logarithmic vertical axis from 1 on, with ticks as plain numbers.

    Args:
        axes: Matplotlib's.
        highest: The largest value to be seen.
    """
    top = max(highest * 1.1, 1.2)
    axes.set_yscale("log")
    axes.set_ylim(0.97, top)
    ticks = [1.0, 1.1, 1.2] if top < 1.5 else [1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    shown = [tick for tick in ticks if tick <= top]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
