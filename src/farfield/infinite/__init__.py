"""The infinite-width limit: exact NNGP and NTK kernels of a model, and Monte Carlo estimates."""

from farfield.infinite.elementwise import dual_of
from farfield.infinite.finite import MonteCarlo, monte_carlo
from farfield.infinite.kernel import InfiniteWidth, KernelOf, infinite_width

__all__ = ["InfiniteWidth", "KernelOf", "MonteCarlo", "dual_of", "infinite_width", "monte_carlo"]
