r"""Second moments of pairs of inputs, in a form that neither overflows nor cancels.

A kernel K between two batches is held as the roots of its diagonals and a cosine,
``K[i, j] = left[i] * right[j] * cosine[i, j]``, so that products such as K11 * K22 never occur.
A :class:`Gram` holds, besides, ``apart = 1 - cosine`` and ``together = 1 + cosine``, each
computed without cancellation: an angle is taken from these and never from a rounded cosine, whose
arccos would lose half of the digits for inputs that are close to each other or to antipodes.

All arrays may have leading dimensions (*positions): rows are (*positions, n), pairs are
(*positions, n1, n2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Variance = float | Tensor

_CLOSE = 1e-4  # below this, 1 - cosine is computed from the difference of the unit vectors
_PATCH = 2**22  # entries gathered at once when close pairs are computed again


@dataclass(frozen=True, eq=False)
class Scaled:
    """A kernel between two batches: roots of its diagonals and cosines.

    Attributes:
        left: Roots of the first batch's diagonal, (*positions, n1).
        right: Roots of the second batch's diagonal, (*positions, n2).
        cosine: (*positions, n1, n2), between -1 and 1.
    """

    left: Tensor
    right: Tensor
    cosine: Tensor

    def values(self) -> Tensor:
        """The kernel itself, (*positions, n1, n2)."""
        return self.cosine * self.left[..., :, None] * self.right[..., None, :]

    def scaled(self, left: Variance, right: Variance | None = None) -> Scaled:
        """This kernel with its roots multiplied by non-negative numbers or rows."""
        right = left if right is None else right
        return Scaled(self.left * left, self.right * right, self.cosine)

    def plus(self, other: Scaled) -> Scaled:
        """The sum of two kernels."""
        mine, theirs, left, right = _shares(self, other)
        cosine = mine.pairs() * self.cosine + theirs.pairs() * other.cosine
        return Scaled(left, right, cosine)

    def times(self, other: Scaled) -> Scaled:
        """The entrywise product of two kernels."""
        return Scaled(self.left * other.left, self.right * other.right, self.cosine * other.cosine)


@dataclass(frozen=True, eq=False)
class Gram(Scaled):
    """A :class:`Scaled` kernel whose angles keep their digits.

    Attributes:
        apart: 1 - cosine, (*positions, n1, n2), accurate where it is small.
        together: 1 + cosine, (*positions, n1, n2), accurate where it is small.
    """

    apart: Tensor
    together: Tensor

    def scaled(self, left: Variance, right: Variance | None = None) -> Gram:
        """This kernel with its roots multiplied by non-negative numbers or rows."""
        right = left if right is None else right
        return Gram(self.left * left, self.right * right, self.cosine, self.apart, self.together)

    def plus_gram(self, other: Gram) -> Gram:
        """The sum of two kernels: the Gram matrix of the concatenated features.

        With p = left_a / left, q = left_b / left (and the same on the right),
        ``1 - cos = ((p1 - p2)^2 + (q1 - q2)^2) / 2 + p1 p2 (1 - cos_a) + q1 q2 (1 - cos_b)``:
        a sum of terms of one sign.
        """
        mine, theirs, left, right = _shares(self, other)
        p, q = mine.pairs(), theirs.pairs()
        turned = 0.5 * (mine.gap().square() + theirs.gap().square())
        return Gram(
            left,
            right,
            p * self.cosine + q * other.cosine,
            turned + p * self.apart + q * other.apart,
            turned + p * self.together + q * other.together,
        )

    def plus_constant(self, variance: Variance) -> Gram:
        """The sum with a constant kernel: what a bias of this variance adds."""
        if isinstance(variance, float) and variance == 0.0:
            return self
        return self.plus_gram(constant(self, variance))

    def times_gram(self, other: Gram) -> Gram:
        """The entrywise product; ``1 - c1 c2 = ((1-c1)(1+c2) + (1+c1)(1-c2)) / 2``."""
        return Gram(
            self.left * other.left,
            self.right * other.right,
            self.cosine * other.cosine,
            0.5 * (self.apart * other.together + self.together * other.apart),
            0.5 * (self.apart * other.apart + self.together * other.together),
        )

    def minus_product(self, left_mean: Tensor, right_mean: Tensor) -> Gram:
        """The covariance ``K - m1 m2`` of units with these means.

        With v = sqrt(K - m^2), p = v / root and q = m / root (points on the unit circle),
        ``(1 - cos_v) v1 v2 = root1 root2 ((1 - cos) - ((p1 - p2)^2 + (q1 - q2)^2) / 2)``.

        Args:
            left_mean: (*positions, n1).
            right_mean: (*positions, n2).
        """
        left, right = _deviation(self.left, left_mean), _deviation(self.right, right_mean)
        p = _Share(safe_divide(left, self.left), safe_divide(right, self.right))
        q = _Share(safe_divide(left_mean, self.left), safe_divide(right_mean, self.right))
        turned = 0.5 * (p.gap().square() + q.gap().square())
        unit = safe_divide(torch.ones_like(self.cosine), p.pairs())
        apart = ((self.apart - turned) * unit).clamp(0.0, 2.0)
        cosine = torch.where(apart < 0.5, 1.0 - apart, (self.cosine - q.pairs()) * unit)
        return Gram(left, right, cosine, apart, 1.0 + cosine)


@dataclass(frozen=True, eq=False)
class _Share:
    """What part of each root one summand has."""

    left: Tensor
    right: Tensor

    def pairs(self) -> Tensor:
        return self.left[..., :, None] * self.right[..., None, :]

    def gap(self) -> Tensor:
        return self.left[..., :, None] - self.right[..., None, :]


def _shares(a: Scaled, b: Scaled) -> tuple[_Share, _Share, Tensor, Tensor]:
    left, right = hypotenuse(a.left, b.left), hypotenuse(a.right, b.right)
    mine = _Share(safe_divide(a.left, left), safe_divide(a.right, right))
    # Where the sum is zero its direction is free; it is counted with the second summand, so that
    # the shares stay a point on the unit circle.
    theirs = _Share(
        torch.where(left == 0, 1.0, safe_divide(b.left, left)),
        torch.where(right == 0, 1.0, safe_divide(b.right, right)),
    )
    return mine, theirs, left, right


def _deviation(root: Tensor, mean: Tensor) -> Tensor:
    return safe_sqrt(((root - mean) * (root + mean)).clamp_min(0.0))


def constant(like: Scaled, variance: Variance) -> Gram:
    """The kernel that is ``variance`` everywhere, in the shapes of ``like``."""
    root = variance.sqrt() if isinstance(variance, Tensor) else float(variance) ** 0.5
    return Gram(
        torch.ones_like(like.left) * root,
        torch.ones_like(like.right) * root,
        torch.ones_like(like.cosine),
        torch.zeros_like(like.cosine),
        torch.full_like(like.cosine, 2.0),
    )


def product(left_mean: Tensor, right_mean: Tensor) -> Gram:
    """The kernel ``m1 m2`` of rows of means, (*positions, n1) and (*positions, n2)."""
    cosine = left_mean.sign()[..., :, None] * right_mean.sign()[..., None, :]
    return Gram(left_mean.abs(), right_mean.abs(), cosine, 1.0 - cosine, 1.0 + cosine)


def of_vectors(x1: Tensor, x2: Tensor) -> Gram:
    r"""The mean product of features, ``K[i, j] = x1[i] . x2[j] / d``.

    For close pairs ``1 - cos = |x1/|x1| - x2/|x2||^2 / 2`` is taken from the difference itself.

    Args:
        x1: (*positions, n1, d).
        x2: (*positions, n2, d).

    Returns:
        The kernel, with pairs (*positions, n1, n2).
    """
    first, second = _Rows.of(x1), _Rows.of(x2)
    cosine = first.unit @ second.unit.mT
    apart = _patched(1.0 - cosine, first, second, 1.0)
    together = _patched(1.0 + cosine, first, second, -1.0)
    root = float(max(x1.shape[-1], 1)) ** -0.5
    left, right = ((rows.norm * rows.scale).squeeze(-1) * root for rows in (first, second))
    return Gram(left, right, cosine, apart, together)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Vectors ``x = scale * shrunk``, with a power of two as scale: the division is exact.

    |x|^2 would overflow long before |x| does; |shrunk|^2 does not.
    """

    shrunk: Tensor
    scale: Tensor
    norm: Tensor
    unit: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Rows:
        largest = x.detach().abs().amax(-1, keepdim=True) if x.numel() else x[..., :1]
        largest = torch.where(largest == 0, 1.0, largest)
        scale = largest / torch.frexp(largest).mantissa
        shrunk = x / scale
        norm = torch.linalg.vector_norm(shrunk, dim=-1, keepdim=True)
        return cls(shrunk, scale, norm, safe_divide(shrunk, norm.expand_as(shrunk)))


def _patched(rough: Tensor, first: _Rows, second: _Rows, sign: float) -> Tensor:
    """``rough``, with |unit1 - sign * unit2|^2 / 2 instead wherever it is small."""
    close = (rough.detach() < _CLOSE).nonzero()
    if not len(close):
        return rough
    pieces = []
    for part in torch.split(close, max(1, _PATCH // first.unit.shape[-1])):
        *positions, i, j = part.unbind(-1)
        difference = _difference(first, (*positions, i), second, (*positions, j), sign)
        pieces.append(0.5 * difference.square().sum(-1))
    return rough.index_put(close.unbind(-1), torch.cat(pieces))


def _difference(
    first: _Rows, at1: tuple[Tensor, ...], second: _Rows, at2: tuple[Tensor, ...], sign: float
) -> Tensor:
    r"""``a / |a| - b / |b|`` with b times the sign, row by row.

    With e = a - b (exact when a and b are close) and m = a + b this is
    ``(e (|a| + |b|) - m (e . m) / (|a| + |b|)) / (2 |a| |b|)``: its error is relative to e, where
    the rounding of a / |a| would be relative to 1.
    """
    ratio = second.scale[at2] / first.scale[at1]
    a, b = first.shrunk[at1], sign * second.shrunk[at2] * ratio
    long_a, long_b = first.norm[at1], second.norm[at2] * ratio
    e, m, long = a - b, a + b, long_a + long_b
    exact = safe_divide(e * long - m * ((e * m).sum(-1, keepdim=True) / long), 2 * long_a * long_b)
    plain = first.unit[at1] - sign * second.unit[at2]
    # Vectors of very different lengths have no exact difference, and b might underflow.
    return torch.where((ratio >= 0.5) & (ratio <= 2.0), exact, plain)


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is 0; so is its gradient there."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of x >= 0, whose gradient at 0 is 0 instead of infinite."""
    if not x.requires_grad:
        return x.sqrt()
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def hypotenuse(a: Tensor, b: Tensor) -> Tensor:
    """``sqrt(a^2 + b^2)`` without overflow, whose gradient at (0, 0) is 0 instead of NaN."""
    if not (a.requires_grad or b.requires_grad):
        return torch.hypot(a, b)
    zero = (a == 0) & (b == 0)
    return torch.where(zero, 0.0, torch.hypot(torch.where(zero, 1.0, a), b))
