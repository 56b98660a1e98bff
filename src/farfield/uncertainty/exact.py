"""The exact posterior, in the space of functions: with the tangent kernel of all points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh
from torch import Tensor

from farfield.empirical.inputs import Inputs, count, rows_of
from farfield.errors import AccuracyWarning, RangeError, SettingsError, SingularKernelError
from farfield.regression.solve import Factor, factorise, matrix_of
from farfield.uncertainty.likelihood import Likelihood
from farfield.uncertainty.network import Network, check_finite
from farfield.uncertainty.samples import Samples
from farfield.uncertainty.spectral import Modes
from farfield.uncertainty.spread import ByCovariance

_LARGEST = 25_000  # rows of the matrix that is factorised: 5 GB, and as much while it is made
_RESOLVED = 100.0  # variances below this many roundings of the prior's have no digit


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    r"""The linearised Laplace posterior of a network's outputs.

    With the Hessians ``Lambda_i = L_i L_i'`` of the likelihood at noise 1, and
    ``W = L' k(X, X) L``,

    ``Cov f(x) = (k(x, x) - k(x, X) L (W + p noise I)^{-1} L' k(X, x)) / p``,

    which is ``J (J' Lambda J / noise + p I)^{-1} J'`` by Woodbury's identity.

    Attributes:
        train: The training inputs.
        roots: L_i, (n, o, r); ``None`` for the identity.
        factor: The Cholesky factor of ``W + p noise I``.
        diagonal: Of W: a large ridge leaves no digit of it in the factor's.
        rounding: Of the kernel's dtype.

    Source: Rasmussen and Williams (2006), equation A.9; Immer, Korzepa and Bauer, "Improving
    predictions of Bayesian neural nets via local linearization" (2021), section 3.
    """

    train: Inputs
    roots: Float[Tensor, "n o r"] | None
    factor: Factor = field(repr=False)
    diagonal: Float[np.ndarray, " q"] = field(repr=False)
    rounding: float

    def with_ridge(self, ridge: float) -> ExactPosterior:
        """The same with another product of prior precision and noise variance.

        Args:
            ridge: The product.

        Returns:
            The posterior; the memory of the old one's factor is not reused.
        """
        if float(self.factor.ridge[0]) == ridge:
            return self
        return replace(self, factor=_factorised(self._whitened(), ridge, self.rounding))

    @property
    def least_ridge(self) -> float:
        """The least product of prior precision and noise that rounding leaves."""
        # Ten times the least that is factorised, as the kernel itself has been rounded.
        return 10.0 * _least_ridge(self.diagonal)

    @property
    def reference(self) -> Inputs:
        """The training inputs, to which new ones are compared."""
        return self.train

    @cached_property
    def eigenvalues(self) -> Float[np.ndarray, " q"]:
        """Of W, ascending."""
        found = eigh(self._whitened(), eigvals_only=True, overwrite_a=True)
        values: np.ndarray = np.maximum(found, 0.0)
        return values

    @cached_property
    def _eigenvectors(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues and eigenvectors of W."""
        values, vectors = eigh(self._whitened(), overwrite_a=True)
        return torch.from_numpy(np.maximum(values, 0.0)), torch.from_numpy(vectors)

    def _whitened(self) -> np.ndarray:
        """W, a copy."""
        factor = self.factor
        matrix = matrix_of(factor.packed, self.diagonal)
        whole: np.ndarray = np.ascontiguousarray(matrix)
        return whole

    def spread(
        self, network: Network, inputs: Inputs, precision: float, noise_var: float
    ) -> ByCovariance:
        """Covariances at some inputs that fit into memory at once.

        Args:
            network: The network.
            inputs: The inputs.
            precision: p.
            noise_var: Of the observations; its product with p is in the factor already.

        Returns:
            Covariances in float64.

        Warns:
            AccuracyWarning: A variance that rounding of the kernel leaves no digit of.
        """
        own, cross = self._kernels(network, inputs)
        m, o, _ = own.shape
        half = torch.from_numpy(self.factor.half_solve(np.asfortranarray(cross.numpy().T)))
        explained = half.T.reshape(m, o, -1)
        found = own - explained @ explained.mT
        self._check(found, own)
        return ByCovariance((found / precision).to(network.device))

    def modes(self, network: Network, inputs: Inputs) -> Modes:
        """Covariances as functions of prior precision and noise, by the eigenvectors of W."""
        values, vectors = self._eigenvectors
        own, cross = self._kernels(network, inputs)
        m, o, _ = own.shape
        return Modes((cross @ vectors).reshape(m, o, -1), values, own)

    def side(self, network: Network, inputs: Inputs) -> int:
        """How many inputs like these fit into memory at once."""
        # The kernel with the training inputs, whitened, and half solved.
        numbers = 3 * count(self.train) * network.outputs(inputs) ** 2
        return max(1, network.budget // (2 * 8 * numbers))

    def _kernels(self, network: Network, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """k(x, x), (m, o, o), and k(x, X) L, (m o, n r), in float64 on the CPU."""
        kernel = network.kernel("full")
        there = network.prepared(inputs)
        own = kernel.diagonal(there).to("cpu", torch.float64)
        cross = kernel(there, self.train).to("cpu", torch.float64)
        check_finite(own)
        return own, _right(cross, self.roots)

    def _check(self, found: Tensor, own: Tensor) -> None:
        left, whole = found.diagonal(dim1=1, dim2=2), own.diagonal(dim1=1, dim2=2)
        lost = left < _RESOLVED * self.rounding * whole
        if bool(lost.any()):
            warnings.warn(
                f"{int(lost.sum())} of {lost.numel()} variances are the difference of numbers that "
                f"agree in all the digits of the kernel's dtype (rounding {self.rounding:.0e}), "
                "and are not known. What helps: dtype=torch.float64, or a larger noise_var or "
                "prior_precision.",
                AccuracyWarning,
                stacklevel=2,
            )


def fit_exact(
    network: Network,
    likelihood: Likelihood,
    samples: Samples,
    ridge: float,
    progress: Callable[[int, int], None] | None,
) -> tuple[ExactPosterior, float, int]:
    """Compute and factorise the kernel of all training points.

    Args:
        network: The network.
        likelihood: Of the targets.
        samples: Inputs and targets.
        ridge: Prior precision times noise variance.
        progress: Called with the number of samples that are done, and of all.

    Returns:
        The posterior, the loss of the network on the samples, and the number of their outputs.

    Raises:
        SettingsError: Too many points for an exact posterior.
        SingularKernelError: The ridge is too small for the kernel's precision.
    """
    inputs, y = samples.collected()
    train = network.prepared(inputs)
    n = count(train)
    outputs = network.outputs(train)
    side = n * (outputs - (likelihood.name == "classification"))
    if side > _LARGEST:
        raise SettingsError(
            f"{n} samples of {outputs} outputs need a matrix of {side} rows "
            f"({8 * side**2 / 1e9:.0f} GB); at most {_LARGEST} are allowed. Use "
            "method='nystrom', or fewer samples."
        )
    if progress is not None:
        progress(0, n)
    targets = likelihood.targets(y.to(network.device), outputs)
    step = network.side(train, outputs)
    means = [network(rows_of(train, slice(k, k + step))) for k in range(0, n, step)]
    mean = torch.cat(means)
    loss = likelihood.loss(mean, targets)
    roots = likelihood.roots(mean)
    roots = None if roots is None else roots.cpu()
    kernel = network.kernel("full")(train).to("cpu", torch.float64)
    whitened = _whitened(kernel, roots)
    del kernel
    rounding = float(torch.finfo(network.dtype).eps)
    diagonal = whitened.numpy().diagonal().copy()
    factor = _factorised(whitened.numpy(), ridge, rounding)
    if progress is not None:
        progress(n, n)
    return ExactPosterior(train, roots, factor, diagonal, rounding), loss, mean.numel()


def _right(cross: Float[Tensor, "m o n o"], roots: Tensor | None) -> Float[Tensor, "rows columns"]:
    """``k L``, the outputs of each sample side by side."""
    m, o, n, _ = cross.shape
    if roots is None:
        return cross.reshape(m * o, n * o)
    return torch.einsum("iajb,jbr->iajr", cross, roots).reshape(m * o, -1)


def _whitened(kernel: Float[Tensor, "n o n o"], roots: Tensor | None) -> Tensor:
    """``L' k L``, some rows at a time."""
    n, o = kernel.shape[:2]
    if roots is None:
        return kernel.reshape(n * o, n * o)
    r = roots.shape[2]
    found = kernel.new_empty(n, r, n * r)
    step = max(1, 2**24 // (n * o * o))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        right = _right(kernel[rows], roots).view(-1, o, n * r)
        found[rows] = roots[rows].mT @ right
    return found.view(n * r, n * r)


def _factorised(matrix: Float[np.ndarray, "n n"], ridge: float, rounding: float) -> Factor:
    if not np.isfinite(matrix.diagonal()).all():
        raise RangeError(
            "The tangent kernel of the training points is not finite; scale the inputs, or use "
            "dtype=torch.float64."
        )
    mean, least = float(matrix.diagonal().mean()), _least_ridge(matrix.diagonal())
    factor = factorise(matrix, np.full(len(matrix), ridge))
    if not isinstance(factor, Factor) or ridge < least:
        raise SingularKernelError(
            f"prior_precision times noise_var is {ridge:.2g}, which is lost in the rounding of the "
            f"kernel, whose mean eigenvalue is {mean:.2g} (rounding {rounding:.0e}). What helps: "
            "a larger prior_precision or noise_var, from which tune() finds the best; "
            "dtype=torch.float64 where it is not; or inputs in another unit."
        )
    return factor


def _least_ridge(diagonal: np.ndarray) -> float:
    return 10.0 * float(np.finfo(float).eps) * float(diagonal.mean())
