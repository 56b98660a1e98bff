"""Programs of rectifiers and norms, run by a small library compiled on the spot.

Without a C compiler, on a GPU, for other activations or with gradients, PyTorch runs them.
"""

from farfield.infinite.native.fused import Fused, fuse

__all__ = ["Fused", "fuse"]
