"""Kernels larger than memory: tiles as dask tasks, stored in zarr arrays."""

from farfield.scale.compute import compute
from farfield.scale.store import StoredKernel, open_kernel

__all__ = ["StoredKernel", "compute", "open_kernel"]
