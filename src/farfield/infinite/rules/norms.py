"""Normalisation over the units of one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.infinite.duals.closed import affine
from farfield.infinite.laws import (
    IDENTITY,
    Gaussian,
    Law,
    Mixed,
    Pointwise,
    gaussian_of,
    mixed,
)
from farfield.infinite.limit_tensor import KEEP, RULES, LimitTensor
from farfield.infinite.pairs import Rows
from farfield.infinite.rules.arithmetic import add
from farfield.infinite.rules.gains import gained, shifted
from farfield.infinite.safe import hypotenuse, safe_divide


@RULES.register(F.layer_norm, torch.layer_norm, mark=KEEP)
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
    _check(x, normalized_shape, "layer_norm")
    units = x.with_law(_normalised(x.law, float(eps), centred=True))
    if weight is not None:
        units = gained(units, weight, "layer_norm")
    if bias is None:
        return units
    units, shift = shifted(units, bias, "layer_norm")
    return add(units, shift) if shift else units


@RULES.register(F.rms_norm, torch.rms_norm, mark=KEEP)
def rms_norm(
    x: LimitTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> LimitTensor:
    """Divide by the root of the units' mean square: LayerNorm without the subtraction."""
    _check(x, normalized_shape, "rms_norm")
    # PyTorch's own default.
    floor = torch.finfo(x.dtype).eps if eps is None else eps
    units = x.with_law(_normalised(x.law, float(floor), centred=False))
    return units if weight is None else gained(units, weight, "rms_norm")


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


def _check(x: LimitTensor, normalized_shape: Sequence[int], what: str) -> None:
    if tuple(normalized_shape) != tuple(x.shape[-1:]) or x.ndim < 2:
        raise RULES.unsupported(
            f"{what} over the dimensions {tuple(normalized_shape)}",
            "Only the last dimension, the one of the units, has a rule.",
        )


def _normalised(law: Law, eps: float, *, centred: bool) -> Law:
    base = _gaussian_around(law) if centred else gaussian_of(law)
    if base is not None:
        return Pointwise(base.scaled(_inverse(base.gram.root, eps)), IDENTITY)
    moments = mixed(law)
    gram, mean = moments.gram, moments.mean
    if centred:
        gram, mean = moments.covariance(), mean.map(torch.zeros_like)
    factor = _inverse(gram.root, eps)
    tangent = None if moments.tangent is None else moments.tangent.scaled(factor)
    return Mixed(gram.scaled(factor), mean * factor, tangent, moments.sources)


def _gaussian_around(law: Law) -> Gaussian | None:
    """The Gaussian that a law is but for a number that is added to all units."""
    if not isinstance(law, Pointwise):
        return None
    halves = law.function.halves
    if halves is None or not halves.is_polynomial or halves.degree > 1:
        return None
    return gaussian_of(replace(law, function=affine(IDENTITY, halves.coefficients(1)[0], 0.0)))


def few_features() -> Exception:
    """Why norms with trained parameters on the raw input have no tangent kernel."""
    return RULES.unsupported(
        "the tangent kernel of a norm with trained gain or bias on the raw input",
        "Its parameters belong to single features, of which there are few, so that their "
        "gradients do not average out; freeze them with requires_grad_(False), or use "
        "elementwise_affine=False. The NNGP is not affected.",
    )


def _inverse(root: Rows, eps: float) -> Rows:
    def inverse(r: Tensor) -> Tensor:
        return safe_divide(torch.ones_like(r), hypotenuse(r, torch.full_like(r, eps**0.5)))

    return root.map(inverse)
