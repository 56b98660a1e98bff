"""The rules of certificates, one family of functions a file.

Importing this package registers them all.
"""

from farfield.growth.rules import (
    activations,
    arithmetic,
    attention,
    elementary,
    linear,
    norms,
    pooling,
    rectifiers,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "elementary",
    "linear",
    "norms",
    "pooling",
    "rectifiers",
    "shapes",
]
