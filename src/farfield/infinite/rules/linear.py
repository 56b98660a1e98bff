"""Random linear maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.infinite.gram import Scaled, Variance, constant
from farfield.infinite.laws import IDENTITY, Gaussian, Pointwise, mixed, sum_of_tangents
from farfield.infinite.limit_tensor import RULES, LimitTensor


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
    reading.use(weight, "linear")
    weight_var = reading.weight_vars[id(weight)]
    below = mixed(x.law)
    gram = below.gram.scaled(_root(weight_var))
    standard = reading.parameterization == "standard"
    tangents: list[Scaled | None] = []
    if weight.requires_grad:
        size = float(weight.shape[1]) if standard else weight_var
        tangents.append(below.gram.scaled(_root(size)))
    if below.tangent is not None:
        tangents.append(below.tangent.scaled(_root(weight_var)))
    if bias is not None:
        reading.use(bias, "linear")
        bias_var = reading.bias_vars[id(bias)]
        if bias.requires_grad:
            size = 1.0 if standard else bias_var
            if not (isinstance(size, float) and size == 0.0):
                tangents.append(constant(gram, size))
        gram = gram.plus_constant(bias_var)
    base = Gaussian(gram, sum_of_tangents(*tangents))
    return x.with_law(Pointwise(base, IDENTITY), (*x.shape[:-1], weight.shape[0]))


def _root(variance: Variance) -> Variance:
    return variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
