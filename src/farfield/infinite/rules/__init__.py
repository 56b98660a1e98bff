"""The rules of the infinite-width limit, one family of functions a file.

Importing this package registers them all.
"""

from farfield.infinite.rules import (
    activations,
    arithmetic,
    choices,
    linear,
    norms,
    numbers,
    parts,
    shapes,
    statistics,
)

__all__ = [
    "activations",
    "arithmetic",
    "choices",
    "linear",
    "norms",
    "numbers",
    "parts",
    "shapes",
    "statistics",
]
