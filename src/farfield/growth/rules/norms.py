"""Normalisation: what bounds a network, and what does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.dual import pull, refine
from farfield.growth.graph import Affine, Ball, Cone, Node
from farfield.growth.intervals import UNIT, finite, largest, tidy
from farfield.growth.rules.arithmetic import scaled

_WIDER = 1.0 + 1e-13  # for the rounding of radii and bases
_MOST_UNITS = 2048  # of a vector whose directions are worked out
_LEAK = 1e-6  # the most that rounding may leak out of a cone for it to be used


@RULES.register(F.layer_norm, torch.layer_norm)
def layer_norm(
    x: BoundTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
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
    return _normalised(
        x, "LayerNorm", x.node.lower.numel() // count, float(eps), weight, bias, centred=True
    )


@RULES.register(F.rms_norm, torch.rms_norm)
def rms_norm(
    x: BoundTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> BoundTensor:
    """``g t`` with t = x / sqrt(mean(x^2) + eps): |t|^2 <= n."""
    shape = tuple(normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise RULES.unsupported(f"rms_norm over {shape} of a value of shape {tuple(x.shape)[1:]}")
    count = math.prod(shape)
    floor = torch.finfo(torch.float64).eps if eps is None else float(eps)
    return _normalised(
        x, "RMSNorm", x.node.lower.numel() // count, floor, weight, None, centred=False
    )


@RULES.register(F.group_norm, torch.group_norm)
def group_norm(
    x: BoundTensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> BoundTensor:
    """LayerNorm over each group of channels and all positions."""
    _one_input(x, "group_norm")
    return _normalised(
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
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> BoundTensor:
    """LayerNorm over the positions of each channel, or an affine map with running statistics."""
    _one_input(x, "instance_norm")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _normalised(
        x, "InstanceNorm", int(x.shape[1]), float(eps), _channels(x, weight), _channels(x, bias),
        centred=True,
    )  # fmt: skip


@RULES.register(F.normalize)
def normalize(
    x: BoundTensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> BoundTensor:
    """A vector divided by its length: |t| <= 1."""
    if p != 2 or dim % x.ndim != x.ndim - 1:
        raise RULES.unsupported(
            "normalize over other dimensions than the last, or with another norm than the second",
            "The last dimension with p = 2 has a rule.",
        )
    groups = x.node.lower.numel() // int(x.shape[-1])
    return _ball(x, "normalize", groups, torch.ones(groups).double(), None, None, centred=False)


@RULES.register(F.batch_norm, torch.batch_norm)
def batch_norm(
    x: BoundTensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
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
    result = scaled(x, _channels(x, factor), "batch_norm", "batch norm")
    return result.affine("batch_norm", lambda u: u, offset=_channels(x, shift), terms=2)


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


def _channels(x: BoundTensor, parameter: Tensor | None) -> Tensor:
    if parameter is None:
        return torch.ones(())
    return constant(parameter).reshape(-1, *(1,) * (x.ndim - 2))


def _normalised(
    x: BoundTensor,
    kind: str,
    groups: int,
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
) -> BoundTensor:
    node = x.node
    refine(node)
    count = node.lower.numel() // groups
    if eps == 0.0:
        where = "are all equal" if centred else "are all zero"
        x.reading.note(
            f"A {kind} has eps = 0: it divides 0 by 0 where its inputs {where}; the certificate is "
            "of all other inputs."
        )
    most = _mean_square(node, groups, centred=centred)
    share = torch.where(most.isinf(), 1.0, most / (most + eps)) if eps else torch.ones_like(most)
    radius = (count * share).sqrt() * _WIDER
    return _ball(x, kind, groups, radius, weight, bias, centred=centred)


def _mean_square(node: Node, groups: int, *, centred: bool) -> Tensor:
    """The most that the variance (or the mean square) of each group can be."""
    lower, upper = node.lower.reshape(groups, -1), node.upper.reshape(groups, -1)
    middle = torch.zeros(groups, 1, dtype=torch.float64)
    if centred:  # the variance is at most the mean square distance from any number
        middle = finite((lower + upper) / 2).mean(1, keepdim=True)
    return largest(lower - middle, upper - middle).square().mean(1) * _WIDER


def _ball(
    x: BoundTensor,
    kind: str,
    groups: int,
    radius: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
) -> BoundTensor:
    shape = x.node.shape
    gain = torch.ones(shape, dtype=torch.float64)
    shift = torch.zeros(shape, dtype=torch.float64)
    if weight is not None:
        gain = gain * constant(weight)
    if bias is not None:
        shift = shift + (constant(bias) if bias.ndim else 0.0)
    cone = _cone(x.node, centred=centred) if groups == 1 else None
    step = Ball(groups, radius, centred, gain, shift, cone, kind)
    low, high = _units(step)
    ends = torch.stack([gain * low, gain * high])
    lower, upper = ends.amin(0) + shift, ends.amax(0) + shift
    margin = 1e-13 * (largest(ends.amin(0), ends.amax(0)) + shift.abs())
    lower, upper = tidy(lower - margin, upper + margin)
    new = x.reading.add(kind, lower, upper, torch.zeros_like(lower), step, [x.node])
    return BoundTensor(new, x.reading)


def _units(step: Ball) -> tuple[Tensor, Tensor]:
    """Least and largest value of each unit of t."""
    shape = step.gain.shape
    if step.cone is None:
        count = step.gain.numel() // step.groups
        share = math.sqrt(1.0 - 1.0 / count) if step.centred else 1.0
        high = (step.radius[:, None] * share).expand(step.groups, count).reshape(shape)
        return -high, high
    rows = torch.eye(step.gain.numel(), dtype=torch.float64)
    high = step.radius * step.cone.longest(rows)
    low = -step.radius * step.cone.longest(-rows)
    return low.reshape(shape), high.reshape(shape)


def _cone(node: Node, *, centred: bool) -> Cone | None:
    """Where a value points that is an affine function of fewer numbers than it has units.

    ``A x + c`` lies in the space of the columns of A and c, on the side of c. With A = Q R (c
    last), a computed direction is off by |A - Q R| / sigma_min(R): the leak.
    """
    matrix = _affine_part(node)
    if matrix is None:
        return None
    before = torch.linalg.vector_norm(matrix, dim=0)
    if centred:
        matrix = matrix - matrix.mean(0, keepdim=True)
    scale = torch.linalg.vector_norm(matrix, dim=0)
    if float(before[-1]) == 0.0:  # no offset: both sides of the space
        matrix, scale, before = matrix[:, :-1], scale[:-1], before[:-1]
        offset = False
    else:
        offset = True
    units, columns = matrix.shape
    if columns == 0 or columns >= units - centred or not bool((scale > 0).all()):
        return None
    basis, triangle = torch.linalg.qr(matrix / scale)
    smallest = float(torch.linalg.svdvals(triangle)[-1])
    leak = 128.0 * (units + columns) * UNIT * columns * float((before / scale).max())
    if not math.isfinite(leak) or smallest * _LEAK <= leak:
        return None
    sign = math.copysign(1.0, float(triangle[-1, -1])) if offset else 0.0
    return Cone(basis, sign, leak / smallest)


def _affine_part(node: Node) -> Tensor | None:
    """The matrix (n, r + 1) of a value as an affine function of r other ones, the offset last."""
    count = node.lower.numel()
    if count > _MOST_UNITS:
        return None
    rows = {node.index: torch.eye(count, dtype=torch.float64).reshape(-1, *node.shape)}
    known = {node.index: node}
    offset = torch.zeros(count, dtype=torch.float64)
    columns: list[Tensor] = []
    wide = 0
    while known:
        index = max(known)
        now, part = known.pop(index), rows.pop(index)
        if not isinstance(now.step, Affine):
            wide += now.lower.numel()
            if wide + 1 >= count:
                return None
            columns.append(part.flatten(1))
            continue
        offset = offset + (part * now.step.offset).flatten(1).sum(1)
        for parent, below in zip(now.parents, pull(now.step, now.parents, part), strict=True):
            rows[parent.index] = rows.get(parent.index, 0.0) + below
            known[parent.index] = parent
    return torch.cat([*columns, offset[:, None]], 1)
