r"""Expectations over Gaussian pairs as power series in the cosine (Mehler's formula).

With Hermite coefficients a_k, ``E[f(u) f(v)] = sum_k a_k(r1) a_k(r2) cos(theta)^k``. What the
terms from K on add is at most ``|cos theta|^K`` times the roots of the two tails
``1 - sum_(k < K) a_k^2 / E[f^2]`` (Cauchy and Schwarz): a bound, not an estimate.

Source: Mehler (1866); Daniely, Frostig and Singer, "Toward Deeper Understanding of Neural
Networks" (2016), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from farfield.infinite.duals.hermite import Expansion, coefficients
from farfield.infinite.pairs import Bundle, Rows, Vectors
from farfield.infinite.safe import safe_divide

LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
"""Numbers of terms, of which each tile takes the first that is enough for it."""

ROUNDING = 4e-15  # of a tail, relative to the whole
_EXTRA = 2  # coefficients that only the gradient needs
_FIRST_TRY = 128  # terms: usually enough, and quickly found
_ENTRIES = 2**18  # coefficients kept at once
_FEW = 128  # rows, up to which the longest series costs less than what it saves


@dataclass(frozen=True, eq=False)
class Series(Bundle):
    """One function's Hermite series, for each row.

    Attributes:
        terms: Coefficients over the root of ``E[f^2]``, (*positions, n, K), float64.
        tails: Roots of what the first LENGTHS of the terms leave, (*positions, n, lengths).
        error: Estimated error of the coefficients, relative to the root, (*positions, n).
    """

    terms: Vectors
    tails: Vectors
    error: Rows

    def sum(self, cosine: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """In a tile: ``E[f(u) f(v)]`` over the roots, and a bound of its error.

        Args:
            cosine: Of each pair, float64.
            tolerance: Terms are added until the error is smaller, where that is possible.

        Returns:
            Values and bounds, both in the shape of ``cosine``.
        """
        length, bound = self._length(cosine.detach(), tolerance)
        terms = self.terms.left[..., :length], self.terms.right[..., :length]
        bound = bound + self.error.left.detach() + self.error.right.detach()
        if any(part.requires_grad for part in (*terms, cosine)):
            total: Tensor = _Sum.apply(*terms, cosine)  # type: ignore[no-untyped-call]
            return total, bound
        return _sum(*terms, cosine), bound

    def _length(self, cosine: Tensor, tolerance: float) -> tuple[int, Tensor]:
        """How many terms the tile needs, and the bounds of what the others would add.

        Pairs that all terms together would not be enough for are left to others.
        """
        size = cosine.abs().clamp(max=1.0)
        power, reached = size.square().square().square().square(), 16
        bounds = []
        available = self.terms.left.shape[-1]
        for number, length in enumerate(LENGTHS):
            while reached < length:
                power, reached = power.square(), 2 * reached
            tails = self.tails.left[..., number, None], self.tails.right[..., None, :, number]
            bounds.append(power * tails[0] * tails[1])
            if length >= available:
                break
        never = bounds[-1] > tolerance
        for length, bound in zip(LENGTHS, bounds, strict=False):
            if bool(((bound <= tolerance) | never).all()):
                return length, bound
        return available, bounds[-1]


def expand(
    function: Callable[[Tensor], Tensor], r: Rows, root: Rows, kinks: Collection[float]
) -> Series:
    """The series of a function for each row.

    Args:
        function: f, entry by entry.
        r: Standard deviations, (*positions, n).
        root: ``sqrt(E[f^2])`` of each row.
        kinks: Where f bends or jumps.

    Returns:
        As many terms as it takes until the tails are nothing but rounding, or as are reasonable.
    """
    both = r.left.detach().double(), r.right.detach().double()
    same = r.left is r.right
    every = both[0].flatten() if same else torch.cat([part.flatten() for part in both])
    sizes, place = torch.unique(every, return_inverse=True)
    squares = (
        root.left.flatten() if same else torch.cat([root.left.flatten(), root.right.flatten()])
    )
    scale = torch.ones_like(sizes).index_put((place,), squares.detach().double())
    lengths = LENGTHS if len(every) <= _FEW else LENGTHS[:-1]
    affordable = [n for n in lengths if n * len(every) <= _ENTRIES or n <= _FIRST_TRY]
    for length in sorted({min(_FIRST_TRY, affordable[-1]), affordable[-1]}):
        found = coefficients(function, sizes, kinks, length + _EXTRA)
        shares = safe_divide(found.values, scale[:, None].expand_as(found.values)).square()
        tails = _tails(shares[:, :length], scale)
        done = (tails <= 2.0 * ROUNDING).all(0).nonzero().flatten()
        if len(done):
            length = LENGTHS[int(done[0])]
            break
    values = found.values[:, : length + _EXTRA]
    errors = safe_divide(found.error, scale)

    def part(of_rows: Callable[[Tensor], Tensor]) -> Rows:
        """What belongs to the rows of both batches, from their places among all rows."""
        first = of_rows(place[: both[0].numel()].reshape(both[0].shape))
        if same:
            return Rows(first, first)
        return Rows(first, of_rows(place[both[0].numel() :].reshape(both[1].shape)))

    terms = r.map(Expansion.apply, part(lambda at: values[at])).map(
        lambda a, size: safe_divide(a, size.double()[..., None].expand_as(a)), root
    )
    remaining = part(lambda at: tails[at].sqrt())
    return Series(
        Vectors(terms.left, terms.right),
        Vectors(remaining.left, remaining.right),
        part(lambda at: errors[at]),
    )


def _tails(shares: Tensor, scale: Tensor) -> Tensor:
    """What the first LENGTHS of the terms leave of 1, at least the rounding."""
    total = shares.cumsum(-1)
    ends = [min(length, shares.shape[-1]) - 1 for length in LENGTHS]
    tails = (1.0 - total[:, ends]).clamp_min(ROUNDING)
    return torch.where(scale[:, None] == 0, 0.0, tails)


def _sum(left: Tensor, right: Tensor, cosine: Tensor) -> Tensor:
    """``sum_k left_k right_k cos^k``, by Horner's rule."""
    a, b = left.mT.contiguous(), right.mT.contiguous()
    total = torch.zeros_like(cosine)
    for k in reversed(range(left.shape[-1])):
        total.mul_(cosine).addcmul_(a[..., k, :, None], b[..., k, None, :])
    return total


class _Sum(torch.autograd.Function):
    """:func:`_sum`, whose gradient does not need the intermediate sums either."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, cosine: Tensor) -> Tensor:
        """The sum."""
        ctx.save_for_backward(left, right, cosine)
        return _sum(left, right, cosine)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients in both rows' terms and in the cosine."""
        left, right, cosine = ctx.saved_tensors
        k = torch.arange(1, left.shape[-1], dtype=left.dtype, device=left.device)
        slope = _sum(left[..., 1:] * k, right[..., 1:], cosine)
        lefts, rights, power = torch.zeros_like(left), torch.zeros_like(right), grad.clone()
        for term in range(left.shape[-1]):
            lefts[..., term] = (power @ right[..., term, None]).squeeze(-1)
            rights[..., term] = (power.mT @ left[..., term, None]).squeeze(-1)
            power.mul_(cosine)
        return lefts, rights, grad * slope
