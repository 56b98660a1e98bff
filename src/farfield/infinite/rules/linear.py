"""Random linear maps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import SettingsError
from farfield.infinite.gram import Gram, Scaled, Variance, constant, total
from farfield.infinite.laws import IDENTITY, Data, Gaussian, Mixed, Pointwise, gaussian_of, mixed
from farfield.infinite.limit_tensor import MAP, RULES, LimitTensor
from farfield.reading import ASK
from farfield.trail import current_module


@RULES.register(F.linear, mark=MAP)
def linear(x: LimitTensor, weight: Tensor, bias: Tensor | None = None) -> LimitTensor:
    r"""``K <- w K + b`` and ``T <- (w K + b) + w T`` with w = weight_var and b = bias_var.

    K holds the second moments of the inputs, means included. In the standard parametrisation the
    gradients with respect to W and b are counted as they are: ``T <- (fan_in K + 1) + w T``.
    A parameter that is frozen adds no gradient of its own.

    Source: Jacot, Gabriel and Hongler, "Neural Tangent Kernel" (2018), proposition 1 and
    theorem 1.
    """
    if isinstance(weight, LimitTensor) or not isinstance(x, LimitTensor):
        raise RULES.unsupported(
            "linear with a weight computed from the input", "Such a map is not drawn at random."
        )
    return _random_map(x, _parameter(x, weight), bias, tuple(weight.shape[::-1]))


@RULES.register(
    torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm, mark=MAP
)
def matmul(x: LimitTensor, weight: Tensor) -> LimitTensor:
    """``x @ W`` and ``x @ W.T`` with a parameter W: a linear map without a bias.

    What ``x @ W`` has as fan_in is the first dimension of W.
    """
    if isinstance(weight, LimitTensor) or not isinstance(x, LimitTensor) or weight.ndim != 2:
        raise RULES.unsupported(
            "a matrix product of other things than units and a matrix of parameters",
            "Products of units, as in attention, are not drawn at random.",
        )
    return _random_map(x, _parameter(x, weight), None, tuple(weight.shape))


@RULES.register(torch.addmm, mark=ASK)
def addmm(bias: Tensor, x: LimitTensor, weight: Tensor) -> LimitTensor:
    """``b + x @ W``."""
    return add_bias(matmul(x, weight), bias)


def add_bias(x: LimitTensor, bias: Tensor) -> LimitTensor:
    """Add a vector of parameters, one for each unit: ``K <- K + b``, and so the tangent."""
    reading = x.reading
    if isinstance(x.law, Data):
        raise RULES.unsupported(
            "the sum of the raw input and a parameter",
            "A bias of few features does not average out in the limit.",
        )
    if tuple(bias.shape) != tuple(x.shape[-1:]) or x.ndim < 2:
        raise RULES.unsupported(
            f"the sum of units of shape {tuple(x.shape)} and a parameter of shape "
            f"{tuple(bias.shape)}",
            "A vector with one entry for each unit is a bias, and has a rule.",
        )
    variance = reading.bias_var(bias, "the sum with a parameter")
    own: Scaled | None = None
    if bias.requires_grad:
        size = 1.0 if reading.parameterization == "standard" else variance
        own = constant(mixed(x.law).gram.root, size).plain()
    base = gaussian_of(x.law)
    if base is not None:
        gram = base.gram.plus_constant(variance)
        units = replace(base, gram=gram, tangent=total([base.tangent, own]))
        return x.with_law(Pointwise(units, IDENTITY))
    below = mixed(x.law)
    gram, tangent = below.gram.plus_constant(variance), total([below.tangent, own])
    law = Mixed(
        gram,
        below.mean,
        tangent,
        below.sources,
        lambda: below.covariance().plus_constant(variance),
    )
    return x.with_law(law)


def _parameter(x: LimitTensor, weight: Tensor) -> Tensor:
    """The parameter that a matrix is, as it stands or transposed."""
    owner = weight._base
    if owner is None or id(owner) not in x.reading.names or owner.ndim != 2:
        return weight
    turned = owner.T
    same = weight.shape == turned.shape and weight.stride() == turned.stride()
    return owner if same else weight


def _random_map(
    x: LimitTensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, ...]
) -> LimitTensor:
    """The map from ``shape[0]`` to ``shape[1]`` units by a matrix of parameters."""
    reading = x.reading
    if shape[0] != x.shape[-1]:
        raise SettingsError(
            f"{current_module()}: the layer takes {shape[0]} features; what reaches it has "
            f"{x.shape[-1]}."
        )
    weight_var = reading.weight_var(weight, shape[0])
    bias_var: Variance = 0.0
    if bias is not None:
        bias_var = reading.bias_var(bias, "linear")
    below = mixed(x.law)
    weighed = below.gram.scaled(_root(weight_var))
    gram = weighed.plus_constant(bias_var)
    if reading.parameterization == "standard":
        own = _plain_tangents(weight, bias, below.gram.scaled(float(shape[0]) ** 0.5), gram)
    else:
        own = _own_tangents(weight, bias, weighed, gram, bias_var)
    above = None if below.tangent is None else below.tangent.scaled(_root(weight_var))
    base = Gaussian(gram, total([*own, above]))
    return x.with_law(Pointwise(base, IDENTITY), (*x.shape[:-1], shape[1]))


def _plain_tangents(weight: Tensor, bias: Tensor | None, below: Gram, gram: Gram) -> list[Scaled]:
    """What the gradients with respect to W and b add, each counted as it is."""
    trained_bias = bias is not None and bias.requires_grad
    parts = [below] * weight.requires_grad + [constant(gram.root, 1.0)] * trained_bias
    return [part.plain() for part in parts]


def _own_tangents(
    weight: Tensor, bias: Tensor | None, weighed: Gram, gram: Gram, bias_var: Variance
) -> list[Scaled]:
    """What they add when each is counted with the variance its parameter was drawn with."""
    trained_bias = bias is not None and bias.requires_grad
    if weight.requires_grad and (trained_bias or bias is None):
        return [gram.plain()]
    parts = [weighed] * weight.requires_grad
    if trained_bias and not (isinstance(bias_var, float) and bias_var == 0.0):
        parts.append(constant(gram.root, bias_var))
    return [part.plain() for part in parts]


def _root(variance: Variance) -> Variance:
    return variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
