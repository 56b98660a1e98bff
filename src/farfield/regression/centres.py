"""Centres: a few points whose kernel functions span the predictors that are looked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lapack
from torch import Tensor

from farfield.errors import RangeError, SingularKernelError
from farfield.kernel import Kernel
from farfield.regression.matrices import train_matrix


@dataclass(frozen=True, eq=False)
class Basis:
    r"""An orthonormal basis of the span of ``k(., z)`` for some centres z.

    With ``K_zz = L L'`` the functions ``phi(x) = L^{-1} k(Z, x)`` are orthonormal in the space of
    the kernel: ``f = sum_j b_j phi_j`` has the norm ``|b|``, and ``|phi(x)|^2 <= k(x, x)``.

    Attributes:
        centres: Those that are kept, in the order of their pivots.
        root: L, lower triangular, in float64.
        left_out: How many were left out, because the others span them to within rounding.
    """

    centres: Float[Tensor, "r *features"]
    root: Float[Tensor, "r r"]
    left_out: int

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def rounding(self) -> float:
        """Relative error that the basis can have at a point: a rounding times the spread of L."""
        pivots = self.root.diagonal()
        return float(torch.finfo(self.centres.dtype).eps * pivots.max() / pivots.min())

    def features_(self, cross: Float[Tensor, "n r"]) -> Float[Tensor, "n r"]:
        """The basis at some points, from ``k(x, Z)``, in its memory."""
        torch.linalg.solve_triangular(self.root.mT, cross, upper=True, left=False, out=cross)
        return cross

    def coefficients(self, b: Float[Tensor, "r outputs"]) -> Float[Tensor, "r outputs"]:
        """Those of ``sum_j b_j phi_j = k(., Z) a``: a."""
        a: Tensor = torch.linalg.solve_triangular(self.root.mT, b, upper=True)
        return a


def basis_of(kernel: Kernel, centres: Float[Tensor, "m *features"]) -> Basis:
    """Orthonormalise, and leave out centres that the others span.

    The Cholesky factorisation takes the centre next that is spanned the least, and ends where what
    is left of all k(z, z) is within ``m eps max k(z, z)``: rounding of the matrix itself. Equal
    centres count once.

    Args:
        kernel: The kernel.
        centres: In the dtype in which the kernel is computed.

    Returns:
        The basis.

    Raises:
        RangeError: The kernel of the centres is not finite.
        SingularKernelError: It is 0 at all centres.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", section 10.3 (complete
    pivoting of a semi-definite matrix; LAPACK's dpstrf).
    """
    matrix = train_matrix(kernel, centres, centres.dtype)
    if not np.isfinite(matrix).all():
        raise RangeError(
            f"The kernel of the {len(centres)} centres is not finite: it grows beyond the range of "
            f"{centres.dtype}. Scale the inputs down, or put a norm into the network."
        )
    largest = float(matrix.diagonal().max())
    if largest <= 0.0:
        raise SingularKernelError(
            f"The kernel is 0 at all {len(centres)} centres, so that only 0 can be predicted; "
            "choose other centres or another kernel."
        )
    allowed = len(matrix) * float(torch.finfo(centres.dtype).eps) * largest
    # A symmetric matrix in C's order is itself in Fortran's order: LAPACK need not copy it.
    packed, pivots, rank, _ = lapack.dpstrf(matrix.T, tol=allowed, lower=1, overwrite_a=1)
    kept = torch.from_numpy(pivots[:rank].astype(np.int64) - 1)
    root = torch.from_numpy(np.tril(packed[:rank, :rank]))
    return Basis(centres[kept.to(centres.device)], root, len(centres) - int(rank))
