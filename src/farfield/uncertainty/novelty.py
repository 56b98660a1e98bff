"""How unlike the training data an input is for the network: what of its gradient is new."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.empirical.inputs import Inputs, count
from farfield.errors import RangeError
from farfield.uncertainty.network import Network, check_finite

_RIDGE = 1e-4  # of the mean of the kernel's diagonal
_ROUNDINGS = 4.0  # that the ridge is at least, for each reference input


@dataclass(frozen=True, eq=False)
class Reference:
    r"""Training inputs in the space of tangent features.

    The tangent feature of an input is the gradient of all its outputs, with the inner product
    ``k(x, x') = sum_a df_a(x) . df_a(x') / o``. With ``G = K + ridge I`` over the reference
    inputs X, the squared distance of a feature from all that theirs combine to is

    ``d(x) = k(x, x) - k(x, X) G^{-1} k(X, x)``,

    and that of each reference input from the others ``d_i = 1 / (G^{-1})_ii - ridge``. What is new
    of x is ``d(x) / min(k(x, x), max_i k_ii)``: a share of the feature, unless the feature is
    longer than any reference input's.

    Attributes:
        inputs: The reference inputs.
        factor: The Cholesky factor of G, in float64.
        longest: ``max_i k_ii``.
        left_out: ``d_i / k_ii``, what is new of each reference input beside the others, (m,).

    Source: Rasmussen and Williams (2006), equation 5.12, for inputs left out.
    """

    inputs: Inputs
    factor: Float[Tensor, "m m"] = field(repr=False)
    longest: float
    left_out: Float[Tensor, " m"]

    def scores(self, network: Network, inputs: Inputs) -> Float[Tensor, " n"]:
        """What is new of some inputs, in units of what is new of a typical reference input.

        Args:
            network: The network.
            inputs: Inputs that fit into memory at once.
        """
        kernel = network.kernel("mean")
        there = network.prepared(inputs)
        own = kernel.diagonal(there).double()
        cross = kernel(there, self.inputs).double()
        check_finite(own)
        half = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        far: Tensor = own - half.square().sum(0)
        return _shares(far, own, self.longest) / self._typical

    def threshold(self, level: float) -> float:
        """The score that this share of the reference inputs exceeds.

        Args:
            level: Between 0 and 1.
        """
        ordered = (self.left_out / self._typical).sort().values
        place = min(len(ordered) - 1, int((1.0 - level) * (len(ordered) + 1)))
        return float(ordered[place])

    def side(self, budget: int) -> int:
        """How many inputs fit into memory at once."""
        return max(1, budget // (8 * 8 * count(self.inputs)))

    @property
    def _typical(self) -> Tensor:
        return self.left_out.median()


def reference_of(network: Network, inputs: Inputs) -> Reference:
    """Measure how far each of some inputs is from the others.

    Args:
        network: The network.
        inputs: Training inputs, in the network's precision.

    Returns:
        The reference.

    Raises:
        RangeError: The kernel of most inputs is zero.
    """
    gram = network.kernel("mean")(inputs).double()
    own = gram.diagonal().clone()
    if not bool((own > 0).double().mean() > 0.5):
        raise RangeError(
            "Outputs of most training inputs change with no parameter, so that nothing can be "
            "compared with them; take other weights."
        )
    least = _ROUNDINGS * len(gram) * torch.finfo(network.dtype).eps
    ridge = max(_RIDGE, least) * float(own.mean())
    gram.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(gram)
    inverse: Tensor = torch.cholesky_inverse(factor)
    far = 1.0 / inverse.diagonal() - ridge
    longest = float(own.max())
    # Less than the ridge's own rounding is nothing, and nothing is measured in units of it.
    shares = _shares(far, own, longest).clamp_min(torch.finfo(network.dtype).eps)
    return Reference(inputs, factor, longest, shares)


def _shares(far: Tensor, own: Tensor, longest: float) -> Tensor:
    """``far / min(own, longest)``; 1 where the feature itself is zero."""
    return torch.where(own > 0, far.clamp_min(0.0) / own.clamp(max=longest), torch.ones_like(own))
