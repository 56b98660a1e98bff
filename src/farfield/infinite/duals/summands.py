"""What a trained gain adds behind an activation, when it multiplies only a part of the unit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from farfield.errors import UnsupportedOperation
from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.rectified import linear_in_angle
from farfield.infinite.gram import Gram, Scaled, Tangent, Unknown
from farfield.infinite.pairs import Deferred, Rows
from farfield.infinite.safe import safe_divide, safe_sqrt


def summand_gain(function: Activation, whole: Gram, summand: Gram) -> Tangent:
    r"""``E[u v phi'(z) phi'(z')]`` for units z = u + w with independent Gaussians u and w.

    With phi' = e + o sign(z), c the cosine of (z, z') at the angle theta, gamma that of (u, v), and
    p, p' the shares of the standard deviations of z, z' that u and v have, it is

    ``|u| |v| (e^2 gamma + o^2 (gamma (1 - 2 theta / pi) + 2 B / (pi sin theta)))``
    with ``B = p p' (1 + gamma^2) - (p^2 + p'^2) gamma c``,

    by Gaussian integration by parts, twice: derived here, and checked against finite networks and
    numerical integration. For u = z it is the kernel of ReLU itself.

    Args:
        function: phi; only functions with one slope on each half line have a rule.
        whole: Second moments of z.
        summand: Those of u.

    Returns:
        The kernel; for other functions one that raises when it is asked for.
    """
    halves = function.halves
    if halves is None or halves.degree > 1 or len(set(halves.coefficients(0))) > 1:
        return Unknown(_error())
    below, above = halves.coefficients(1)
    even, odd = (below + above) / 2.0, (above - below) / 2.0
    size = math.hypot(even, odd)
    if size == 0.0:
        return summand.plain().scaled(0.0)
    share = summand.root.map(safe_divide, whole.root)
    cosine = Deferred(_cosine, share, summand.angle, whole.angle, (odd / size) ** 2)
    return Scaled(summand.root * size, cosine)


def _cosine(share: Rows, summand: Angle, whole: Angle, odd: float) -> Tensor:
    """In a tile: the value over |u|, |v| and the size of the slopes."""
    if odd == 0.0:
        return summand.cosine
    signs = summand.cosine * linear_in_angle(-1.0, whole)
    turned = _turned(share, summand, whole)
    return (1.0 - odd) * summand.cosine + odd * (signs + (2.0 / math.pi) * turned)


def _turned(share: Rows, summand: Angle, whole: Angle) -> Tensor:
    """``B / sin theta``, from terms that vanish with the angle to the nearer one of z' and -z'."""
    both, near = share.outer(), whole.cosine >= 0
    apart = torch.where(near, whole.apart, whole.together)
    other = torch.where(near, summand.apart, summand.together)
    gamma = torch.where(near, summand.cosine, -summand.cosine)
    bend = both * (other * other + 2.0 * gamma * apart)
    bend = bend - share.gap().square() * gamma * whole.cosine.abs()
    return safe_divide(bend, safe_sqrt(apart * (2.0 - apart)))


def _error() -> UnsupportedOperation:
    return UnsupportedOperation(
        "The tangent kernel of a curved activation on a sum with the output of a norm that has a "
        "trained gain has no rule in the infinite-width limit; ReLU and its relatives have one. "
        "Freeze the norm's weight with requires_grad_(False), or use "
        "farfield.monte_carlo(model, x1, x2). The NNGP is not affected."
    )
