"""Past memory: kernels as dask tasks, stored in zarr arrays, and regressions on any rows."""

from farfield.scale.compute import compute
from farfield.scale.fit import fit
from farfield.scale.opening import open_kernel
from farfield.scale.store import StoredKernel

__all__ = ["StoredKernel", "compute", "fit", "open_kernel"]
