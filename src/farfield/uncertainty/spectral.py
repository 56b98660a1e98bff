"""Variances of outputs as functions of the prior precision and the noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Variances:
    r"""Variances of all outputs of some samples, for any prior precision and noise at once.

    With eigenvalues w, squares ``S`` and the share t of the data that was seen,

    ``v(p, noise) = prior / p + sum_q S_q weight_q`` where ``weight_q`` is
    ``-1 / (p (w_q + p noise))`` with a prior (the kernel's form), and ``1 / (w_q / noise + t p)``
    without (the form of features).

    Attributes:
        squares: (n, o, q)
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

    def to(self, device: torch.device) -> Variances:
        """The same on a device."""
        prior = None if self.prior is None else self.prior.to(device)
        return replace(
            self,
            squares=self.squares.to(device),
            eigenvalues=self.eigenvalues.to(device),
            prior=prior,
        )
