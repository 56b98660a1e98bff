"""Any elementwise function: a series where it converges, else quadrature; both know their error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from farfield.errors import AccuracyWarning
from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import RowLaw, Smooth, is_equal, positive
from farfield.infinite.duals.near import is_near, near_expectation
from farfield.infinite.duals.nodes import gauss, tanh_sinh
from farfield.infinite.duals.polar import Estimate, Pairs, expectation, pair_expectation
from farfield.infinite.duals.series import Series, expand
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import safe_divide, safe_sqrt

Function = Callable[[Tensor], Tensor]

TOLERANCE = 1e-10
"""Estimated relative error above which a warning is given, unless another one is requested."""

# Where a function is looked at to see whether it is odd.
_SAMPLE = torch.cat(
    [torch.logspace(-12, 3, 400, dtype=torch.float64), torch.linspace(0.003, 9.0, 800).double()]
)
_ROUNDING = 4.0 * torch.finfo(torch.float64).eps

_requested = ContextVar("requested", default=TOLERANCE)

_SURELY = 1e-3  # of the tolerance: pairs that a series knows better than that need nothing else

# Tried one after the other, each with the estimated error at which it is believed, in tolerances.
# The first ones have no nodes to spare for layers, so they must be surer of themselves.
_RULES = (
    *((gauss(count), 1e-5) for count in (20, 32, 48)),
    *((tanh_sinh(half), 0.01) for half in (72, 100, 140, 200)),
)
_RULE_OF_ROWS = tanh_sinh(200)  # rows are few, so they get many nodes at once
_ROWS_AT_ONCE = 512
# What happens at |u| of the order 1 is lost to the nodes of Gaussians wider than this; there
# the integrals are cut at these scales.
_WIDE = 1e3
_SCALES = (0.1, 1.0, 10.0, 100.0)


@contextmanager
def requesting(tolerance: float) -> Iterator[None]:
    """Let the functions that are met meanwhile have this tolerance.

    Args:
        tolerance: Estimated relative error above which they warn.

    Yields:
        Nothing.
    """
    before = _requested.set(tolerance)
    try:
        yield
    finally:
        _requested.reset(before)


@dataclass(frozen=True, eq=False, kw_only=True)
class NumericLaw(RowLaw):
    """Moments of each row, and the series of phi, phi' and u phi'."""

    value: Series
    slope: Series
    gain: Series


@dataclass(frozen=True, eq=False)
class Numeric(Smooth):
    """A function known only by its values; its slope comes from automatic differentiation.

    Attributes:
        function: phi, entry by entry, differentiable by PyTorch.
        bends: Where phi or its slope jumps.
        name: What it is called in messages.
        tolerance: Estimated relative error above which it warns.
    """

    function: Function
    bends: Collection[float]
    name: str
    tolerance: float = field(default_factory=_requested.get)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or its slope jumps."""
        return tuple(self.bends)

    @cached_property
    def odd(self) -> bool:
        """Whether phi is odd, as far as its bends and a sample of its values tell."""
        if {-bend for bend in self.bends} != set(self.bends):
            return False
        value, mirrored = self.function(_SAMPLE), self.function(-_SAMPLE)
        return bool(((value + mirrored).abs() <= _ROUNDING * value.abs()).all())

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
        return safe_sqrt(self._expect(lambda u: self._gain(u).square(), r))

    def rows(self, r: Rows) -> RowLaw:
        """Moments and Hermite series of each row."""
        plain = super().rows(r)
        return NumericLaw(
            **{part.name: getattr(plain, part.name) for part in fields(plain)},
            value=expand(self.function, r, plain.root, self.bends),
            slope=expand(self._slope, r, plain.slope_root, self.bends),
            gain=expand(self._gain, r, plain.gain_root, self.bends),
        )

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""
        return self._expect_pairs(self.function, _of(law).value, law.r, angle, law.root)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""
        return self.slope(law, angle) * law.slope_root.outer()

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return self._expect_pairs(self._slope, _of(law).slope, law.r, angle, law.slope_root)

    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self._expect_pairs(self._gain, _of(law).gain, law.r, angle, law.gain_root)

    def _slope(self, u: Tensor) -> Tensor:
        with torch.enable_grad():
            nodes = u if u.requires_grad else u.detach().requires_grad_()
            value = self.function(nodes)
            (slope,) = torch.autograd.grad(value.sum(), nodes, create_graph=u.requires_grad)
        return slope

    def _gain(self, u: Tensor) -> Tensor:
        return u * self._slope(u)

    def _expect(self, function: Function, r: Tensor) -> Tensor:
        rows = r.double().reshape(-1)
        if not rows.requires_grad and len(rows) and bool((rows == rows[0]).all()):
            return self._expect_rows(function, rows[:1]).to(r.dtype).expand(r.shape).clone()
        parts = [self._expect_rows(function, part) for part in rows.split(_ROWS_AT_ONCE)]
        return torch.cat(parts).reshape(r.shape).to(r.dtype)

    def _expect_rows(self, function: Function, rows: Tensor) -> Tensor:
        wide = rows.detach() > _WIDE
        value = torch.zeros_like(rows)
        for chosen, cuts in [(~wide, self.bends), (wide, (*self.bends, *_SCALES))]:
            if bool(chosen.any()):
                part = self._expect_between(function, rows[chosen], cuts)
                value = value.index_put((chosen,), part)
        return value

    def _expect_between(self, function: Function, rows: Tensor, cuts: Collection[float]) -> Tensor:
        estimate = expectation(function, rows, cuts, _RULE_OF_ROWS)
        size = expectation(lambda u: function(u).abs(), rows.detach(), cuts, _RULE_OF_ROWS)
        self._check(_errors(estimate, size.value), rows)
        return estimate.value

    def _expect_pairs(
        self, function: Function, series: Series, r: Rows, angle: Angle, root: Rows
    ) -> Tensor:
        """``E[f(u) f(v)]`` over these roots."""
        enough = _SURELY * self.tolerance
        value, error = series.sum(_cosine(angle), enough)
        # A unit and itself: the roots are all there is to know.
        equal = is_equal(r, angle)
        value = torch.where(equal, (root.outer() > 0).to(value), value)
        rest = ~equal & (error > enough)
        symmetric = _is_symmetric(r, angle)
        if bool(rest.any()):
            at = (rest.triu() if symmetric else rest).nonzero().unbind(-1)
            direct, its_error = self._quadrature(function, _pairs(r, angle, at), _at(root, at))
            better = its_error < error[at]
            direct = torch.where(better, direct, value[at])
            its_error = torch.where(better, its_error, error[at])
            mirrored = [at, (*at[:-2], at[-1], at[-2])] if symmetric else [at]
            for places in mirrored:
                value, error = value.index_put(places, direct), error.index_put(places, its_error)
        self._check(error.masked_fill(equal, 0.0), torch.maximum(r.left, r.right))
        return value.to(angle.apart.dtype)

    def _quadrature(self, function: Function, pairs: Pairs, root: Rows) -> tuple[Tensor, Tensor]:
        """The same for some pairs, (m,), with estimated errors."""
        left, right = positive(root.left).double(), positive(root.right).double()
        scale = (left * right).detach()
        estimate = Estimate.unknown(pairs.left)
        near = is_near(pairs, self.bends).nonzero().flatten()
        if len(near):
            estimate = estimate.put(near, near_expectation(function, pairs.take(near), self.bends))
        accepted = 1.0
        for rule, next_accepted in _RULES:
            errors = _errors(estimate, scale)
            again = (errors > accepted * self.tolerance).nonzero().flatten()
            if not len(again):
                break
            finer = pair_expectation(function, pairs.take(again), self.bends, rule)
            better = _errors(finer, scale[again]) < errors[again]
            estimate = estimate.put(again[better], finer.take(better))
            accepted = next_accepted
        return estimate.value / left / right, _errors(estimate, scale)

    def _check(self, errors: Tensor, widths: Tensor) -> None:
        """Warn if an estimated error is too large, of Gaussians of these standard deviations."""
        error = float(errors.max()) if errors.numel() else 0.0
        if not error <= self.tolerance:
            widest = float(widths.detach()[~(errors <= self.tolerance)].max())
            warnings.warn(
                f"The quadrature for {self.name} has an estimated relative error of {error:.1e}, "
                f"more than {self.tolerance:.0e}, where the pre-activations of an input have a "
                f"standard deviation of up to {widest:.3g}: the function bends or jumps where "
                "it is not expected, or its Gaussian is too wide. Use smaller inputs, a smaller "
                "weight_var, a norm before the activation, or an activation with a closed form; "
                "monte_carlo() checks the kernel.",
                AccuracyWarning,
                stacklevel=2,
            )


def _of(law: RowLaw) -> NumericLaw:
    assert isinstance(law, NumericLaw)
    return law


def _is_symmetric(r: Rows, angle: Angle) -> bool:
    """Whether a tile is its own mirror image, so that half of it need not be computed.

    With gradients every pair has one of its own.
    """
    same = angle.apart.shape[-1] == angle.apart.shape[-2] and torch.equal(r.left, r.right.mT)
    if not same or angle.apart.requires_grad or r.left.requires_grad or r.right.requires_grad:
        return False
    cosines = torch.allclose(angle.cosine, angle.cosine.mT, rtol=0.0, atol=_SURELY * TOLERANCE)
    return cosines and torch.allclose(angle.apart, angle.apart.mT, rtol=1e-9, atol=1e-14)


def _cosine(angle: Angle) -> Tensor:
    """The cosine in double precision, which has no more digits than the angle."""
    apart, cosine = angle.apart.double(), angle.cosine.double()
    return torch.where(apart < 0.5, 1.0 - apart, cosine)


def _at(rows: Rows, at: tuple[Tensor, ...]) -> Rows:
    """In a tile: the values of both rows of some pairs, (m,)."""
    *positions, i, j = at
    return Rows(rows.left[..., 0][*positions, i], rows.right[..., 0, :][*positions, j])


def _pairs(r: Rows, angle: Angle, at: tuple[Tensor, ...]) -> Pairs:
    rows = _at(r, at)
    short, wide = safe_sqrt(angle.apart[at]).double(), safe_sqrt(angle.together[at]).double()
    return Pairs(
        rows.left.double(),
        rows.right.double(),
        2.0 * torch.atan2(short, wide),
        2.0 * torch.atan2(wide, short),
    )


def _errors(estimate: Estimate, size: Tensor) -> Tensor:
    """Relative errors, from the relative change c that a coarser rule makes.

    Twice as many nodes square the error of a function without structure at the scale of the
    nodes; for very wide Gaussians it is less. ``c^1.5`` bounds both in all comparisons with
    closed forms.
    """
    size = size.detach().abs()
    return safe_divide(estimate.change, size).pow(1.5) + safe_divide(estimate.beyond, size)
