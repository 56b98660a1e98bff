"""Random linear maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.errors import SettingsError
from farfield.infinite.gram import Gram, Scaled, Variance, constant, total
from farfield.infinite.laws import IDENTITY, Gaussian, Pointwise, mixed
from farfield.infinite.limit_tensor import RULES, LimitTensor, Reading
from farfield.reading import current_module


@RULES.register(F.linear)
def linear(x: LimitTensor, weight: Tensor, bias: Tensor | None = None) -> LimitTensor:
    r"""``K <- w K + b`` and ``T <- (w K + b) + w T`` with w = weight_var and b = bias_var.

    K holds the second moments of the inputs, means included. In the standard parametrisation the
    gradients with respect to W and b are counted as they are: ``T <- (fan_in K + 1) + w T``.
    A parameter that is frozen adds no gradient of its own.

    Source: Jacot, Gabriel and Hongler, "Neural Tangent Kernel" (2018), proposition 1 and
    theorem 1.
    """
    reading = x.reading
    if isinstance(weight, LimitTensor) or not isinstance(x, LimitTensor):
        raise RULES.unsupported(
            "linear with a weight computed from the input", "Such a map is not drawn at random."
        )
    if weight.shape[1] != x.shape[-1]:
        raise SettingsError(
            f"{current_module()}: the layer takes {weight.shape[1]} features; what reaches it has "
            f"{x.shape[-1]}."
        )
    reading.use(weight, "linear")
    weight_var = reading.weight_vars[id(weight)]
    bias_var: Variance = 0.0
    if bias is not None:
        reading.use(bias, "linear")
        bias_var = reading.bias_vars[id(bias)]
    below = mixed(x.law)
    weighed = below.gram.scaled(_root(weight_var))
    gram = weighed.plus_constant(bias_var)
    own = _own_tangents(reading, weight, bias, below.gram, weighed, gram, bias_var)
    above = None if below.tangent is None else below.tangent.scaled(_root(weight_var))
    base = Gaussian(gram, total([*own, above]))
    return x.with_law(Pointwise(base, IDENTITY), (*x.shape[:-1], weight.shape[0]))


def _own_tangents(
    reading: Reading,
    weight: Tensor,
    bias: Tensor | None,
    below: Gram,
    weighed: Gram,
    gram: Gram,
    bias_var: Variance,
) -> list[Scaled]:
    """What the gradients with respect to W and b add."""
    trained_bias = bias is not None and bias.requires_grad
    if reading.parameterization == "standard":
        parts = [below.scaled(float(weight.shape[1]) ** 0.5)] * weight.requires_grad
        return [part.plain() for part in parts + [constant(gram.root, 1.0)] * trained_bias]
    if weight.requires_grad and (trained_bias or bias is None):
        return [gram.plain()]
    parts = [weighed] * weight.requires_grad
    if trained_bias and not (isinstance(bias_var, float) and bias_var == 0.0):
        parts.append(constant(gram.root, bias_var))
    return [part.plain() for part in parts]


def _root(variance: Variance) -> Variance:
    return variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
