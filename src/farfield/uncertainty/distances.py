"""How far a point is from others in the space of a kernel's features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Distances:
    r"""Squared distances from what reference points combine to, at a price for large combinations.

    With ``G = K + ridge I`` over the reference points X, the squared distance of a feature is

    ``d(x) = k(x, x) - k(x, X) G^{-1} k(X, x) = min_a |phi(x) - sum_i a_i phi_i|^2 + ridge |a|^2``,

    the variance of a Gaussian process with noise ``ridge``, and that of each reference point from
    the others ``d_i = 1 / (G^{-1})_ii - ridge``. It grows without bound in every direction:
    orthogonal to the reference points like the square of the feature, along them like its
    Mahalanobis distance.

    Attributes:
        factor: The Cholesky factor of G, in float64.
        left_out: d_i, (m,).

    Source: Rasmussen and Williams (2006), equations 2.26 and 5.12.
    """

    factor: Float[Tensor, "m m"] = field(repr=False)
    left_out: Float[Tensor, " m"]

    def of(self, own: Float[Tensor, " n"], cross: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """The squared distances of some points.

        Args:
            own: k(x, x).
            cross: k(x, X).
        """
        half = torch.linalg.solve_triangular(self.factor, cross.double().mT, upper=False)
        found: Tensor = (own.double() - half.square().sum(0)).clamp_min(0.0)
        return found


def distances_of(gram: Float[Tensor, "m m"], ridge: float, rounding: float) -> Distances:
    """Measure how far each of some points is from the others.

    Args:
        gram: K, with a positive trace.
        ridge: In units of the mean of its diagonal.
        rounding: Of the numbers of K; the ridge is at least that of all of them together.

    Returns:
        The distances.
    """
    gram = gram.double()
    mean = float(gram.diagonal().mean())
    price = max(ridge, 4.0 * len(gram) * rounding) * mean
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + price * eye)
    far = 1.0 / torch.cholesky_inverse(factor).diagonal() - price
    # Less than the rounding of the kernel is nothing, and nothing is measured in units of it.
    return Distances(factor, far.clamp_min(rounding * mean))


def exceeded_by(values: Float[Tensor, " m"], level: float) -> float:
    """The value that another one of the same law exceeds with about this probability.

    Args:
        values: Drawn from the law.
        level: Between 0 and 1.
    """
    ordered = values.sort().values
    place = min(len(ordered) - 1, int((1.0 - level) * (len(ordered) + 1)))
    return float(ordered[place])
