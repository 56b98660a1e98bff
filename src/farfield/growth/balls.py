"""Normalised vectors: their radius, where they can point, and what their units can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from farfield.growth.bound_tensor import BoundTensor, constant
from farfield.growth.dual import pull, refine
from farfield.growth.graph import Affine, Ball, Cone, Node, Pointwise
from farfield.growth.intervals import UNIT, finite, largest, tidy

_WIDER = 1.0 + 1e-13  # for the rounding of radii and bases
_MOST_UNITS = 2048  # of a vector whose directions are worked out
_LEAK = 1e-6  # the most that rounding may leak out of a cone for it to be used


def normalised(
    x: BoundTensor,
    kind: str,
    groups: int,
    eps: float | int,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
) -> BoundTensor:
    """``gain t + bias`` with t = x / sqrt(mean(x^2) + eps) in each group, centred or not.

    Args:
        x: What is normalised.
        kind: What the norm is called.
        groups: How many vectors there are; reshaping to (groups, n) gives them.
        eps: What is added to the mean square.
        weight: Gains, broadcast to the shape of x.
        bias: Biases, likewise.
        centred: Whether the mean is subtracted first.

    Returns:
        The normalised value.
    """
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
    return ball(x, kind, groups, radius, weight, bias, centred=centred, eps=float(eps))


def _mean_square(node: Node, groups: int, *, centred: bool) -> Tensor:
    """The most that the variance (or the mean square) of each group can be."""
    lower, upper = node.lower.reshape(groups, -1), node.upper.reshape(groups, -1)
    middle = torch.zeros(groups, 1, dtype=torch.float64)
    if centred:  # the variance is at most the mean square distance from any number
        middle = finite((lower + upper) / 2).mean(1, keepdim=True)
    return largest(lower - middle, upper - middle).square().mean(1) * _WIDER


def ball(
    x: BoundTensor,
    kind: str,
    groups: int,
    radius: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    centred: bool,
    eps: float | int | None = None,
) -> BoundTensor:
    """``gain t + bias`` with |t| at most the radius in each group; see :func:`normalised`."""
    shape = x.node.shape
    gain = torch.ones(shape, dtype=torch.float64)
    shift = torch.zeros(shape, dtype=torch.float64)
    if weight is not None:
        gain = gain * constant(weight)
    if bias is not None:
        shift = shift + constant(bias)
    cone = _cone(x.node, centred=centred) if groups == 1 else None
    step = Ball(groups, radius, centred, gain, shift, cone, kind, eps)
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


def recognised(x: BoundTensor, factor: BoundTensor) -> BoundTensor | None:
    """The product, if it is ``x * rsqrt(mean(x * x) + eps)``: RMSNorm written by hand.

    LayerNorm written by hand is the same of ``x - mean(x)``.
    """
    below = _under_root(factor.node)
    if below is None or len(below.parents) != 1 or not isinstance(below.step, Affine):
        return None
    mean, eps = below, 0.0
    if below.place.operation == "add":
        shift = below.step.offset
        (mean,) = below.parents
        if bool((shift != shift.flatten()[0]).any()):
            return None
        eps = float(shift.flatten()[0])
    if mean.place.operation != "mean" or len(mean.parents) != 1 or eps < 0:
        return None
    (square,) = mean.parents
    is_square = isinstance(square.step, Pointwise) and square.step.curve.name == "square"
    if not is_square or square.parents[0] is not x.node:
        return None
    if mean.shape != (*x.node.shape[:-1], 1):
        return None
    groups = x.node.lower.numel() // x.node.shape[-1]
    return normalised(x, "RMSNorm", groups, eps, None, None, centred=False)


def _under_root(node: Node) -> Node | None:
    """y, if this is 1 / sqrt(y)."""
    if not isinstance(node.step, Pointwise):
        return None
    (below,) = node.parents
    if node.step.curve.name == "rsqrt":
        return below
    if node.step.curve.name == "reciprocal" and isinstance(below.step, Pointwise):
        return below.parents[0] if below.step.curve.name == "sqrt" else None
    return None
