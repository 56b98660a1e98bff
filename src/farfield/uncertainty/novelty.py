"""How unlike the training data an input is for the network: distances between tangent features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.empirical.inputs import Inputs, count
from farfield.uncertainty.network import Network


@dataclass(frozen=True, eq=False)
class Reference:
    r"""Training inputs in the space of tangent features.

    The tangent feature of an input is the gradient of all outputs, with the inner product
    ``k(x, x') = sum_a df_a(x) . df_a(x') / o``. With ``G = K + ridge I`` over the reference inputs,
    the squared distance of an input's feature from all that reference features combine to is

    ``d(x) = k(x, x) - k(x, X) G^{-1} k(X, x)``,

    and that of each reference input from the others is ``1 / (G^{-1})_ii - ridge``.

    Attributes:
        inputs: The reference inputs.
        factor: The Cholesky factor of G, in float64.
        left_out: The distance of each reference input from the others, (m,).
        ridge: What makes G invertible: the rounding of the kernel.

    Source: Rasmussen and Williams (2006), equation 5.12, for the inputs left out.
    """

    inputs: Inputs
    factor: Float[Tensor, "m m"] = field(repr=False)
    left_out: Float[Tensor, " m"]
    ridge: float

    def distances(self, network: Network, inputs: Inputs) -> Float[Tensor, " n"]:
        """The squared distance of some inputs that fit into memory at once, in float64.

        Args:
            network: The network.
            inputs: The inputs.
        """
        kernel = network.kernel("mean")
        there = network.prepared(inputs)
        own = kernel.diagonal(there).double()
        cross = kernel(there, self.inputs).double()
        half = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        explained: Tensor = half.square().sum(0)
        return (own - explained).clamp_min(0.0)

    def scores(self, network: Network, inputs: Inputs) -> Float[Tensor, " n"]:
        """Root distances over the median of the reference inputs' own.

        Args:
            network: The network.
            inputs: Inputs that fit into memory at once.
        """
        typical = self.left_out.median().clamp_min(self.ridge)
        return (self.distances(network, inputs) / typical).sqrt()

    def side(self, budget: int) -> int:
        """How many inputs fit into memory at once."""
        return max(1, budget // (8 * 8 * count(self.inputs)))


def reference_of(network: Network, inputs: Inputs) -> Reference:
    """Measure how far each of some inputs is from the others.

    Args:
        network: The network.
        inputs: Training inputs, in the network's precision.

    Returns:
        The reference.
    """
    gram = network.kernel("mean")(inputs).double()
    ridge = torch.finfo(network.dtype).eps ** 0.5 * float(gram.diagonal().mean())
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + ridge * eye)
    inverse = torch.cholesky_inverse(factor)
    left_out = (1.0 / inverse.diagonal() - ridge).clamp_min(0.0)
    return Reference(inputs, factor, left_out, ridge)
