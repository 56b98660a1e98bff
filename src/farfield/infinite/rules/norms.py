"""Normalisation over the units of one input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.errors import RangeError
from farfield.infinite.gram import Gram, Scaled, Unknown, constant, of_vectors, total
from farfield.infinite.laws import (
    IDENTITY,
    Data,
    Gaussian,
    Law,
    Mixed,
    Pointwise,
    gaussian_of,
    mixed,
    rows_last,
)
from farfield.infinite.limit_tensor import RULES, LimitTensor
from farfield.infinite.pairs import Rows
from farfield.infinite.rules.arithmetic import add
from farfield.infinite.safe import hypotenuse, safe_divide


@RULES.register(F.layer_norm, torch.layer_norm)
def layer_norm(
    x: LimitTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enable: bool = True,
) -> LimitTensor:
    """Subtract the units' mean and divide by their standard deviation.

    On Gaussian units the mean is zero: ``K <- K / (s1 s2)`` with s = sqrt(K11 + eps). On other
    units ``K <- (K - m m') / (s1 s2)`` with s = sqrt(K11 - m^2 + eps). The tangent is divided by
    s1 s2 too; a trained gain adds u v, a trained bias 1. Gains and biases are a number each, the
    same for all units: they scale and shift the units, and the tangent from below is scaled.

    The derivative of the mean and of s adds nothing in the limit: its two rank-one terms are of
    order 1 / width when a random linear map follows.
    """
    _check(x, normalized_shape, "layer_norm", weight, bias)
    if isinstance(x.law, Data):
        rows = x.law.x.map(lambda values: F.layer_norm(values, list(normalized_shape), eps=eps))
        return x.with_law(_on_data(x.law, rows, weight, bias))
    return _on_units(x, "layer_norm", float(eps), weight, bias, centred=True)


@RULES.register(F.rms_norm, torch.rms_norm)
def rms_norm(
    x: LimitTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> LimitTensor:
    """Divide by the root of the units' mean square: LayerNorm without the subtraction."""
    _check(x, normalized_shape, "rms_norm", weight, None)
    if isinstance(x.law, Data):
        rows = x.law.x.map(lambda values: F.rms_norm(values, list(normalized_shape), eps=eps))
        return x.with_law(_on_data(x.law, rows, weight, None))
    # PyTorch's own default.
    floor = torch.finfo(x.dtype).eps if eps is None else eps
    return _on_units(x, "rms_norm", float(floor), weight, None, centred=False)


@RULES.refuse(
    F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm, F.group_norm,
    torch.group_norm, F.local_response_norm,
)  # fmt: skip
def refused(x: LimitTensor, *args: object, **options: object) -> LimitTensor:
    """Refuse the norms whose output does not depend on one input's units alone.

    Raises:
        UnsupportedOperation: Always.
    """
    raise RULES.unsupported(
        "a batch, group or instance norm",
        "Batch statistics tie the inputs of a batch together, and groups of finitely many units "
        "do not average out in the limit; LayerNorm and RMSNorm have rules.",
    )


def _check(
    x: LimitTensor,
    normalized_shape: Sequence[int],
    what: str,
    weight: Tensor | None,
    bias: Tensor | None,
) -> None:
    if tuple(normalized_shape) != tuple(x.shape[-1:]) or x.ndim < 2:
        raise RULES.unsupported(
            f"{what} over the dimensions {tuple(normalized_shape)}",
            "Only the last dimension, the one of the units, has a rule.",
        )
    for parameter in (weight, bias):
        if parameter is not None:
            x.reading.keep(parameter, what)


def _on_units(
    x: LimitTensor,
    what: str,
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
) -> LimitTensor:
    """Normalise, then scale and shift all units alike."""
    gain, shift = _uniform(x, weight, 1.0, what), _uniform(x, bias, 0.0, what)
    law = _normalised(x.law, eps, gain, weight, bias, centred=centred)
    return add(x.with_law(law), shift) if shift else x.with_law(law)


def _uniform(x: LimitTensor, parameter: Tensor | None, default: float, what: str) -> float:
    """The number that a parameter is everywhere."""
    if parameter is None:
        return default
    first = parameter.detach().flatten()[0]
    if bool((parameter.detach() != first).any()):
        raise RULES.unsupported(
            f"{what} whose {x.reading.names[id(parameter)]!r} differs between units",
            "The units of the limit all have the same law, as at initialisation, where gains are "
            "1 and biases 0; reset_parameters() of the norm restores them.",
        )
    return float(first)


def _trained(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _normalised(
    law: Law,
    eps: float,
    gain: float,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
) -> Law:
    """The normalised units times the gain, with the tangents of gain and bias."""
    base = gaussian_of(law)
    if base is not None and gain != 0.0:
        # The sign of the gain does not matter to a Gaussian. The gradient of the gain is the unit
        # before it: u v / gain^2.
        scaled = base.scaled(_inverse(base.gram.root, eps) * abs(gain))
        shift = constant(scaled.gram.root, 1.0).plain() if _trained(bias) else None
        tangent = total([scaled.tangent, shift])
        gains = scaled.gains + (gain**-2 if _trained(weight) else 0.0)
        return Pointwise(Gaussian(scaled.gram, tangent, gains, scaled.sources), IDENTITY)
    moments = mixed(law)
    gram, mean = moments.gram, moments.mean
    if centred:
        gram, mean = gram.minus_product(mean), mean.map(torch.zeros_like)
    factor = _inverse(gram.root, eps)
    gram = gram.scaled(factor)
    below = None if moments.tangent is None else moments.tangent.scaled(factor * abs(gain))
    tangent = total([below, *_own_tangents(gram, weight, bias)])
    return Mixed(gram.scaled(abs(gain)), mean * factor * gain, tangent, moments.sources)


def _own_tangents(gram: Gram, weight: Tensor | None, bias: Tensor | None) -> list[Scaled | None]:
    return [
        gram.plain() if _trained(weight) else None,
        constant(gram.root, 1.0).plain() if _trained(bias) else None,
    ]


def _on_data(law: Data, rows: Rows, weight: Tensor | None, bias: Tensor | None) -> Data:
    """The raw input may have gains and biases that differ: its features are known one by one."""
    if law.tangent is not None:
        raise RULES.unsupported(
            "a second norm on the raw input",
            "The units of the raw input are few, so the derivative of the norm does not vanish.",
        )
    if not all(bool(side.isfinite().all()) for side in (rows.left, rows.right)):
        raise RangeError(
            "A norm with eps = 0 divides by zero: the features of an input are all equal (for "
            "RMSNorm, all zero). Use a positive eps, or leave such inputs out."
        )
    own = _unknown(rows) if _trained(weight) or _trained(bias) else None
    if weight is not None:
        rows = rows * weight.detach().to(rows.left)
    if bias is not None:
        rows = rows.map(torch.add, bias.detach().to(rows.left))
    return Data(rows, own)


def _unknown(rows: Rows) -> Unknown:
    """What trained gains and biases of the raw input add: it stays random in the limit."""
    gram = of_vectors(rows_last(rows))
    error = RULES.unsupported(
        "the tangent kernel of a norm with trained gain or bias on the raw input",
        "Its parameters belong to single features, of which there are few, so that their "
        "gradients do not average out; freeze them with requires_grad_(False), or use "
        "elementwise_affine=False. The NNGP is not affected.",
    )
    return Unknown(gram.root, gram.plain().cosine, error)


def _inverse(root: Rows, eps: float) -> Rows:
    def inverse(r: Tensor) -> Tensor:
        return safe_divide(torch.ones_like(r), hypotenuse(r, torch.full_like(r, eps**0.5)))

    return root.map(inverse)
