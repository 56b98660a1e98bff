"""Covariances of outputs as functions of the prior precision and the noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.uncertainty.spread import ByCovariance, ByRoot, Spread


@dataclass(frozen=True, eq=False)
class Modes:
    r"""Covariances of the outputs of some samples, for any prior precision and noise at once.

    With eigenvalues w, features ``F`` along their eigenvectors and the share t of the data that was
    seen,

    ``Cov(p, noise) = prior / p + sum_q F_q F_q' weight_q`` where ``weight_q`` is
    ``-1 / (p (w_q + p noise))`` with a prior (the kernel's form), and ``1 / (w_q / noise + t p)``
    without (the form of features).

    Attributes:
        features: (n, o, q)
        eigenvalues: (q,)
        prior: k(x, x), (n, o, o); ``None`` in the form of features.
        share: t.
    """

    features: Float[Tensor, "n o q"]
    eigenvalues: Float[Tensor, " q"]
    prior: Float[Tensor, "n o o"] | None = None
    share: float = 1.0

    def at(self, precision: float, noise_var: float) -> Spread:
        """The covariances.

        Args:
            precision: Of the prior.
            noise_var: Of the observations; 1 for classification.
        """
        if self.prior is None:
            weights = 1.0 / (self.eigenvalues / noise_var + self.share * precision)
            return ByRoot(self.features * weights.sqrt())
        root = self.features * (self.eigenvalues + precision * noise_var).rsqrt()
        return ByCovariance((self.prior - root @ root.mT) / precision)

    def variances(self) -> Variances:
        """Those of the outputs alone, which take less to compute again and again."""
        prior = None if self.prior is None else self.prior.diagonal(dim1=1, dim2=2).clone()
        return Variances(self.features.square(), self.eigenvalues, prior, self.share)

    def to(self, device: torch.device) -> Modes:
        """The same on a device."""
        prior = None if self.prior is None else self.prior.to(device)
        features, eigenvalues = self.features.to(device), self.eigenvalues.to(device)
        return Modes(features, eigenvalues, prior, self.share)


@dataclass(frozen=True, eq=False)
class Variances:
    """The diagonals of the covariances of :class:`Modes`.

    Attributes:
        squares: Of the features, (n, o, q).
        eigenvalues: (q,)
        prior: k(x, x) of each output, (n, o); ``None`` in the form of features.
        share: t.
    """

    squares: Float[Tensor, "n o q"]
    eigenvalues: Float[Tensor, " q"]
    prior: Float[Tensor, "n o"] | None = None
    share: float = 1.0

    def at(self, precision: float, noise_var: float) -> Float[Tensor, "n o"]:
        """The variances.

        Args:
            precision: Of the prior.
            noise_var: Of the observations; 1 for classification.
        """
        if self.prior is None:
            weights = 1.0 / (self.eigenvalues / noise_var + self.share * precision)
            return self.squares @ weights
        explained = self.squares @ (1.0 / (self.eigenvalues + precision * noise_var))
        return ((self.prior - explained) / precision).clamp_min(0.0)
