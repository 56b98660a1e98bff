"""Any elementwise function, by quadrature that estimates its own error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.errors import AccuracyWarning
from farfield.infinite.duals.base import Smooth
from farfield.infinite.duals.polar import Estimate, expectation, pair_expectation
from farfield.infinite.gram import Gram, safe_divide, safe_sqrt

Function = Callable[[Tensor], Tensor]

TOLERANCE = 1e-10
"""Estimated relative error above which a warning is given."""

_HALVES = (48, 72)  # half the nodes along a coordinate: first try, and second


@dataclass(frozen=True, eq=False)
class Numeric(Smooth):
    """A function known only by its values; its slope comes from automatic differentiation.

    Attributes:
        function: phi, entry by entry, differentiable by PyTorch.
        bends: Where phi or its slope jumps.
        name: What it is called in messages.
    """

    function: Function
    bends: Collection[float]
    name: str

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or its slope jumps."""
        return tuple(self.bends)

    def value(self, u: Tensor) -> Tensor:
        """phi(u)."""
        return self.function(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return safe_sqrt(self._expect(lambda u: self.function(u).square(), r))

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return self._expect(self.function, r)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return safe_sqrt(self._expect(lambda u: self._slope(u).square(), r))

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return safe_sqrt(self._expect(lambda u: (u * self._slope(u)).square(), r))

    def second(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[phi(u) phi(v)] / (left * right)``."""
        return self._expect_pairs(self.function, pair, left * right) / left / right

    def second_slope(self, pair: Gram) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""
        left, right = self.slope_root(pair.left), self.slope_root(pair.right)
        return self._expect_pairs(self._slope, pair, left[..., :, None] * right[..., None, :])

    def second_gain(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[u v phi'(u) phi'(v)] / (left * right)``."""
        value = self._expect_pairs(lambda u: u * self._slope(u), pair, left * right)
        return value / left / right

    def _slope(self, u: Tensor) -> Tensor:
        with torch.enable_grad():
            nodes = u if u.requires_grad else u.detach().requires_grad_()
            value = self.function(nodes)
            (slope,) = torch.autograd.grad(value.sum(), nodes, create_graph=u.requires_grad)
        return slope

    def _expect(self, function: Function, r: Tensor) -> Tensor:
        rows = r.double()
        estimate = expectation(function, rows, self.bends, _HALVES[-1])
        size = expectation(lambda u: function(u).abs(), rows.detach(), self.bends, _HALVES[-1])
        self._check(estimate, size.value)
        return estimate.value.to(r.dtype)

    def _expect_pairs(self, function: Function, pair: Gram, size: Tensor) -> Tensor:
        shape = pair.cosine.shape
        left = pair.left[..., :, None].expand(shape).reshape(-1).double()
        right = pair.right[..., None, :].expand(shape).reshape(-1).double()
        short, wide = safe_sqrt(pair.apart).double(), safe_sqrt(pair.together).double()
        angle = 2.0 * torch.atan2(short, wide).reshape(-1)
        supplement = 2.0 * torch.atan2(wide, short).reshape(-1)
        scale = size.expand(shape).reshape(-1).detach().double()
        for half in _HALVES:
            estimate = pair_expectation(
                function, left, right, angle, supplement, self.bends, half
            )
            if float(_error(estimate, scale)) <= 0.1 * TOLERANCE:
                break
        self._check(estimate, scale)
        return estimate.value.reshape(shape).to(pair.cosine.dtype)

    def _check(self, estimate: Estimate, size: Tensor) -> None:
        error = float(_error(estimate, size))
        if not error <= TOLERANCE:
            warnings.warn(
                f"The quadrature for {self.name} has an estimated relative error of {error:.1e}, "
                f"more than {TOLERANCE:.0e}: the function bends or jumps where it is not "
                "expected, or its Gaussian is too wide. monte_carlo() checks the kernel.",
                AccuracyWarning,
                stacklevel=2,
            )


def _error(estimate: Estimate, size: Tensor) -> Tensor:
    """The largest relative error: halving the step of the tanh-sinh rule squares it.

    The square of the difference to the coarse rule, with a factor 100 to be safe.
    """
    if not estimate.value.numel():
        return torch.zeros(())
    difference = (estimate.value - estimate.coarse).detach().abs()
    relative = safe_divide(difference, size.detach().abs())
    return 100.0 * relative.amax().square()
