"""The rules of certificates, one family of functions a file.

Importing this package registers them all.
"""

from farfield.growth.rules import (
    activations,
    arithmetic,
    attention,
    linear,
    norms,
    pooling,
    shapes,
)

__all__ = ["activations", "arithmetic", "attention", "linear", "norms", "pooling", "shapes"]
