r"""Polynomials, by their expansion in Hermite polynomials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.halves import Coefficients, Halves, evaluate
from farfield.infinite.pairs import Rows, Vectors

HIGHEST = 8
"""The highest degree with a closed form: beyond it the coefficients cancel too much."""


@dataclass(frozen=True)
class Polynomial(Activation):
    r"""``phi(u) = sum_j c_j u^j``.

    With u = r z and the orthonormal Hermite polynomials h_k, ``phi(r z) = sum_k a_k(r) h_k(z)``
    and ``E[phi(u) phi(v)] = sum_k a_k(r1) a_k(r2) cos^k theta`` (Mehler). The vectors a / |a| are
    features of the rows; phi' and u phi' are polynomials too.

    Source: Daniely, Frostig and Singer, "Toward Deeper Understanding of Neural Networks" (2016),
    section 4.2: the dual of an activation has its squared Hermite coefficients.

    Attributes:
        coefficients: c_0, c_1, ..., at most of degree :data:`HIGHEST`.
    """

    coefficients: Coefficients

    @property
    def halves(self) -> Halves:
        """The same polynomial on both sides."""
        return Halves.of(self.coefficients, self.coefficients)

    @property
    def _parts(self) -> tuple[Coefficients, Coefficients, Coefficients]:
        """Phi, phi' and u phi'."""
        gain = tuple(j * c for j, c in enumerate(self.coefficients))
        return self.coefficients, gain[1:], gain

    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""
        return evaluate(self.coefficients, u)

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)] = a_0(r)``."""
        root, unit = _expansion(self.coefficients, r)
        return root * unit[..., 0]

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2]) = |a(r)|``."""
        return _expansion(self.coefficients, r)[0]

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return _expansion(self._parts[1], r)[0]

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return _expansion(self._parts[2], r)[0]

    def rows(self, r: Rows) -> RowLaw:
        """All of these, with the unit vectors of phi, phi' and u phi' side by side."""
        features = Vectors.of(r, self._features)
        own = super().rows(r)
        return RowLaw(r, own.mean, own.root, own.slope_root, own.gain_root, features)

    def _features(self, r: Tensor) -> Tensor:
        return torch.cat([_expansion(part, r)[1] for part in self._parts], -1)

    def _split(self, law: RowLaw) -> list[Vectors]:
        assert law.features is not None
        sizes = [len(part) for part in self._parts]
        left, right = law.features.left.split(sizes, -1), law.features.right.split(sizes, -1)
        return [Vectors(*both) for both in zip(left, right, strict=True)]

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v), from sums that do not cancel.

        With the unit vectors p and q of a pair, ``1 -+ cos = sum_k (p_k - q_k)^2 / 2
        + p_k q_k (1 -+ c^k)``; for even k, ``1 - c^k = (1 - c)(1 + c)(1 + c^2 + ... + c^(k-2))``.
        """
        vectors = self._split(law)[0]
        c, even = angle.cosine, torch.zeros_like(angle.apart)  # even: 1 - c^k
        square, across = c * c, angle.apart * angle.together
        apart = together = torch.zeros_like(c)
        for k in range(len(self.coefficients)):
            p, q = vectors.left[..., :, None, k], vectors.right[..., None, :, k]
            if k and k % 2 == 0:
                even = across + square * even
            gap = angle.apart + c * even if k % 2 else even
            lift = angle.together - c * even if k % 2 else 2.0 - even
            turned, outer = 0.5 * (p - q).square(), p * q
            apart, together = apart + (turned + outer * gap), together + (turned + outer * lift)
        return Angle(apart.clamp_min(0.0), together.clamp_min(0.0), _cosine(vectors, c))

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return _cosine(self._split(law)[1], angle.cosine)

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return _cosine(self._split(law)[2], angle.cosine)


def _cosine(vectors: Vectors, c: Tensor) -> Tensor:
    """``sum_k p_k q_k c^k``."""
    total = torch.zeros_like(c)
    for k in reversed(range(vectors.left.shape[-1])):
        total = total * c + vectors.left[..., :, None, k] * vectors.right[..., None, :, k]
    return total


def _expansion(coefficients: Coefficients, r: Tensor) -> tuple[Tensor, Tensor]:
    """The length and the direction of the vector a(r).

    The terms ``c_j r^j`` are divided by the largest one of each row: neither tiny nor huge r
    make a direction that is not one.
    """
    degrees = [j for j, c in enumerate(coefficients) if c != 0.0]
    if not degrees:
        return torch.zeros_like(r), r.new_zeros(*r.shape, len(coefficients))
    factors = r.new_tensor([coefficients[j] for j in degrees])
    exponents = torch.tensor(degrees, device=r.device)
    logs = r.detach().clamp_min(torch.finfo(r.dtype).tiny).log()[..., None]
    largest = (factors.abs().log() + exponents * logs).argmax(-1)
    factor, exponent = factors[largest], exponents[largest]
    ratios = factors / factor.abs()[..., None]
    terms = ratios * r[..., None] ** (exponents - exponent[..., None])
    expanded = terms @ _hermite_table(len(coefficients)).to(r)[exponents]
    length = torch.linalg.vector_norm(expanded, dim=-1)
    return factor.abs() * r**exponent * length, expanded / length[..., None]


@cache
def _hermite_table(size: int) -> Tensor:
    """``z^j = sum_k table[j, k] h_k(z)``."""
    table = torch.zeros(size, size, dtype=torch.float64)
    for j in range(size):
        for k in range(j % 2, j + 1, 2):
            m = (j - k) // 2
            table[j, k] = math.factorial(j) / (
                2**m * math.factorial(m) * math.sqrt(math.factorial(k))
            )
    return table
