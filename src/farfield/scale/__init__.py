"""Past memory: kernels as dask tasks, stored in zarr arrays, and regressions on any rows."""

from farfield.scale.compute import compute
from farfield.scale.fit import fit
from farfield.scale.store import StoredKernel, open_kernel

__all__ = ["StoredKernel", "compute", "fit", "open_kernel"]
