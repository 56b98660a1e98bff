r"""The tangent kernels of many random perceptrons of every depth at once, by hand.

For a scalar output of a perceptron with L hidden layers, ``z^l = W^l h^{l-1} + b^l``,
``h^l = phi(norm(z^l))``, ``f = v . h^L + c``,

    Theta(x, x') = <h^L, h'^L> + 1 + sum_{l=1}^{L} (<h^{l-1}, h'^{l-1}> + 1) <delta^l, delta'^l>

with ``delta^l = df / dz^l``; each 1 is that of a bias. The forward pass of the deepest network
holds those of all shallower ones. Backward, the vectors of all depths that reach a layer go through
its weights in one product: L^2 / 2 products of a matrix and a vector for all depths and each input.
Moving the kernel matrix of a whole layer forward (L products of M x M matrices for each pair of
inputs) would take 2 M / L times as many operations: 4 times at M = 100, L = 49, for a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import SettingsError

PLACES = ("none", "first", "last", "every")
"""Hidden layers with LayerNorm, before the activation, without gain, bias and eps."""


@dataclass(frozen=True, eq=False)
class Products:
    """Inner products of the first input's vectors with those of each input.

    Attributes:
        forward: ``<h^l, h'^l>`` of layers 0 to L - 1, as the layers above see them.
        top: ``<h^l, h'^l>`` of layers 1 to L, as the readout of the network of depth l sees them.
        backward: ``<delta^l, delta'^l>`` for each depth and layer from 1 on; 0 above the depth.
        norm_at: The place of LayerNorm.
    """

    forward: Float[Tensor, "b depths i"]
    top: Float[Tensor, "b depths i"]
    backward: Float[Tensor, "b depths depths i"]
    norm_at: str

    def kernels(
        self, scales: Sequence[float | int] = (1.0,)
    ) -> tuple[Float[Tensor, "s b depths i"], Float[Tensor, "s b depths i"]]:
        """The kernels of the same networks with all weights multiplied.

        ReLU and LayerNorm are homogeneous, and biases 0: when all weights are multiplied by s, so
        are ``h^l``, by s to the power of the layers since the last norm, and ``delta^l``
        accordingly. So the drawn networks give those of every variance, exactly. (For
        other activations only s = 1 has a meaning.)

        Args:
            scales: Factors s squared.

        Returns:
            What the gradients of weights and those of biases give, in float64; the kernel is their
            sum.
        """
        forward, top, backward = (t.double() for t in (self.forward, self.top, self.backward))
        depths = top.shape[1]
        below, own = _powers(self.norm_at, depths)
        from_weights = top + torch.einsum("bki,bdki->bdi", forward, backward)
        squares = torch.as_tensor(scales, dtype=torch.float64)[:, None]
        weights = squares**own
        biases = squares[..., None] ** (own[:, None] - below)
        biases = biases.tril()  # layers above the depth do not count
        return (
            weights[:, None, :, None] * from_weights,
            1.0 + torch.einsum("sdk,bdki->sbdi", biases, backward),
        )


def _powers(norm_at: str, depths: int) -> tuple[Tensor, Tensor]:
    """Powers of s in h below each layer and in the top layer of each depth."""
    layers = torch.arange(depths, dtype=torch.float64)
    if norm_at == "every":
        return torch.zeros_like(layers), torch.zeros_like(layers)
    if norm_at == "first":
        return (layers - 1.0).clamp(min=0.0), layers
    return layers, torch.zeros_like(layers) if norm_at == "last" else layers + 1.0


def products(
    x: Float[Tensor, "b i features"],
    weights: Sequence[Float[Tensor, "b _out _in"]],
    readouts: Float[Tensor, "b depths width"],
    activation: str = "relu",
    norm_at: str = "none",
) -> Products:
    """Run b networks forward and backward, for every depth from 1 to the number of weights.

    Args:
        x: Inputs of each network; kernels are those of the first one with each.
        weights: W of each hidden layer, from the first.
        readouts: v of the network of each depth.
        activation: ``"relu"`` or ``"sigmoid"``.
        norm_at: One of :data:`PLACES`; ``"last"`` is the last hidden layer of each depth.

    Returns:
        The inner products that kernels are made of.

    Raises:
        SettingsError: An unknown activation or place.
    """
    if activation not in ("relu", "sigmoid"):
        raise SettingsError(f"The activation is {activation!r}; choose 'relu' or 'sigmoid'.")
    if norm_at not in PLACES:
        raise SettingsError(f"norm_at is {norm_at!r}; choose one of {', '.join(PLACES)}.")
    h, forward, tops, trunk, starts = x, [], [], [], []
    for depth, weight in enumerate(weights):
        forward.append(_with_first(h))
        z = h @ weight.mT
        layer = _Layer.run(z, activation, norm_at == "every" or (norm_at == "first" and not depth))
        top = _Layer.run(z, activation, True) if norm_at == "last" else layer
        h = layer.h
        tops.append(_with_first(top.h))
        trunk.append(layer)
        starts.append(top.back(readouts[:, None, None, depth].expand(-1, 1, x.shape[1], -1)))
    backward = x.new_zeros(len(x), len(weights), len(weights), x.shape[1])
    delta = starts[-1]
    for layer_index in range(len(weights) - 1, -1, -1):  # delta: (b, depths so far, i, width)
        backward[:, layer_index:, layer_index] = _with_first(delta)
        if layer_index:
            arrived = (delta.flatten(1, 2) @ weights[layer_index]).unflatten(1, delta.shape[1:3])
            delta = torch.cat([starts[layer_index - 1], trunk[layer_index - 1].back(arrived)], 1)
    return Products(torch.stack(forward, 1), torch.stack(tops, 1), backward, norm_at)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A hidden layer's values (b, i, width), and what its gradients need."""

    h: Tensor
    slope: Tensor
    normed: tuple[Tensor, Tensor] | None

    @classmethod
    def run(cls, z: Tensor, activation: str, norm: bool) -> _Layer:
        normed = None
        if norm:
            z = z - z.mean(-1, keepdim=True)
            inverse = z.square().mean(-1, keepdim=True).rsqrt()
            z = z * inverse
            normed = z[:, None], inverse[:, None]
        if activation == "relu":
            return cls(z.relu(), (z > 0).to(z), normed)
        h = z.sigmoid()
        return cls(h, h * (1.0 - h), normed)

    def back(self, gradient: Tensor) -> Tensor:
        """df/dh -> df/dz, for several networks on top of it: (b, depths, i, width)."""
        gradient = gradient * self.slope[:, None]
        if self.normed is None:
            return gradient
        z, inverse = self.normed
        along = z * (z * gradient).mean(-1, keepdim=True)
        return inverse * (gradient - gradient.mean(-1, keepdim=True) - along)


def _with_first(vectors: Tensor) -> Tensor:
    """(..., i, width) -> (..., i): the inner product of the first vector with each."""
    found: Tensor = (vectors @ vectors[..., 0, :, None]).squeeze(-1)
    return found
