"""Networks as the theory of LayerNorm's paper has them, and their kernel in closed form.

A linear layer is ``W x / sqrt(fan_in) + b`` with W ~ N(0, 1) and b ~ N(0, bias_var); activations
are multiplied by the root of c_phi, which keeps the mean square of large units; LayerNorm stands
before the activation and has neither gain nor bias nor eps (appendices A.1 to A.3 of the paper).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import nn

from farfield.networks import Activation, NormAt, gaussian_init_, mlp

_KEPT: dict[Activation, float] = {"tanh": 1.0}
"""c_phi of what is not like a ReLU for large inputs; of ReLU, GELU and SiLU it is 2."""


def theory_network(
    in_features: int,
    hidden: Sequence[int],
    norm_at: NormAt | None,
    *,
    activation: Activation = "relu",
    bias_var: float = 0.01,
    seed: int = 0,
) -> nn.Sequential:
    """One network in float64 and evaluation mode, drawn as the theory has it.

    Args:
        in_features: Number of inputs.
        hidden: Hidden widths.
        norm_at: Where LayerNorm stands, as of :func:`farfield.mlp`; ``None`` for no LayerNorm.
        activation: The activation.
        bias_var: sigma_b squared.
        seed: Of the random draw.

    Returns:
        The network; its layers remember their variances for :func:`farfield.infinite_width`.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), appendix A.

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(theory_network(1, [8, 8], "first"))
        >>> limit.ntk.diagonal(torch.tensor([[25.0]], dtype=torch.float64))
        tensor([3.0300], dtype=torch.float64)
    """
    norm = None if norm_at is None else "layer"
    network = mlp(
        in_features,
        hidden,
        1,
        activation=activation,
        norm=norm,
        norm_at="every" if norm_at is None else norm_at,
    ).double()
    linear = []
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.0
            module.requires_grad_(False)
        elif isinstance(module, nn.Linear):
            linear.append(name)
    # c_phi in front of an activation is a weight variance behind it.
    above = dict.fromkeys(linear[1:], _KEPT.get(activation, 2.0))
    generator = torch.Generator().manual_seed(seed)
    gaussian_init_(network, {linear[0]: 1.0, **above}, bias_var, generator)
    return network.eval()


def relu_ntk(x: float, other: float, depth: int, normed: Collection[int], bias_var: float) -> float:
    """Theta(x, other) of a ReLU network of infinite width for numbers as inputs.

    The recursion over layers in plain arithmetic, with the arc-cosine formulas of Cho and Saul
    (2009); it shares no code with :func:`farfield.infinite_width`.

    Args:
        x: One input.
        other: The other.
        depth: Number of hidden layers.
        normed: Hidden layers with LayerNorm, counted from 0.
        bias_var: sigma_b squared.

    Returns:
        The kernel.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), proposition E.2.

    Example:
        >>> [round(relu_ntk(25.0, other, 2, (), 0.01), 2) for other in (25.0, -25.0)]
        [1875.06, 198.17]
    """
    own, others, mixed = x * x + bias_var, other * other + bias_var, x * other + bias_var
    tangent = mixed
    for layer in range(depth):
        size = math.sqrt(own) * math.sqrt(others)
        cosine = max(-1.0, min(1.0, mixed / size))
        if layer in normed:
            tangent, size, own, others = tangent / size, 1.0, 1.0, 1.0
        angle = 0.0 if x == other else math.acos(cosine)
        slope = 1.0 - angle / math.pi
        mixed = size * (math.sin(angle) / math.pi + slope * cosine) + bias_var
        own, others = own + bias_var, others + bias_var
        tangent = tangent * slope + mixed
    return tangent


def largest_relu_ntk(depth: int, normed: int | None, bias_var: float) -> float:
    """C, the supremum of Theta(x, x) over all inputs of a ReLU network with LayerNorm.

    With LayerNorm at hidden layer h of L, counted from 1, and m = L - h + 1 linear layers behind
    it, ``C = L + 1 + bias_var m (m + 1) / 2``; it is approached as x grows. With LayerNorm at
    every layer Theta(x, x) is ``1 + bias_var + sum over k < L of (1 + bias_var)^-k`` everywhere.

    Args:
        depth: L, the number of hidden layers.
        normed: h - 1, the hidden layer with LayerNorm counted from 0; ``None`` for every layer.
        bias_var: sigma_b squared.

    Returns:
        C.

    Source: derived from proposition E.2 of Ziomek, Whittle and Osborne (NeurIPS 2025); theorem
    3.2 there says that C exists.

    Example:
        >>> largest_relu_ntk(2, 0, 0.01), largest_relu_ntk(2, 1, 0.01)
        (3.03, 3.01)
    """
    if normed is None:
        return 1.0 + bias_var + sum((1.0 + bias_var) ** -k for k in range(depth))
    behind = depth - normed
    return depth + 1.0 + bias_var * behind * (behind + 1) / 2
