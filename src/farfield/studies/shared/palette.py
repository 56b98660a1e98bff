"""How figures look: colours that colour-blind readers tell apart, and line styles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stroke:
    """A line's look.

    Attributes:
        colour: From the palette of Okabe and Ito.
        style: A matplotlib line style, so that colour is not the only difference.
    """

    colour: str
    style: str | tuple[int, tuple[int, ...]]


STROKES = {
    "standard": Stroke("#D55E00", "-"),
    "first": Stroke("#0072B2", "--"),
    "last": Stroke("#009E73", "-."),
    "every": Stroke("#CC79A7", ":"),
    "xgboost": Stroke("#E69F00", (0, (5, 1, 1, 1, 1, 1))),
}
TRUTH = Stroke("#000000", "-")
SHADE = "#999999"
BAND = "#56B4E9"
HEAT = "viridis"  # perceptually uniform, and rising in lightness
SERIES = (TRUTH, *STROKES.values(), Stroke("#56B4E9", (0, (1, 3))))
"""For curves that are not networks of the paper, in order."""
