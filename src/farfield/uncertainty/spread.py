"""How uncertain the outputs at some inputs are: covariances, or roots of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ByCovariance:
    """Covariances that are known themselves.

    Attributes:
        covariance: (n, o, o)
    """

    covariance: Float[Tensor, "n o o"]

    @property
    def root(self) -> Float[Tensor, "n o o"]:
        """R with R R' the covariance; what rounding made negative counts as 0."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = vectors * values.clamp_min(0.0).sqrt().unsqueeze(1)
        return root

    @property
    def variances(self) -> Float[Tensor, "n o"]:
        """Of each output."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0)


@dataclass(frozen=True, eq=False)
class ByRoot:
    """Covariances of low rank.

    Attributes:
        root: R with R R' the covariance, (n, o, r).
    """

    root: Float[Tensor, "n o r"]

    @property
    def covariance(self) -> Float[Tensor, "n o o"]:
        """Of the outputs of each sample."""
        return self.root @ self.root.mT

    @property
    def variances(self) -> Float[Tensor, "n o"]:
        """Of each output."""
        return self.root.square().sum(2)


Spread = ByCovariance | ByRoot
