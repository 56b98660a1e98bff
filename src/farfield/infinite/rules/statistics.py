"""Means over the units of an input, for norms that are written out by hand.

In the limit they are known numbers, one for each input. Their derivatives are sums over the units
with random signs divided by the width: they add nothing to the tangent kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.infinite.laws import Data, mixed
from farfield.infinite.limit_tensor import RULES, LimitTensor
from farfield.infinite.pairs import Rows
from farfield.infinite.rules.arithmetic import div
from farfield.infinite.rules.squares import may_vanish, mean_of

Dimensions = int | Sequence[int] | None


@RULES.register(torch.mean, torch.Tensor.mean)
def mean(
    x: LimitTensor, dim: Dimensions = None, keepdim: bool = False, **options: Any
) -> LimitTensor:
    """The mean over the units."""
    return _statistic(x, mean_of(x), dim, keepdim, "mean")


@RULES.register(torch.sum, torch.Tensor.sum)
def total(
    x: LimitTensor, dim: Dimensions = None, keepdim: bool = False, **options: Any
) -> LimitTensor:
    """The sum over the units, of which there are as many as the model has.

    Raises:
        UnsupportedOperation: The units have mean zero, so that their sum stays random.
    """
    if may_vanish(x):
        raise RULES.unsupported(
            "the sum of units with mean zero",
            "It is of the order of the root of the width and stays random, while their mean, "
            "x.mean(-1), has a rule; for a random sum use a linear layer.",
        )
    return _statistic(x, mean_of(x) * float(x.shape[-1]), dim, keepdim, "sum", grows=True)


@RULES.register(torch.std, torch.Tensor.std)
def std(
    x: LimitTensor,
    dim: Dimensions = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: int = 1,
) -> LimitTensor:
    """The standard deviation over the units; corrections vanish in the limit."""
    return _statistic(x, _deviation(x), dim, keepdim, "std")


@RULES.register(torch.var, torch.Tensor.var)
def var(
    x: LimitTensor,
    dim: Dimensions = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: int = 1,
) -> LimitTensor:
    """The variance over the units; corrections vanish in the limit."""
    return _statistic(x, _deviation(x).map(torch.square), dim, keepdim, "var")


@RULES.register(torch.std_mean)
def std_mean(
    x: LimitTensor, dim: Dimensions = None, *args: Any, **options: Any
) -> tuple[LimitTensor, LimitTensor]:
    """The standard deviation and the mean."""
    deviation = std(x, dim, *args, **options)
    return deviation, mean(x, dim, deviation.ndim == x.ndim)


@RULES.register(torch.var_mean)
def var_mean(
    x: LimitTensor, dim: Dimensions = None, *args: Any, **options: Any
) -> tuple[LimitTensor, LimitTensor]:
    """The variance and the mean."""
    variance = var(x, dim, *args, **options)
    return variance, mean(x, dim, variance.ndim == x.ndim)


@RULES.register(torch.linalg.vector_norm)
def vector_norm(
    x: LimitTensor,
    ord: float | int | str = 2,  # noqa: A002 - PyTorch's name
    dim: Dimensions = None,
    keepdim: bool = False,
    **options: Any,
) -> LimitTensor:
    """The Euclidean norm of the units: the root of their number times their mean square."""
    if ord != 2:
        raise RULES.unsupported(f"a norm of order {ord}", "Order 2 has a rule.")
    root = mixed(x.law).gram.root * float(x.shape[-1]) ** 0.5
    return _statistic(x, root, dim, keepdim, "norm", grows=True)


@RULES.register(torch.norm, torch.Tensor.norm, torch.linalg.norm)
def norm(
    x: LimitTensor,
    p: float | int | str | None = "fro",
    dim: Dimensions = None,
    keepdim: bool = False,
    **options: Any,
) -> LimitTensor:
    """The same by its other names."""
    return vector_norm(x, 2 if p in ("fro", None) else p, dim, keepdim)


@RULES.register(F.normalize)
def normalize(
    x: LimitTensor, p: float | int = 2.0, dim: int = 1, eps: float = 1e-12, **options: Any
) -> LimitTensor:
    """Divide by the Euclidean norm."""
    length = vector_norm(x, p, dim, True)
    return div(x, torch.clamp(length, min=eps))


def _deviation(x: LimitTensor) -> Rows:
    return mixed(x.law).covariance().root


def _statistic(
    x: LimitTensor,
    rows: Rows,
    dim: Dimensions,
    keepdim: bool,
    what: str,
    *,
    grows: bool = False,
) -> LimitTensor:
    last = dim if isinstance(dim, int) or dim is None else dim[0] if len(dim) == 1 else None
    if last is None or last % x.ndim != x.ndim - 1 or x.ndim < 2:
        raise RULES.unsupported(
            f"{what} over the dimensions {dim}",
            "Only the last dimension, the one of the units, has a rule.",
        )

    def numbers(values: Tensor) -> Tensor:
        moved = values.movedim(-1, 0)
        return moved[..., None] if keepdim else moved

    shape = (*x.shape[:-1], 1) if keepdim else tuple(x.shape[:-1])
    alone = RULES.unsupported(
        f"the tangent kernel of a {what} over units that is a feature or an output",
        "It grows with the width, and so do its gradients; the mean over the units has none in the "
        "limit. The NNGP is not affected.",
    )
    return x.with_law(Data(rows.map(numbers), alone=alone if grows else None), shape)
