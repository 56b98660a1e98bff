"""The angle of each pair in a tile, in a form that keeps its digits.

An angle is never taken from a rounded cosine, whose arccos would lose half of the digits for
inputs that are close to each other or to antipodes; ``1 - cos`` and ``1 + cos`` are computed
without cancellation from the first inputs to the last layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from farfield.infinite.pairs import Bundle, Rows, Vectors
from farfield.infinite.safe import safe_divide, safe_sqrt

_CLOSE = 1e-4  # below this, 1 - cosine is computed from the difference of the unit vectors
_PATCH = 2**22  # entries gathered at once when close pairs are computed again
_SHORT = 0.3  # below this, sin t - t cos t is summed as a series
# sin t - t cos t = t^3 sum_k coefficient_k t^(2k); eight terms are exact up to 0.3.
_SERIES = [(-1.0) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 9)]


class Angle:
    """Angles theta, (*positions, n1, n2).

    Args:
        apart: 1 - cos theta, accurate where it is small.
        together: 1 + cos theta, accurate where it is small; ``None`` where no angle is obtuse.
        cosine: cos theta, accurate where it is small; ``None`` where it never is small.
    """

    def __init__(
        self, apart: Tensor, together: Tensor | None = None, cosine: Tensor | None = None
    ) -> None:
        self.apart = apart
        self.is_acute = together is None
        self.is_short = cosine is None
        if together is not None:
            self.together = together
        if cosine is not None:
            self.cosine = cosine

    @cached_property
    def together(self) -> Tensor:
        """1 + cos theta."""
        return 2.0 - self.apart

    @cached_property
    def cosine(self) -> Tensor:
        """Cos theta."""
        return 1.0 - self.apart

    def at(self, position: tuple[int, ...]) -> Angle:
        """The angles at one position."""
        return Angle(
            self.apart[position],
            None if self.is_acute else self.together[position],
            None if self.is_short else self.cosine[position],
        )

    def mirrored(self) -> Angle:
        """The angles pi - theta."""
        return Angle(self.together, self.apart, -self.cosine)

    @cached_property
    def arc(self) -> Arc:
        """The angle to the nearer one of v and -v."""
        if self.is_acute:
            return Arc(*_arc(self.apart), None)
        near = self.cosine >= 0
        return Arc(*_arc(torch.where(near, self.apart, self.together), exact=True), near)


@dataclass(frozen=True, eq=False)
class Arc:
    """The angle t <= pi / 2 between u and the nearer one of v and -v.

    Attributes:
        angle: t.
        bend: ``sin t - t cos t``.
        near: Whether it is v; ``None`` where it always is.
    """

    angle: Tensor
    bend: Tensor
    near: Tensor | None

    def choose(self, near: Tensor, far: Tensor) -> Tensor:
        """The first where the angle is acute, the second where it is obtuse."""
        return near if self.near is None else torch.where(self.near, near, far)


def _arc(short: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor]:
    """T and ``sin t - t cos t`` from ``short = 1 - cos t``, t <= pi / 2.

    The difference is off by about eps t: what it is subtracted from, 1 - cos t, then still gives
    the angle to eps. Where it stands alone it must be ``exact``.
    """
    half = 0.5 * short
    angle = 2.0 * torch.asin(safe_sqrt(half))
    sine = 2.0 * safe_sqrt(half * (1.0 - half))
    bend = sine - angle * (1.0 - short)
    if exact:
        small = angle.detach() < _SHORT
        if bool(small.any()):
            bend = bend.index_put((small,), _sine_minus(angle[small]))
    return angle, bend


def _sine_minus(t: Tensor) -> Tensor:
    """``sin t - t cos t`` for small t, to full relative accuracy."""
    square = t * t
    total = torch.full_like(t, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        total = total * square + coefficient
    return total * square * t


def mix(first: Rows, a: Angle, second: Rows, b: Angle) -> Angle:
    """The angle of a sum of two kernels, with shares p and q of each root, p^2 + q^2 = 1.

    ``1 - cos = ((p1 - p2)^2 + (q1 - q2)^2) / 2 + p1 p2 (1 - cos_a) + q1 q2 (1 - cos_b)``:
    a sum of terms of one sign.
    """
    p, q = first.outer(), second.outer()
    turned = 0.5 * (first.gap().square() + second.gap().square())
    apart = turned + p * a.apart + q * b.apart
    return Angle(
        apart,
        None if a.is_acute and b.is_acute else turned + p * a.together + q * b.together,
        None if a.is_short and b.is_short else p * a.cosine + q * b.cosine,
    )


def mix_constant(first: Rows, a: Angle, second: Rows) -> Angle:
    """:func:`mix` with a constant kernel, whose angle is zero."""
    p = first.outer()
    turned = torch.add(first.gap().square(), second.gap().square()).mul(0.5)
    apart = torch.addcmul(turned, p, a.apart)
    if a.is_acute and a.is_short:
        return Angle(apart)
    q = second.outer()
    together = None if a.is_acute else turned + p * a.together + 2.0 * q
    return Angle(apart, together, torch.addcmul(q, p, a.cosine))


def product(a: Angle, b: Angle) -> Angle:
    """Of the entrywise product; ``1 - c1 c2 = ((1-c1)(1+c2) + (1+c1)(1-c2)) / 2``."""
    apart = 0.5 * (a.apart * b.together + a.together * b.apart)
    acute = a.is_acute and b.is_acute
    together = None if acute else 0.5 * (a.apart * b.apart + a.together * b.together)
    return Angle(apart, together, a.cosine * b.cosine)


def spread(deviation: Rows, mean: Rows, a: Angle) -> Angle:
    """Of the covariance ``K - m1 m2``, given the shares of each root of K that it and m have.

    ``(1 - cos_v) v1 v2 = root1 root2 ((1 - cos) - ((p1 - p2)^2 + (q1 - q2)^2) / 2)``.
    """
    turned = 0.5 * (deviation.gap().square() + mean.gap().square())
    outer = deviation.outer()
    unit = safe_divide(torch.ones_like(outer), outer)
    # Where nothing varies there is no direction: orthogonal to all others, equal to its like.
    none = (outer == 0) & ((deviation.left != 0) | (deviation.right != 0))
    apart = ((a.apart - turned) * unit).clamp(0.0, 2.0).masked_fill(none, 1.0)
    cosine = torch.where(apart < 0.5, 1.0 - apart, (a.cosine - mean.outer()) * unit)
    cosine = cosine.clamp(-1.0, 1.0)  # else 1 + cos is negative by rounding, and its root NaN
    return Angle(apart, 1.0 + cosine, cosine)


def constant(like: Rows) -> Angle:
    """Of equal directions: zero."""
    return Angle(torch.zeros_like(like.outer()))


def of_signs(signs: Rows) -> Angle:
    """Of numbers with these signs: zero, or pi."""
    cosine = signs.outer()
    return Angle(1.0 - cosine, 1.0 + cosine, cosine)


@dataclass(frozen=True, eq=False)
class Directions(Bundle):
    """Vectors ``x = scale * shrunk``, with a power of two as scale: the division is exact.

    |x|^2 would overflow long before |x| does; |shrunk|^2 does not.
    """

    shrunk: Vectors
    scale: Vectors
    norm: Vectors
    unit: Vectors

    @classmethod
    def of(cls, x: Vectors) -> Directions:
        """The directions of the rows of x."""
        scale = Vectors.of(x, _power_of_two)
        shrunk = x.map(torch.div, scale)
        norm = shrunk.map(lambda v: torch.linalg.vector_norm(v, dim=-1, keepdim=True))
        unit = shrunk.map(lambda v, length: safe_divide(v, length.expand_as(v)), norm)
        return cls(*(Vectors(part.left, part.right) for part in (shrunk, scale, norm, unit)))

    def lengths(self) -> Rows:
        """Norms of the vectors, one for each row."""
        return self.norm.map(lambda norm, scale: (norm * scale).squeeze(-1), self.scale)

    def angle(self) -> Angle:
        """In a tile: the angle of each pair.

        For close pairs ``1 - cos = |x1/|x1| - x2/|x2||^2 / 2`` is taken from the difference.
        """
        cosine = self.cosine()
        apart, together = self._patched(1.0 - cosine, 1.0), self._patched(1.0 + cosine, -1.0)
        return Angle(apart, together, cosine)

    def cosine(self) -> Tensor:
        """In a tile: the cosines. That of two zero vectors is 1: they are equal."""
        cosine = self.unit.left @ self.unit.right.mT
        left, right = self.norm.left == 0, self.norm.right == 0
        if bool(left.any()) and bool(right.any()):
            cosine = cosine.masked_fill(left & right.mT, 1.0)
        return cosine

    def _patched(self, rough: Tensor, sign: float) -> Tensor:
        """``rough``, with |unit1 - sign * unit2|^2 / 2 instead wherever it is small."""
        if not rough.numel() or float(rough.detach().amin()) >= _CLOSE:
            return rough
        close = ((rough.detach() < _CLOSE) & (self.norm.left > 0)).nonzero()
        pieces = []
        for part in torch.split(close, max(1, _PATCH // self.unit.left.shape[-1])):
            *positions, i, j = part.unbind(-1)
            difference = self._difference((*positions, i), (*positions, j), sign)
            pieces.append(0.5 * difference.square().sum(-1))
        return rough.index_put(close.unbind(-1), torch.cat(pieces))

    def _difference(self, at1: tuple[Tensor, ...], at2: tuple[Tensor, ...], sign: float) -> Tensor:
        r"""``a / |a| - b / |b|`` with b times the sign, row by row.

        With e = a - b (exact when a and b are close) and m = a + b this is
        ``(e (|a| + |b|) - m (e . m) / (|a| + |b|)) / (2 |a| |b|)``: its error is relative to e,
        where the rounding of a / |a| would be relative to 1.
        """
        ratio = self.scale.right[at2] / self.scale.left[at1]
        a, b = self.shrunk.left[at1], sign * self.shrunk.right[at2] * ratio
        long_a, long_b = self.norm.left[at1], self.norm.right[at2] * ratio
        e, m, long = a - b, a + b, long_a + long_b
        turned = e * long - m * ((e * m).sum(-1, keepdim=True) / long)
        exact = safe_divide(turned, 2 * long_a * long_b)
        plain = self.unit.left[at1] - sign * self.unit.right[at2]
        # Vectors of very different lengths have no exact difference, and b might underflow.
        return torch.where((ratio >= 0.5) & (ratio <= 2.0), exact, plain)


def _power_of_two(x: Tensor) -> Tensor:
    """The power of two next to the largest entry of each row, as a last dimension of size 1."""
    largest = x.detach().abs().amax(-1, keepdim=True) if x.numel() else x.detach()[..., :1]
    largest = torch.where(largest == 0, 1.0, largest)
    return largest / torch.frexp(largest).mantissa
