"""The infinite-width limit: exact NNGP and NTK kernels of a model."""

from farfield.infinite.kernel import InfiniteWidth, infinite_width

__all__ = ["InfiniteWidth", "infinite_width"]
