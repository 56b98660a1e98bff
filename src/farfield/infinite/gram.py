r"""Second moments of pairs of inputs, in a form that neither overflows nor cancels.

A kernel K between two batches is held as the roots of its diagonals and a cosine,
``K[i, j] = left[i] * right[j] * cosine[i, j]``, so that products such as K11 * K22 never occur.
The roots are known at once; the cosines are deferred to the tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from farfield.infinite import angles, safe
from farfield.infinite.angles import Angle, Directions
from farfield.infinite.pairs import Deferred, Rows, Vectors
from farfield.infinite.safe import hypotenuse, safe_divide

Variance = float | Tensor


@dataclass(frozen=True, eq=False)
class Scaled:
    """A kernel between two batches: roots of its diagonals, and cosines.

    Attributes:
        root: Roots of the diagonals.
        cosine: (*positions, n1, n2), between -1 and 1.
    """

    root: Rows
    cosine: Deferred[Tensor]

    def values(self) -> Deferred[Tensor]:
        """The kernel itself, (*positions, n1, n2)."""
        return Deferred(unscaled, self.root, self.cosine)

    def scaled(self, factor: Rows | Variance) -> Scaled:
        """This kernel with its roots multiplied by something that is not negative."""
        return Scaled(self.root * factor, self.cosine)

    def times(self, other: Scaled) -> Scaled:
        """The entrywise product of two kernels."""
        return Scaled(self.root * other.root, Deferred(torch.mul, self.cosine, other.cosine))

    def at(self, position: tuple[int, ...]) -> Scaled:
        """The kernel at one position."""
        root = self.root.map(lambda values: values[position])
        return Scaled(root, Deferred(lambda values: values[position], self.cosine))


@dataclass(frozen=True, eq=False)
class Unknown:
    """A tangent kernel that has no limit, or no rule; the reason is raised where it is asked for.

    Whatever it becomes a part of is unknown as well.

    Attributes:
        error: What to raise.
    """

    error: Exception

    def scaled(self, factor: Rows | Variance) -> Unknown:
        """As unknown as before."""
        return self

    def times(self, other: Scaled) -> Unknown:
        """As unknown as before."""
        return self

    def at(self, position: tuple[int, ...]) -> Unknown:
        """As unknown as before."""
        return self


Tangent = Scaled | Unknown


@dataclass(frozen=True, eq=False)
class Gram:
    """A kernel whose angles keep their digits.

    Attributes:
        root: Roots of the diagonals.
        angle: (*positions, n1, n2).
    """

    root: Rows
    angle: Deferred[Angle]

    def plain(self) -> Scaled:
        """The same kernel, of which only the cosines are known."""
        return Scaled(self.root, Deferred(cosine_of, self.angle))

    def values(self) -> Deferred[Tensor]:
        """The kernel itself."""
        return self.plain().values()

    def scaled(self, factor: Rows | Variance) -> Gram:
        """This kernel with its roots multiplied by something that is not negative."""
        return Gram(self.root * factor, self.angle)

    def plus(self, other: Gram) -> Gram:
        """The sum of two kernels: the Gram matrix of the concatenated features."""
        root = self.root.map(hypotenuse, other.root)
        mine, theirs = _shares(self.root, other.root, root)
        return Gram(root, Deferred(angles.mix, mine, self.angle, theirs, other.angle))

    def plus_constant(self, variance: Variance) -> Gram:
        """The sum with a constant kernel: what a bias of this variance adds."""
        if isinstance(variance, float) and variance == 0.0:
            return self
        bias = _constant_root(self.root, variance)
        root = self.root.map(hypotenuse, bias)
        mine, theirs = _shares(self.root, bias, root)
        return Gram(root, Deferred(angles.mix_constant, mine, self.angle, theirs))

    def at(self, position: tuple[int, ...]) -> Gram:
        """The kernel at one position."""
        root = self.root.map(lambda values: values[position])
        return Gram(root, Deferred(Angle.at, self.angle, position))

    def times(self, other: Gram) -> Gram:
        """The entrywise product."""
        return Gram(self.root * other.root, Deferred(angles.product, self.angle, other.angle))

    def minus_product(self, mean: Rows) -> Gram:
        """The covariance ``K - m1 m2`` of units with these means."""
        deviation = self.root.map(safe.deviation, mean)
        shares = deviation.map(safe_divide, self.root), mean.map(safe_divide, self.root)
        return Gram(deviation, Deferred(angles.spread, *shares, self.angle))


def _shares(a: Rows, b: Rows, root: Rows) -> tuple[Rows, Rows]:
    """What part of each root of the sum the two summands have: points on the unit circle."""
    # Where the sum is zero its direction is free; it is counted with the second summand.
    theirs = b.map(lambda b, root: torch.where(root == 0, 1.0, safe_divide(b, root)), root)
    return a.map(safe_divide, root), theirs


def _constant_root(like: Rows, variance: Variance) -> Rows:
    root = variance.sqrt() if isinstance(variance, Tensor) else float(variance) ** 0.5
    return like.map(lambda row: torch.ones_like(row) * root)


def constant(like: Rows, variance: Variance) -> Gram:
    """The kernel that is ``variance`` everywhere, in the shapes of ``like``."""
    return Gram(_constant_root(like, variance), Deferred(angles.constant, like))


def product(mean: Rows) -> Gram:
    """The kernel ``m1 m2`` of means."""
    return Gram(mean.map(torch.abs), Deferred(angles.of_signs, mean.map(torch.sign)))


def of_vectors(x: Vectors) -> Gram:
    """The mean product of features, ``K[i, j] = x1[i] . x2[j] / d``."""
    directions = Directions.of(x)
    root = directions.lengths() * float(max(x.left.shape[-1], 1)) ** -0.5
    return Gram(root, Deferred(Directions.angle, directions))


def total(parts: Sequence[Tangent | None]) -> Tangent | None:
    """The sum of those kernels that are there."""
    there: list[Scaled] = []
    for part in parts:
        if isinstance(part, Unknown):
            return part
        if part is not None:
            there.append(part)
    if len(there) < 2:
        return there[0] if there else None
    root = there[0].root
    for part in there[1:]:
        root = root.map(hypotenuse, part.root)
    shares = [part.root.map(safe_divide, root) for part in there]
    arguments = [x for part, share in zip(there, shares, strict=True) for x in (share, part.cosine)]
    return Scaled(root, Deferred(weighed, *arguments))


def cosine_of(angle: Angle) -> Tensor:
    """In a tile: the cosines."""
    return angle.cosine


def unscaled(root: Rows, cosine: Tensor) -> Tensor:
    """In a tile: the values of a kernel with these roots and cosines."""
    return cosine * root.left * root.right


def weighed(*shares_and_cosines: Any) -> Tensor:
    """In a tile: the sum of the cosines, each with its share of both roots."""
    share, cosine, *others = shares_and_cosines
    result: Tensor = share.outer() * cosine
    for share, cosine in zip(others[::2], others[1::2], strict=True):
        result = torch.addcmul(result, share.outer(), cosine)
    return result
