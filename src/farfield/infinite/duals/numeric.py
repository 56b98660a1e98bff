"""Any elementwise function, by quadrature that estimates its own error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.errors import AccuracyWarning
from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import RowLaw, Smooth, positive
from farfield.infinite.duals.nodes import fejer, tanh_sinh
from farfield.infinite.duals.polar import Estimate, Pairs, expectation, pair_expectation
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import safe_divide, safe_sqrt

Function = Callable[[Tensor], Tensor]

TOLERANCE = 1e-10
"""Estimated relative error above which a warning is given."""

# Tried one after the other, each with the estimated error at which it is believed. The first two
# have no nodes to spare for layers, so they must be surer of themselves.
_RULES = (
    (fejer(64), 1e-5 * TOLERANCE),
    (fejer(96), 1e-5 * TOLERANCE),
    *((tanh_sinh(half), 0.01 * TOLERANCE) for half in (72, 100, 140, 200)),
)
_RULE_OF_ROWS = tanh_sinh(200)  # rows are few, so they get many nodes at once


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

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""
        return self._expect_pairs(self.function, law, angle, law.root)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""
        root = law.slope_root
        return self._expect_pairs(self._slope, law, angle, root) * root.outer()

    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self._expect_pairs(lambda u: u * self._slope(u), law, angle, law.gain_root)

    def _slope(self, u: Tensor) -> Tensor:
        with torch.enable_grad():
            nodes = u if u.requires_grad else u.detach().requires_grad_()
            value = self.function(nodes)
            (slope,) = torch.autograd.grad(value.sum(), nodes, create_graph=u.requires_grad)
        return slope

    def _expect(self, function: Function, r: Tensor) -> Tensor:
        rows = r.double()
        estimate = expectation(function, rows, self.bends, _RULE_OF_ROWS)
        size = expectation(lambda u: function(u).abs(), rows.detach(), self.bends, _RULE_OF_ROWS)
        self._check(estimate, size.value)
        return estimate.value.to(r.dtype)

    def _expect_pairs(self, function: Function, law: RowLaw, angle: Angle, root: Rows) -> Tensor:
        """``E[f(u) f(v)]`` over these roots."""
        shape = angle.apart.shape
        pairs = _flat(law.r, angle)
        left, right = positive(root.left), positive(root.right)
        scale = (left * right).expand(shape).reshape(-1).detach().double()
        rule, accepted = _RULES[0]
        estimate = pair_expectation(function, pairs, self.bends, rule)
        for rule, next_accepted in _RULES[1:]:
            again = (_errors(estimate, scale) > accepted).nonzero().flatten()
            if not len(again):
                break
            finer = pair_expectation(function, pairs.take(again), self.bends, rule)
            estimate = Estimate(
                estimate.value.index_copy(0, again, finer.value),
                estimate.change.index_copy(0, again, finer.change),
            )
            accepted = next_accepted
        self._check(estimate, scale)
        return estimate.value.reshape(shape).to(angle.apart.dtype) / left / right

    def _check(self, estimate: Estimate, size: Tensor) -> None:
        errors = _errors(estimate, size)
        error = float(errors.max()) if errors.numel() else 0.0
        if not error <= TOLERANCE:
            warnings.warn(
                f"The quadrature for {self.name} has an estimated relative error of {error:.1e}, "
                f"more than {TOLERANCE:.0e}: the function bends or jumps where it is not "
                "expected, or its Gaussian is too wide. monte_carlo() checks the kernel.",
                AccuracyWarning,
                stacklevel=2,
            )


def _flat(r: Rows, angle: Angle) -> Pairs:
    shape = angle.apart.shape
    short, wide = safe_sqrt(angle.apart).double(), safe_sqrt(angle.together).double()
    return Pairs(
        r.left.expand(shape).reshape(-1).double(),
        r.right.expand(shape).reshape(-1).double(),
        2.0 * torch.atan2(short, wide).reshape(-1),
        2.0 * torch.atan2(wide, short).reshape(-1),
    )


def _errors(estimate: Estimate, size: Tensor) -> Tensor:
    """Relative errors, from the relative change c that half of the nodes make.

    Twice as many nodes square the error of a function without structure at the scale of the
    nodes; for very wide Gaussians it is less. ``c^1.5`` bounds both in all comparisons with
    closed forms.
    """
    return safe_divide(estimate.change, size.detach().abs()).pow(1.5)
