r"""Expectations over a Gaussian pair by quadrature, for any function, at any angle and width.

In polar coordinates u = r1 rho cos(omega), v = r2 rho cos(omega - theta) the lines u = 0 and
v = 0, where most activations bend, are the ends of the angular panels: with alpha + beta =
pi - theta one panel holds u = r1 rho sin(beta), v = r2 rho sin(alpha), and with alpha + beta =
theta the other holds u = -r1 rho sin(alpha), v = r2 rho sin(beta). Bends elsewhere, at |u| = k,
cut the radii; the angles at which two such cuts meet cut the panels. On each piece the function
is smooth, up to layers at the ends where the Gaussian is very wide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.duals.nodes import Rule

Function = Callable[[Tensor], Tensor]

_REACH = 9.5  # exp(-reach^2 / 2) is below 1e-19
_REACH_OF_ROWS = 13.0  # rows are few, so even squares of exponentials may be reached
_ENTRIES = 2**17  # function values held at once


@dataclass(frozen=True)
class Estimate:
    """A quadrature's value, how much it changes with the coarse rule, and what it may leave out.

    The changes of the pieces, and those along each coordinate, are added without their signs:
    a difference that is small by chance in one of them does not hide the others.

    Attributes:
        value: The integral.
        change: What the coarse rule makes of it, less the value.
        beyond: The size of the integrand where the integral is cut off. It matters for functions
            that grow exponentially.
    """

    value: Tensor
    change: Tensor
    beyond: Tensor

    @classmethod
    def unknown(cls, like: Tensor) -> Estimate:
        """Of which nothing is known yet."""
        nothing = torch.zeros_like(like)
        return cls(nothing, torch.full_like(like, math.inf), nothing)

    def take(self, index: Tensor) -> Estimate:
        """Some of the values."""
        return Estimate(self.value[index], self.change[index], self.beyond[index])

    def put(self, index: Tensor, other: Estimate) -> Estimate:
        """With others in these places."""
        return Estimate(
            self.value.index_copy(0, index, other.value),
            self.change.index_copy(0, index, other.change),
            self.beyond.index_copy(0, index, other.beyond),
        )


@dataclass(frozen=True)
class Pairs:
    """Gaussian pairs, float64, each of shape (m,).

    Attributes:
        left: Standard deviations r1.
        right: Standard deviations r2.
        angle: theta, accurate where it is small.
        supplement: pi - theta, accurate where it is small.
    """

    left: Tensor
    right: Tensor
    angle: Tensor
    supplement: Tensor

    def take(self, index: Tensor | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.left[index], self.right[index], self.angle[index], self.supplement[index])


def expectation(function: Function, r: Tensor, kinks: Collection[float], rule: Rule) -> Estimate:
    """``E[f(u)]`` for u ~ N(0, r^2).

    Args:
        function: f, entry by entry.
        r: Standard deviations, any shape, float64.
        kinks: Where f bends or jumps.
        rule: Nodes on each piece.

    Returns:
        Values in the shape of ``r``.
    """
    rule = rule.to(r.device)
    rows = r.reshape(-1, 1)
    cuts = _radial_cuts([(rows, bend) for bend in _bends(kinks)], _REACH_OF_ROWS)
    value, change = torch.zeros_like(rows[:, 0]), torch.zeros_like(rows[:, 0])
    whole = [(torch.zeros_like(rows), torch.full_like(rows, _REACH_OF_ROWS))]
    beyond = torch.zeros_like(value)
    for start, end in cuts or whole:
        rho = start * rule.rest + end * rule.x
        density = torch.exp(-0.5 * rho * rho) * ((end - start) / math.sqrt(2.0 * math.pi))
        values = (function(rows * rho) + function(-rows * rho)) * density
        fine = values @ rule.fine
        value, change = value + fine, change + (fine - values @ rule.coarse).detach().abs()
        beyond = values[:, -1].detach().abs()
    return Estimate(value.reshape(r.shape), change.reshape(r.shape), beyond.reshape(r.shape))


def pair_expectation(
    function: Function, pairs: Pairs, kinks: Collection[float], rule: Rule
) -> Estimate:
    """``E[f(u) f(v)]`` for Gaussian pairs.

    Args:
        function: f, entry by entry.
        pairs: m pairs.
        kinks: Where f bends or jumps.
        rule: Nodes on each piece, along each coordinate.

    Returns:
        Values of shape (m,).
    """
    bends = _bends(kinks)
    size = max(1, _ENTRIES // len(rule.x) ** 2)
    pieces = [
        _chunk(function, pairs.take(slice(start, start + size)), bends, rule)
        for start in range(0, len(pairs.left), size)
    ]
    if not pieces:
        nothing = torch.zeros_like(pairs.left)
        return Estimate(nothing, nothing, nothing)
    return Estimate(
        torch.cat([piece.value for piece in pieces]),
        torch.cat([piece.change for piece in pieces]),
        torch.cat([piece.beyond for piece in pieces]),
    )


def _chunk(function: Function, pairs: Pairs, bends: Sequence[float], rule: Rule) -> Estimate:
    left, right = pairs.left, pairs.right
    rule = rule.to(left.device)
    r1, r2 = left[:, None, None], right[:, None, None]
    value, change, beyond = (torch.zeros_like(left) for _ in range(3))
    for whole, sign in [(pairs.supplement, 1.0), (pairs.angle, -1.0)]:
        for first, last in _angular_cuts(left, right, whole, bends):
            # alpha runs from `first` to `last`; beta = whole - alpha.
            alpha = first[:, None] * rule.rest + last[:, None] * rule.x
            beta = (whole - first)[:, None] * rule.rest + (whole - last)[:, None] * rule.x
            a, b = torch.sin(alpha)[..., None], torch.sin(beta)[..., None]
            width1, width2 = r1 * b, r2 * a
            cuts = _radial_cuts(
                [(width1, bend) for bend in bends] + [(width2, bend) for bend in bends],
                _REACH,
            ) or [(torch.zeros_like(width1), torch.full_like(width1, _REACH))]
            for start, end in cuts:
                rho = start * rule.rest + end * rule.x
                u, v = width1 * rho, width2 * rho
                values = function(u) * function(sign * v) + function(-u) * function(-sign * v)
                values = values * (rho * torch.exp(-0.5 * rho * rho)) * (end - start)
                arc = (last - first) / (2.0 * math.pi)
                radial = values @ rule.fine
                fine = arc * (radial @ rule.fine)
                value = value + fine
                with torch.no_grad():
                    change += (fine - arc * (radial @ rule.coarse)).abs()
                    change += (fine - arc * ((values @ rule.coarse) @ rule.fine)).abs()
            beyond = torch.maximum(beyond, values[..., -1].detach().abs().amax(-1))
    return Estimate(value, change, beyond)


def _bends(kinks: Collection[float]) -> list[float]:
    return sorted({abs(kink) for kink in kinks if kink})


def _radial_cuts(
    bends: Sequence[tuple[Tensor, float]], reach: float
) -> list[tuple[Tensor, Tensor]]:
    """Pieces of (0, reach), cut where width * rho is a bend."""
    if not bends:
        return []
    widths = torch.stack([bend / width.clamp_min(1e-300) for width, bend in bends])
    cuts = widths.clamp(max=reach).sort(0).values
    zero, end = torch.zeros_like(cuts[:1]), torch.full_like(cuts[:1], reach)
    edges = torch.cat([zero, cuts, end]).unbind(0)
    return list(itertools.pairwise(edges))


def _angular_cuts(
    left: Tensor, right: Tensor, whole: Tensor, bends: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """Pieces of (0, whole), cut where the radial cuts k / (r1 sin beta), k' / (r2 sin alpha) meet.

    With alpha + beta = whole, ``tan alpha = k' r1 sin(whole) / (k r2 + k' r1 cos(whole))``.
    """
    zero = torch.zeros_like(whole)
    cuts = [
        torch.atan2(
            other * left * torch.sin(whole), bend * right + other * left * torch.cos(whole)
        ).clamp(min=zero, max=whole)
        for bend in bends
        for other in bends
    ]
    if not cuts:
        return [(zero, whole)]
    edges = [zero, *torch.stack(cuts).sort(0).values.unbind(0), whole]
    return list(itertools.pairwise(edges))
