"""Normalisation: what bounds a network, and what does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.balls import ball, normalised
from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.rules.arithmetic import scaled


@RULES.register(F.layer_norm, torch.layer_norm)
def layer_norm(
    x: BoundTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enable: bool = True,
) -> BoundTensor:
    r"""``g t + b`` with t = (x - mean) / sqrt(var + eps): sum t = 0 and |t|^2 <= n.

    |t|^2 = n var / (var + eps), which is below n, and nears it as the input grows.
    """
    shape = tuple(normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise RULES.unsupported(
            f"layer_norm over {shape} of a value of shape {tuple(x.shape)[1:]}",
            "Give the shape of one input as input_shape.",
        )
    count = math.prod(shape)
    return normalised(
        x, "LayerNorm", x.node.lower.numel() // count, float(eps), weight, bias, centred=True
    )


@RULES.register(F.rms_norm, torch.rms_norm)
def rms_norm(
    x: BoundTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> BoundTensor:
    """``g t`` with t = x / sqrt(mean(x^2) + eps): |t|^2 <= n."""
    shape = tuple(normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise RULES.unsupported(f"rms_norm over {shape} of a value of shape {tuple(x.shape)[1:]}")
    count = math.prod(shape)
    floor = torch.finfo(torch.float64).eps if eps is None else float(eps)
    return normalised(
        x, "RMSNorm", x.node.lower.numel() // count, floor, weight, None, centred=False
    )


@RULES.register(F.group_norm, torch.group_norm)
def group_norm(
    x: BoundTensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enabled: bool = True,
) -> BoundTensor:
    """LayerNorm over each group of channels and all positions."""
    _one_input(x, "group_norm")
    return normalised(
        x, "GroupNorm", int(num_groups), float(eps), _channels(x, weight), _channels(x, bias),
        centred=True,
    )  # fmt: skip


@RULES.register(F.instance_norm, torch.instance_norm)
def instance_norm(
    x: BoundTensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | int = 0.1,
    eps: float | int = 1e-5,
    cudnn_enabled: bool = True,
) -> BoundTensor:
    """LayerNorm over the positions of each channel, or an affine map with running statistics."""
    _one_input(x, "instance_norm")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return normalised(
        x, "InstanceNorm", int(x.shape[1]), float(eps), _channels(x, weight), _channels(x, bias),
        centred=True,
    )  # fmt: skip


@RULES.register(F.normalize)
def normalize(
    x: BoundTensor, p: float | int = 2.0, dim: int = 1, eps: float | int = 1e-12, out: None = None
) -> BoundTensor:
    """A vector divided by its length: |t| <= 1."""
    if p != 2 or dim % x.ndim != x.ndim - 1:
        raise RULES.unsupported(
            "normalize over other dimensions than the last, or with another norm than the second",
            "The last dimension with p = 2 has a rule.",
        )
    groups = x.node.lower.numel() // int(x.shape[-1])
    return ball(x, "normalize", groups, torch.ones(groups).double(), None, None, centred=False)


@RULES.register(F.batch_norm, torch.batch_norm)
def batch_norm(
    x: BoundTensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | int = 0.1,
    eps: float | int = 1e-5,
    cudnn_enabled: bool = True,
) -> BoundTensor:
    """In eval mode a factor and a shift for each channel, which bound nothing.

    Raises:
        UnsupportedOperation: In training mode, or without running statistics.
    """
    if training or running_mean is None or running_var is None:
        raise RULES.unsupported(
            "batch_norm with the statistics of the batch",
            "The output for one input depends on the others then; call model.eval(), with "
            "track_running_stats=True.",
        )
    factor = (constant(running_var) + eps).rsqrt()
    if weight is not None:
        factor = factor * constant(weight)
    shift = -constant(running_mean) * factor
    if bias is not None:
        shift = shift + constant(bias)
    result = scaled(x, _one_each(x, factor), "batch_norm", "batch norm")
    return result.affine("batch_norm", lambda u: u, offset=_one_each(x, shift), terms=2)


@RULES.refuse(F.local_response_norm)
def refused(x: BoundTensor, *args: object, **options: object) -> BoundTensor:
    """Refuse norms without a rule.

    Raises:
        UnsupportedOperation: Always.
    """
    raise RULES.unsupported("local_response_norm")


def _one_input(x: BoundTensor, name: str) -> None:
    if x.shape[0] != 1:
        raise RULES.unsupported(f"{name} of a batch that was made in forward")


def _channels(x: BoundTensor, parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else _one_each(x, constant(parameter))


def _one_each(x: BoundTensor, channels: Tensor) -> Tensor:
    return channels.reshape(-1, *(1,) * (x.ndim - 2))
