"""Functions that are a polynomial on each half line: which of them are one is arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Coefficients = tuple[float, ...]


@dataclass(frozen=True)
class Halves:
    """``sum_k c_k u^k`` with coefficients of their own for u < 0 and for u > 0.

    Attributes:
        negative: Coefficients for u < 0, from the constant on, without zeros at the end.
        positive: Coefficients for u > 0.
    """

    negative: Coefficients
    positive: Coefficients

    @classmethod
    def of(cls, negative: Iterable[float], positive: Iterable[float]) -> Halves:
        """The same from coefficients that may end in zeros."""
        return cls(_trimmed(negative), _trimmed(positive))

    @classmethod
    def power(cls, degree: int) -> Halves:
        """The function ``u^degree``."""
        coefficients = (*[0.0] * degree, 1.0)
        return cls(coefficients, coefficients)

    @property
    def degree(self) -> int:
        """The highest power, 0 for constants."""
        return max(len(self.negative), len(self.positive), 1) - 1

    @property
    def is_polynomial(self) -> bool:
        """Whether it is the same polynomial on both sides."""
        return self.negative == self.positive

    @property
    def degrees(self) -> list[int]:
        """The powers that occur."""
        pairs = itertools.zip_longest(self.negative, self.positive, fillvalue=0.0)
        return [k for k, pair in enumerate(pairs) if any(pair)]

    def coefficients(self, degree: int) -> tuple[float, float]:
        """Those of ``u^degree`` for u < 0 and u > 0."""
        sides = (self.negative, self.positive)
        negative, positive = (side[degree] if degree < len(side) else 0.0 for side in sides)
        return negative, positive

    def __add__(self, other: Halves) -> Halves:
        """The sum."""
        return Halves(_sum(self.negative, other.negative), _sum(self.positive, other.positive))

    def __mul__(self, other: Halves) -> Halves:
        """The product."""
        return Halves(
            _product(self.negative, other.negative), _product(self.positive, other.positive)
        )

    def affine(self, factor: float, shift: float) -> Halves:
        """``factor`` times the function, plus ``shift``."""
        return self * Halves.of([factor], [factor]) + Halves.of([shift], [shift])

    def after(self, inner: Halves, at_zero: float) -> Halves | None:
        """The function of ``inner(u)``, if it bends nowhere but at 0.

        Args:
            inner: What is put in.
            at_zero: The function's value at 0, where it may jump.
        """
        sides: list[Coefficients] = []
        for coefficients, below in [(inner.negative, True), (inner.positive, False)]:
            side: Coefficients | None
            if self.is_polynomial:
                side = self.positive
            elif not coefficients:
                side = _trimmed([at_zero])
            else:
                side = self._side(coefficients, below)
            if side is None:
                return None
            sides.append(_composed(side, coefficients))
        return Halves(*sides)

    def _side(self, monomial: Coefficients, below: bool) -> Coefficients | None:
        """The side that a monomial of u < 0 (or u > 0) is on; ``None`` for other polynomials."""
        if any(monomial[:-1]):
            return None
        odd = (len(monomial) - 1) % 2 == 1
        return self.positive if (monomial[-1] > 0) != (below and odd) else self.negative


def evaluate(coefficients: Coefficients, u: Tensor) -> Tensor:
    """``sum_k c_k u^k`` by Horner's scheme."""
    total = torch.zeros_like(u)
    for coefficient in reversed(coefficients):
        total = total * u + coefficient
    return total


def _trimmed(coefficients: Iterable[float]) -> Coefficients:
    result = [float(coefficient) for coefficient in coefficients]
    while result and result[-1] == 0.0:
        result.pop()
    return tuple(result)


def _sum(a: Coefficients, b: Coefficients) -> Coefficients:
    return _trimmed(x + y for x, y in itertools.zip_longest(a, b, fillvalue=0.0))


def _product(a: Coefficients, b: Coefficients) -> Coefficients:
    result = [0.0] * max(len(a) + len(b) - 1, 0)
    for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
        result[i + j] += x * y
    return _trimmed(result)


def _composed(outer: Coefficients, inner: Coefficients) -> Coefficients:
    result: Coefficients = ()
    for coefficient in reversed(outer):
        result = _sum(_product(result, inner), (coefficient,))
    return _trimmed(result)
