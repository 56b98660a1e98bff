r"""Affine forms: what a value is on a cell of inputs, up to an error.

A value y of n units on a cell with coordinates xi in [-1, 1]^d is

    |y - (centre + slopes xi)| <= error,   low <= y <= high,   unit by unit.

Where y grows with the input, the form is of ``rho y`` instead, which stays finite as the input
goes to infinity (:mod:`farfield.growth.cells`); there biases are multiplied by rho. The error of
each step is of second order in the size of the cell, so that smaller cells give tight bounds.
These are the zonotopes of Singh et al., "Fast and Effective Robustness Certification" (NeurIPS
2018), with the errors kept as intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.growth.curves import Curve
from farfield.growth.graph import Affine, Ball, LinearMap, length
from farfield.growth.intervals import largest, rounding

_TINY = 1e-300  # absolute rounding where numbers are denormal


@dataclass(frozen=True, eq=False)
class Form:
    """A value on K cells.

    Attributes:
        centre: (K, *shape).
        slopes: (d, K, *shape).
        error: (K, *shape), at least 0.
        low: No unit is below, (K, *shape).
        high: No unit is above.
    """

    centre: Tensor
    slopes: Tensor
    error: Tensor
    low: Tensor
    high: Tensor

    @property
    def radius(self) -> Tensor:
        """How far a unit can be from its centre, rounding included."""
        return _upwards(self.slopes.abs().sum(0) + self.error, len(self.slopes))

    @property
    def size(self) -> Tensor:
        """The sum of the sizes of all terms."""
        return self.centre.abs() + self.slopes.abs().sum(0) + self.error

    def within(self, low: Tensor, high: Tensor) -> Form:
        """The same, knowing that it is between two limits as well."""
        least, most = torch.maximum(self.low, low), torch.minimum(self.high, high)
        meet = least <= most  # else rounding, or a cell outside of the domain
        least, most = torch.where(meet, least, self.low), torch.where(meet, most, self.high)
        flat = interval(least, most, len(self.slopes))
        better = flat.error < self.error
        return Form(
            torch.where(better, flat.centre, self.centre),
            torch.where(better, flat.slopes, self.slopes),
            torch.where(better, flat.error, self.error),
            least,
            most,
        )

    def reshape(self, *shape: int) -> Form:
        """The same units in another shape."""
        count = len(self.centre)
        return Form(
            self.centre.reshape(count, *shape),
            self.slopes.reshape(len(self.slopes), count, *shape),
            *(x.reshape(count, *shape) for x in (self.error, self.low, self.high)),
        )


def _upwards(x: Tensor, terms: int) -> Tensor:
    return x * (1.0 + rounding(terms)) + _TINY


def form(centre: Tensor, slopes: Tensor, error: Tensor) -> Form:
    """A form, with the interval that follows."""
    radius = _upwards(slopes.abs().sum(0) + error, len(slopes))
    margin = rounding(1) * (centre.abs() + radius)
    return Form(centre, slopes, error, centre - radius - margin, centre + radius + margin)


def interval(low: Tensor, high: Tensor, sides: int) -> Form:
    """What is known to be between two numbers."""
    centre = low / 2.0 + high / 2.0
    error = _upwards((high - low) / 2.0 + rounding(1) * centre.abs(), 1)
    return Form(centre, torch.zeros(sides, *low.shape, dtype=torch.float64), error, low, high)


def affine(step: Affine, parents: Sequence[Form], rho: Form) -> Form:
    """``W x + b rho``; rho is 1 where the value itself is meant."""
    sides = len(rho.slopes)
    count = len(rho.centre)
    wider = [x.error + rounding(step.terms) * x.size for x in parents]
    stacks = [
        torch.cat([x.centre[None], x.slopes, e[None]]).flatten(0, 1)
        for x, e in zip(parents, wider, strict=True)
    ]
    signed = absolute = torch.zeros(sides + 2, count, *step.offset.shape, dtype=torch.float64)
    for part, sign in ((step.plus, 1.0), (step.minus, -1.0)):
        if part is not None:
            found = _each(part, stacks).reshape(signed.shape)
            signed, absolute = signed + sign * found, absolute + found
    unit = (-1, *(1,) * step.offset.ndim)
    centre = signed[0] + step.offset * rho.centre.reshape(unit)
    slopes = signed[1:-1] + step.offset * rho.slopes.reshape(sides, *unit)
    size = step.offset.abs() * rho.size.reshape(unit)
    error = absolute[-1] + step.offset.abs() * rho.error.reshape(unit)
    room = rounding(step.terms) * (error + size) + rounding(2) * (centre.abs() + _sum(slopes))
    return form(centre, slopes, _upwards(error + room, step.terms))


def _sum(slopes: Tensor) -> Tensor:
    return slopes.abs().sum(0)


def _each(part: LinearMap, stacks: Sequence[Tensor]) -> Tensor:
    found: Tensor = torch.vmap(part)(*stacks)
    return found


def times(x: Form, factor: Form) -> Form:
    """A value times a number: the product of the deviations is an error."""
    unit = (-1, *(1,) * (x.centre.ndim - 1))
    sides = len(x.slopes)
    c, radius = factor.centre.reshape(unit), factor.radius.reshape(unit)
    centre = x.centre * c
    slopes = x.slopes * c + x.centre * factor.slopes.reshape(sides, *unit)
    error = x.error * c.abs() + x.centre.abs() * factor.error.reshape(unit) + x.radius * radius
    room = rounding(4) * x.size * (c.abs() + radius)
    return form(centre, slopes, _upwards(error + room, 4))


def function(curve: Curve, x: Form) -> Form:
    """A function of each unit: a line, and how far the function is from it."""
    low, high = curve.interval(x.low, x.high)
    if curve.bend is None:
        return interval(low, high, len(x.slopes))
    slope, middle, error = curve.line(x.low, x.high)
    return _through(x, slope, middle, error).within(low, high)


def _through(x: Form, slope: Tensor, middle: Tensor, error: Tensor) -> Form:
    """``slope x + middle``, up to an error."""
    size = slope.abs() * x.size + middle.abs()
    room = error + slope.abs() * x.error + rounding(4) * size
    return form(slope * x.centre + middle, slope * x.slopes, _upwards(room, 4))


def scaled_function(curve: Curve, x: Form, rho: Form) -> Form:
    """``rho phi(y)`` from ``x = rho y``, with phi near its asymptotes where y may be infinite."""
    assert curve.asymptotes is not None
    left, right, rest = curve.asymptotes
    unit = (-1, *(1,) * (x.centre.ndim - 1))
    most = rho.high.reshape(unit)
    corner = Curve(
        "asymptotes", lambda u: torch.where(u > 0, right * u, left * u), left, right,
        kinks=(0.0,), bend=lambda a, b: torch.zeros_like(a),
    )  # fmt: skip
    slope, middle, error = corner.line(x.low, x.high)
    far = _through(x, slope, middle, error + rest * most)
    if rest == 0.0 or curve.bend is None:
        return far
    low, high = _quotients(x, rho)
    near = low.isfinite() & high.isfinite()
    slope, middle, error = curve.line(torch.where(near, low, 0.0), torch.where(near, high, 0.0))
    # rho phi(y) = slope (rho y) + middle rho, up to rho times the error
    at = rho.reshape(*unit[1:])
    size = slope.abs() * x.size + middle.abs() * at.size
    room = error * most + slope.abs() * x.error + middle.abs() * at.error + rounding(4) * size
    close = form(
        slope * x.centre + middle * at.centre,
        slope * x.slopes + middle * at.slopes,
        _upwards(room, 4),
    )
    better = near & (close.error < far.error)
    low, high = torch.maximum(close.low, far.low), torch.minimum(close.high, far.high)
    return Form(
        torch.where(better, close.centre, far.centre),
        torch.where(better, close.slopes, far.slopes),
        torch.where(better, close.error, far.error),
        torch.where(near & (low <= high), low, far.low),
        torch.where(near & (low <= high), high, far.high),
    )


def bounded_function(curve: Curve, x: Form, rho: Form) -> Form:
    """``phi(y)`` from ``x = rho y``, of a function that is bounded."""
    low, high = _quotients(x, rho)
    least, most = curve.interval(low, high)
    flat = interval(least, most, len(x.slopes))
    if curve.bend is None:
        return flat
    unit = (-1, *(1,) * (x.centre.ndim - 1))
    apart = rho.low > 0.0
    inverse = function(_INVERSE, _where(apart, rho, one(rho)))
    inside = apart.reshape(unit) & low.isfinite() & high.isfinite()
    y = times(x, inverse).within(
        torch.where(inside, low, -torch.inf), torch.where(inside, high, torch.inf)
    )
    found = function(curve, y).within(least, most)
    return _where(inside.expand_as(low), found, flat)


_INVERSE = Curve(
    "reciprocal", torch.reciprocal, 0.0, 0.0, bend=lambda a, b: 2.0 / torch.minimum(a, b) ** 3
)


def one(like: Form) -> Form:
    """The number 1 on the same cells."""
    ones, zeros = torch.ones_like(like.centre), torch.zeros_like(like.centre)
    return Form(ones, torch.zeros_like(like.slopes), zeros, ones, ones)


def _where(mask: Tensor, x: Form, y: Form) -> Form:
    return Form(
        torch.where(mask, x.centre, y.centre),
        torch.where(mask, x.slopes, y.slopes),
        torch.where(mask, x.error, y.error),
        torch.where(mask, x.low, y.low),
        torch.where(mask, x.high, y.high),
    )


def _quotients(x: Form, rho: Form) -> tuple[Tensor, Tensor]:
    """The interval of ``x / rho``, infinite where rho may be 0."""
    unit = (-1, *(1,) * (x.centre.ndim - 1))
    least, most = rho.low.clamp(min=0.0).reshape(unit), rho.high.reshape(unit)
    high = torch.where(x.high > 0, x.high / least, x.high / most)
    low = torch.where(x.low < 0, x.low / least, x.low / most)
    return low - rounding(1) * low.abs(), high + rounding(1) * high.abs()


def on_ball(step: Ball, x: Form, rho: Form) -> Form:
    r"""A normalised vector ``g t + b``, from ``x = rho y``.

    With Y = (x, sqrt(n eps) rho), x centred if the norm does so, ``t = sqrt(n) Y / |Y|`` without
    the last entry. For v = Y - c, the second derivative of Y / |Y| along v is at most
    ``2 (|v_i| |v| + |Y_i| |v|^2 / |Y|) / |Y|^2`` in entry i: half of it is the error of the
    tangent at c.
    """
    assert step.eps is not None
    count, units = step.groups, step.gain.numel() // step.groups
    sides = len(x.slopes)
    y = x.reshape(count, units)
    if step.centred:
        y = _centred(y)
    root = (units * step.eps) ** 0.5
    last = rho.reshape(1, 1)
    c = torch.cat([y.centre, (root * last.centre).expand(-1, count, 1)], -1)
    slopes = torch.cat([y.slopes, (root * last.slopes).expand(-1, -1, count, 1)], -1)
    error = torch.cat([y.error, (root * last.error).expand(-1, count, 1)], -1)
    error = error + rounding(2) * (c.abs() + _sum(slopes))  # of the root and its products
    size = length(c)[..., None]
    # |v| over the cell, and how near Y can come to 0
    wide = length(slopes).sum(0)[..., None] + length(error)[..., None]
    wide = _upwards(wide, units + sides)
    near = size * (1.0 - rounding(units)) - wide
    inside = near > 1e-6 * size
    size, near = torch.where(inside, size, 1.0), torch.where(inside, near, 1.0)
    ahead = c / size
    along = (ahead * slopes).sum(-1, keepdim=True)
    tangent = (slopes - ahead * along) / size
    spread = (error + ahead.abs() * (ahead.abs() * error).sum(-1, keepdim=True)) / size
    each = _sum(slopes) + error
    bend = each * wide + ((c.abs() + each) / near).clamp(max=1.0) * wide.square()
    room = rounding(units + sides) * (ahead.abs() + _sum(slopes) / size + (
        ahead.abs() * (ahead.abs() * _sum(slopes)).sum(-1, keepdim=True) / size))  # fmt: skip
    total = _upwards(spread + bend / near.square() + room, units + sides)
    length_of_t = units**0.5
    best = float(units) ** 0.5 * (1.0 + rounding(4))
    t = form(*(length_of_t * part[..., :-1] for part in (ahead, tangent, total * (1.0 + 1e-14))))
    limit = torch.full_like(t.centre, best)
    t = _where(inside.expand_as(t.centre), t, interval(-limit, limit, sides)).within(-limit, limit)
    shaped = t.reshape(*step.gain.shape)
    found = _through(shaped, step.gain, step.bias, torch.zeros_like(step.gain))
    ends = torch.stack([step.gain * shaped.low, step.gain * shaped.high])
    margin = rounding(2) * (largest(ends[0], ends[1]) + step.bias.abs())
    return found.within(ends.amin(0) + step.bias - margin, ends.amax(0) + step.bias + margin)


def _centred(y: Form) -> Form:
    """Each row minus its mean."""
    units = y.centre.shape[-1]
    room = rounding(units) * (y.size + y.size.mean(-1, keepdim=True))
    error = y.error * (1.0 - 1.0 / units) + (y.error.sum(-1, keepdim=True) - y.error) / units
    return form(
        y.centre - y.centre.mean(-1, keepdim=True),
        y.slopes - y.slopes.mean(-1, keepdim=True),
        _upwards(error + room, units),
    )
