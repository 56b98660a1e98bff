"""Kernel ridge regression for many ridges, from one eigen-decomposition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from farfield.errors import SettingsError
from farfield.kernel import Kernel
from farfield.regression.duplicates import merge_duplicates
from farfield.regression.kernel_regression import check_finite, check_ridge
from farfield.regression.matrices import check_inputs, check_points, cross_matrix, tiles
from farfield.regression.spectral import modes_of


class RidgePath:
    r"""The predictions of :class:`farfield.KernelRegression` for each of several ridges.

    ``f(x) = k(x, X) V (L + ridge)^{-1} V' y`` with the eigenvalues L and eigenvectors V of K. It
    takes about three matrices of memory and the time of ten Cholesky factorisations, once.

    Args:
        kernel: The kernel.
        x: Training inputs; duplicates count as often as they occur.
        y: Targets, (n,) or (n, outputs).
        ridges: Positive numbers.

    Raises:
        SettingsError: No ridge, or one that is not positive; shapes that do not fit.
        DataError: Targets that are not finite.
        RangeError: A kernel that is not finite.

    Source: Rasmussen and Williams (2006), equations 2.25 and 5.12.

    Example:
        >>> import torch, farfield as ff
        >>> from farfield.regression import RidgePath
        >>> linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
        >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        >>> RidgePath(linear, x, 3 * x, [5.0, 10.0]).predict(x[:1]).flatten().tolist()
        [1.5, 1.0]
    """

    def __init__(
        self,
        kernel: Kernel,
        x: Shaped[Tensor, "n *features"],
        y: Shaped[Tensor, "n_targets *outputs"],
        ridges: Sequence[float | int],
    ) -> None:
        check_inputs(x)
        targets = check_points(x, y)
        for ridge in ridges:
            check_ridge(ridge)
        if not ridges or min(ridges) <= 0:
            raise SettingsError(
                "RidgePath needs at least one ridge, all of them positive; for ridge 0 use "
                "KernelRegression."
            )
        self.kernel = kernel
        self.ridges = tuple(float(ridge) for ridge in ridges)
        self._flat = y.ndim == 1
        self._merged = merge_duplicates(x.detach().double(), targets)
        self._modes = modes_of(kernel, self._merged, torch.float64)
        scales = np.array(self.ridges)[:, None, None]
        parts = self._modes.parts(self._merged.y.numpy())
        values = self._modes.values[:, None]
        self._coefficients = self._modes.coefficients(parts / (values + scales))

    def predict(self, x: Shaped[Tensor, "m *features"]) -> Float[Tensor, "ridges m *outputs"]:
        """Predictions at new inputs, for each ridge.

        Args:
            x: New inputs.

        Returns:
            In float64, (ridges, m) or (ridges, m, outputs).

        Raises:
            SettingsError: Inputs that do not fit the training inputs.
            RangeError: A prediction beyond the range of float64.
        """
        train = self._merged.x
        check_inputs(x, train)
        new = x.detach().double()
        result = np.empty((len(self.ridges), len(x), self._coefficients.shape[2]))
        for rows in tiles(new, len(train)):
            with np.errstate(over="ignore", invalid="ignore"):  # refused below, with the reason
                result[:, rows] = cross_matrix(self.kernel, new[rows], train) @ self._coefficients
        check_finite(result)
        return torch.from_numpy(result[..., 0] if self._flat else result).to(x.device)

    def leave_one_out(self) -> Float[Tensor, "ridges points *outputs"]:
        """What each distinct training input's mean target is off from the fit to all others.

        Returns:
            ``y_i - f_{-i}(x_i)`` for each ridge; duplicates are left out together.
        """
        weights = self._modes.root_counts[:, None] * self._modes.vectors
        diagonals = np.stack(
            [np.square(weights) @ (1.0 / (self._modes.values + ridge)) for ridge in self.ridges]
        )
        residuals = torch.from_numpy(self._coefficients / diagonals[..., None])
        return residuals[..., 0] if self._flat else residuals
