"""What every dual activation offers, and how the smooth ones keep the digits of small angles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from farfield.infinite.gram import Gram, Scaled, safe_divide

_NEAR = 1e-8  # squared distances below this are expanded around the diagonal


class Activation(ABC):
    """An elementwise function phi of a Gaussian with mean zero.

    Rows ``r`` are standard deviations, u ~ N(0, r^2); a :class:`Gram` is the law of a pair.
    """

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or its slope jumps."""
        return ()

    @abstractmethod
    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""

    @abstractmethod
    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``."""

    @abstractmethod
    def slopes(self, pair: Gram) -> Scaled:
        """``E[phi'(u) phi'(v)]``."""

    @abstractmethod
    def gains(self, pair: Gram) -> Scaled:
        """``E[u v phi'(u) phi'(v)]``: what a trained gain in front of phi contributes."""


class Smooth(Activation):
    """An activation given by its three dual functions of a pair.

    Each returns the values for rows (*positions, n1), (*positions, n2); a diagonal is the pair of
    a row with itself. The gap 1 - cos of nearly equal inputs comes from an expansion around the
    diagonal instead of from 1 - (rounded cosine).
    """

    odd = False

    @abstractmethod
    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""

    @abstractmethod
    def second(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[phi(u) phi(v)] / (left * right)`` for given positive roots."""

    @abstractmethod
    def second_slope(self, pair: Gram) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""

    @abstractmethod
    def second_gain(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[u v phi'(u) phi'(v)] / (left * right)`` for given positive roots."""

    @abstractmethod
    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""

    @abstractmethod
    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""

    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``.

        Near the diagonal, with R = sqrt(E[phi^2]), g = sqrt(E[u^2 phi'^2]) / r and by Price's
        theorem, ``R1 R2 (1 - cos) = r1 r2 (1 - c) E[phi' phi'] + ((r1 - r2)^2 g1 g2
        - (R1 - R2)^2) / 2``, up to terms of fourth order in the distance.
        """
        left, right = self.root(pair.left), self.root(pair.right)
        cosine = self.second(_divisor(left)[..., :, None], _divisor(right)[..., None, :], pair)
        apart, together = 1.0 - cosine, 1.0 + cosine
        near = _near(pair, pair.apart)
        if bool(near.any()):
            apart = torch.where(near, self._gap(pair, pair.apart, left, right), apart)
            cosine = torch.where(near, 1.0 - apart, cosine)
        if self.odd:
            near = _near(pair, pair.together)
            if bool(near.any()):
                mirrored = Gram(pair.left, pair.right, -pair.cosine, pair.together, pair.apart)
                together = torch.where(
                    near, self._gap(mirrored, pair.together, left, right), together
                )
        return Gram(left, right, cosine, apart, together)

    def _gap(self, pair: Gram, apart: Tensor, left: Tensor, right: Tensor) -> Tensor:
        r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
        g1 = safe_divide(self.gain_root(pair.left), pair.left)[..., :, None]
        g2 = safe_divide(self.gain_root(pair.right), pair.right)[..., None, :]
        big1, big2 = _divisor(left)[..., :, None], _divisor(right)[..., None, :]
        turned = (r1 / big1) * apart * (r2 / big2) * self.second_slope(pair)
        stretched = ((r1 - r2) / big1) * ((r1 - r2) / big2) * g1 * g2
        grown = ((big1 - big2) / big1) * ((big1 - big2) / big2)
        return (turned + 0.5 * (stretched - grown)).clamp_min(0.0)

    def slopes(self, pair: Gram) -> Scaled:
        """``E[phi'(u) phi'(v)]``."""
        left, right = self.slope_root(pair.left), self.slope_root(pair.right)
        value = self.second_slope(pair)
        outer = left[..., :, None] * right[..., None, :]
        return Scaled(left, right, safe_divide(value, outer))

    def gains(self, pair: Gram) -> Scaled:
        """``E[u v phi'(u) phi'(v)]``."""
        left, right = self.gain_root(pair.left), self.gain_root(pair.right)
        value = self.second_gain(_divisor(left)[..., :, None], _divisor(right)[..., None, :], pair)
        return Scaled(left, right, value)


def diagonal_of(function: Callable[[Gram], Tensor], r: Tensor) -> Tensor:
    """The values that a function of pairs takes on the pairs (u, u), one for each row."""
    rows = r[..., None]
    one = torch.ones_like(rows[..., None])
    return function(Gram(rows, rows, one, torch.zeros_like(one), 2.0 * one))[..., 0, 0]


def _near(pair: Gram, apart: Tensor) -> Tensor:
    r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
    stretched = (r1 - r2).square()
    turned = r1 * apart * r2
    return (apart < _NEAR) & (stretched < _NEAR * r1 * r2) & (stretched + turned < _NEAR)


def _divisor(root: Tensor) -> Tensor:
    return torch.where(root == 0, 1.0, root)
