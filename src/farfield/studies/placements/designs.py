"""The networks that the placement study compares: a full crossing, and two ladders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from farfield.studies.shared.variants import NORM_NAMES, Variant

NORMS = ("layer", "rms")
PLACES = ("first", "last", "every")
LADDER = ("none", "first", "every")
"""The places whose depth and width are varied; ``none`` is the network without norm."""


@dataclass(frozen=True)
class Design:
    """One choice of architecture.

    Attributes:
        norm: ``"layer"``, ``"rms"``, or ``"none"``.
        place: The hidden layers with the norm: ``"first"``, ``"last"``, ``"every"``, or ``"none"``.
        before: Whether the norm stands before the activation.
        gain: Whether the norm has a trained gain (and LayerNorm a bias).
        depth: Number of hidden layers.
        width: Units of each.
    """

    norm: str = "layer"
    place: str = "first"
    before: bool = True
    gain: bool = True
    depth: int = 2
    width: int = 128

    @property
    def hidden(self) -> tuple[int, ...]:
        """The hidden widths."""
        return (self.width,) * self.depth

    @property
    def key(self) -> str:
        """A name for tables and files; no two designs share one."""
        return f"{'-'.join(self.choice.split())}-{self.depth}x{self.width}"

    @property
    def choice(self) -> str:
        """The norm in short, for example ``layer first before gain``, or ``none``."""
        if self.norm == "none":
            return "none"
        order, gain = "before" if self.before else "after", "gain" if self.gain else "bare"
        return f"{self.norm} {self.place} {order} {gain}"

    @property
    def label(self) -> str:
        """The norm for readers."""
        if self.norm == "none":
            return "no norm"
        return (
            f"{NORM_NAMES[self.norm]} {self.place}, {'before' if self.before else 'after'}, "
            f"{'gain' if self.gain else 'no gain'}"
        )

    def variant(self) -> Variant:
        """The norm as the other studies name it."""
        if self.norm == "none":
            return Variant("standard", self.label, None, "every")
        return Variant(self.place, self.label, self.norm, self.place, self.before, self.gain)


def crossing(depth: int, width: int) -> tuple[Design, ...]:
    """Every norm, place, order and gain, and the network without norm.

    Args:
        depth: Number of hidden layers.
        width: Their units.

    Returns:
        The base first, that without norm last.
    """
    full = product(NORMS, PLACES, (True, False), (True, False))
    return (*(Design(*own, depth, width) for own in full), without(depth, width))


def without(depth: int, width: int) -> Design:
    """The network without norm.

    Args:
        depth: Number of hidden layers.
        width: Their units.

    Returns:
        The design.
    """
    return Design("none", "none", depth=depth, width=width)


def ladder(place: str, sizes: Sequence[tuple[int, int]]) -> tuple[Design, ...]:
    """One place of LayerNorm, before the activation and with gain, at several sizes.

    Args:
        place: The place, or ``none``.
        sizes: Depth and width of each design.

    Returns:
        The designs in order; with a single hidden layer every place is the first.
    """
    if place == "none":
        return tuple(without(*size) for size in sizes)
    return tuple(
        Design("layer", place if depth > 1 else "first", depth=depth, width=width)
        for depth, width in sizes
    )


@dataclass(frozen=True)
class Factor:
    """One thing to choose, beside the base's choice.

    Attributes:
        label: For readers.
        noun: What the choice is about.
        field: The attribute of a design that it changes.
        level: What is chosen instead of the base's.
    """

    label: str
    noun: str
    field: str
    level: str | bool

    def pairs(self, designs: Sequence[Design]) -> tuple[tuple[Design, Design], ...]:
        """Designs that differ in nothing but this, for all choices of the rest.

        Args:
            designs: A full crossing.

        Returns:
            With the other choice, and with the base's.
        """
        base = getattr(designs[0], self.field)
        own = [d for d in designs if d.norm != "none" and getattr(d, self.field) == base]
        changed: dict[str, Any] = {self.field: self.level}
        return tuple((replace(d, **changed), d) for d in own)


FACTORS = (
    Factor("RMSNorm instead of LayerNorm", "kind of norm", "norm", "rms"),
    Factor("norm after instead of before the activation", "order", "before", False),
    Factor("no gain instead of a trained one", "gain", "gain", False),
    Factor("last instead of first hidden layer", "place", "place", "last"),
    Factor("every instead of first hidden layer", "place", "place", "every"),
)
