r"""Bounds of networks of layers one behind the other, by quadratic forms of all layers at once.

On the vector xi of a network (:mod:`farfield.growth.chain`) everything that is known is quadratic:
forms that are never negative, and so the products of any two of them, ``u (u - s) = 0``, and
``|t|^2 <= n``. With multipliers for all of these, and a parabola above each unit of the last
activation,

    v phi(h) <= alpha h^2 + eta h + max over [l, u] of (v phi(h) - alpha h^2 - eta h),

an output is at most ``gamma + xi' M xi`` for one symmetric matrix M, linear in the multipliers. If
``k e e' - M`` has no negative eigenvalue, e being the first unit vector, the output is at most
``gamma + k``: xi starts with 1. The multipliers are improved by gradient steps on the largest
eigenvalue; whichever they are, the last matrix is tested by Cholesky's factorisation.

This is the dual of the semidefinite relaxation of Raghunathan, Steinhardt and Liang (NeurIPS 2018),
solved to first order like that of Dathathri et al. (NeurIPS 2020). The products of all pairs of
signs (which make it a relaxation over doubly nonnegative matrices), the unit of an input that a
norm does not see, and with it all of R^d, are what is new here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.growth.chain import Chain, Forms, Map, chain_of
from farfield.growth.graph import Node
from farfield.growth.intervals import largest, rounding

_RATE = 0.04  # of the multipliers of single units, times the root of their number
_PAIRS = (0.06, 8.0)  # of the products of two signs: at most, and over the size of xi
_STRICT = (4.0, 12.0)  # how much more an eigenvalue above 0 weighs where it cannot be repaired
_WORK, _MOST_STEPS = 3e10, 1500  # of all gradient steps together
_FEWEST = 30  # gradient steps that are worth it
_SHIFTS = (1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # relative to the diagonal
_BLUR = (0.004, 1e-4)  # of the largest eigenvalue: at first, of the sizes; and at last
_EXACT = 2e-6  # relative rounding of eigenvalues in float32
_CLOSE = 0.02  # relative to the largest value found; a bound as near as that stays


@dataclass(eq=False)
class _Multipliers:
    """What a bound is made from; products of signs and of balls are at least 0."""

    curve: Tensor
    slope: Tensor
    relus: Tensor
    products: Tensor
    balls: Tensor
    spheres: Tensor
    top: Tensor

    @property
    def all(self) -> list[Tensor]:
        return [
            self.curve, self.slope, self.relus, self.products, self.balls, self.spheres, self.top
        ]  # fmt: skip

    def mapped(self, change: Callable[[Tensor], Tensor]) -> _Multipliers:
        return _Multipliers(*map(change, self.all))


@dataclass(frozen=True, eq=False)
class _Relations:
    """The coefficients of the forms of a chain, or their sizes.

    Attributes:
        signs: Of the forms that are never negative: (size, k), sparse.
        units: Of u.
        below: Of s.
        last: Of the arguments of the last activation.
        balls: What is never negative, and then what is 0, as left and right forms.
        sign: -1, or 1 if these are sizes: differences are sums then.
    """

    signs: Tensor
    units: Tensor
    below: Tensor
    last: Tensor
    balls: tuple[tuple[Tensor, Tensor], ...]
    sign: float

    @classmethod
    def of(
        cls, chain: Chain, units: Tensor, read: Callable[[Forms], Tensor], sign: float
    ) -> _Relations:
        """Those of a chain, for ``xi / units``."""

        def scaled(forms: Forms) -> Tensor:
            return read(_in_units(forms, units))

        return cls(
            read(_evened(_in_units(chain.signs, units))).T.to_sparse(), scaled(chain.units),
            scaled(chain.below), scaled(chain.last),
            tuple((scaled(a), scaled(b)) for a, b in chain.balls + chain.spheres), sign,
        )  # fmt: skip

    def to(self, dtype: torch.dtype) -> _Relations:
        """The same numbers, rounded."""
        return _Relations(
            self.signs.to(dtype), self.units.to(dtype), self.below.to(dtype), self.last.to(dtype),
            tuple((a.to(dtype), b.to(dtype)) for a, b in self.balls), self.sign,
        )  # fmt: skip

    def matrix(self, m: _Multipliers) -> Tensor:
        """M, symmetric but for rounding."""
        cross = self.units.T @ (m.relus[:, None] * (self.below + self.sign * self.units))
        slope = m.slope @ self.last
        cross = cross + torch.cat([slope[None], slope.new_zeros(len(slope) - 1, len(slope))])
        matrix = self.last.T @ (m.curve[:, None] * self.last) + (cross + cross.T) / 2.0
        half = torch.sparse.mm(self.signs, (m.products + m.products.T) / 2.0)
        matrix = matrix + torch.sparse.mm(self.signs, half.T)
        for weight, (left, right) in zip(torch.cat([m.balls, m.spheres]), self.balls, strict=True):
            matrix = matrix + weight * (left.T @ left + self.sign * (right.T @ right))
        whole: Tensor = matrix
        return whole


def tighten(outputs: Sequence[Node], lower: Tensor, upper: Tensor, steps: int) -> None:
    """Tighten the intervals of bounded outputs, the largest first.

    Args:
        outputs: The outputs.
        lower: The least value found of each, flattened one behind the other.
        upper: The largest.
        steps: Gradient steps for each end of an interval, at most.
    """
    start, work = 0, _WORK / max(len(outputs), 1)
    for node in outputs:
        stop = start + node.lower.numel()
        found = chain_of(node)
        if found is not None and steps > 0:
            goals = torch.cat([upper[start:stop], -lower[start:stop]])
            _tighten(node, *found, goals, steps, work)
        start = stop


def _tighten(node: Node, chain: Chain, last: Map, goals: Tensor, steps: int, work: float) -> None:
    ends = torch.cat([node.upper.flatten(), -node.lower.flatten()])
    open_ = ends - goals > _CLOSE * goals.abs().max()
    order = torch.where(open_, ends, -math.inf).argsort(descending=True)[: int(open_.sum())]
    quadratic = Quadratic(chain, torch.Generator().manual_seed(0))
    each = min(work / quadratic.work, _MOST_STEPS)
    if each < _FEWEST or not len(order):
        return
    steps = min(steps, max(int(each / len(order)), _FEWEST))
    size = chain.node.parents[0]
    largest_last = largest(size.lower, size.upper).flatten() * torch.maximum(
        *(slope.abs() for slope in chain.slopes)
    )
    margin = rounding(last.terms) * (last.sizes @ largest_last + last.offset_sizes)
    for end in order[: int(each / steps)].tolist():
        sign, row = (1.0, end) if end < len(last.matrix) else (-1.0, end - len(last.matrix))
        value = quadratic.upper(sign * last.matrix[row], steps)
        value += sign * float(last.offset[row]) + 2.0 * float(margin[row])
        ends[end] = torch.minimum(ends[end], torch.tensor(value, dtype=torch.float64))
    half = len(ends) // 2
    node.tighten(-ends[half:].reshape(node.shape), ends[:half].reshape(node.shape))


class Quadratic:
    """Bounds of linear functions of the last activation of a chain.

    Args:
        chain: The network.
        generator: For some points, which tell how large xi is.
    """

    def __init__(self, chain: Chain, generator: torch.Generator) -> None:
        limits = chain.limits
        xi = chain.points(256, generator)
        if limits is None:
            known = [float(xi[:, part].norm(dim=1).nanmean()) for part in chain.parts]
            sizes = [size if 0.0 < size < math.inf else 1.0 for size in known]
        else:
            sizes = list(limits)
        # Powers of two, so that nothing is rounded
        units = torch.ones(chain.size, dtype=torch.float64)
        for part, size in zip(chain.parts, sizes, strict=True):
            units[part] = 2.0 ** math.ceil(math.log2(max(size, 1e-30)))
        self._chain = chain
        self._room = sum(
            (size / float(units[part.start])) ** 2
            for part, size in zip(chain.parts, sizes, strict=True)
        )
        self._rows = _Relations.of(chain, units, lambda forms: forms.rows, -1.0)
        self._sizes = _Relations.of(chain, units, lambda forms: forms.sizes, 1.0)
        below = chain.node.parents[0]
        self._low, self._high = below.lower.flatten(), below.upper.flatten()

    @property
    def work(self) -> float:
        """What one gradient step costs: eigenvalues, and what does not depend on the size."""
        return float(self._chain.size) ** 3 + 2.5e6

    def upper(self, row: Tensor, steps: int) -> float:
        """An upper bound of ``row . phi(h)`` by gradient steps; infinite if none was found."""
        size = float(torch.linalg.vector_norm(row))
        if size == 0.0:
            return 0.0
        found = self._improved(row / size, steps)
        return self._verified(row, found.mapped(lambda x: size * x.double()))

    def _start(self, row: Tensor) -> _Multipliers:
        left, right = self._chain.slopes
        count = self._rows.signs.shape[1]
        full = torch.full
        return _Multipliers(
            0.05 * row.abs(),
            0.5 * (left + right) * row,
            full((len(self._rows.units),), 0.05),
            torch.zeros(count, count),
            full((len(self._chain.balls),), 1.0),
            full((len(self._chain.spheres),), 0.1 / len(row) ** 0.5),
            torch.zeros(()),
        ).mapped(torch.Tensor.float)

    def _improved(self, row: Tensor, steps: int) -> _Multipliers:
        """Adam in float32 on the bound, with the largest eigenvalue smoothed less and less."""
        now = self._start(row)
        rows = self._rows.to(torch.float32)
        fine, coarse = _RATE / len(row) ** 0.5, 0.1
        pairs = min(_PAIRS[0], _PAIRS[1] / self._chain.size)
        groups = [([now.curve, now.slope, now.relus], fine), ([now.spheres], fine / 2.0),
                  ([now.products], pairs), ([now.balls, now.top], coarse)]  # fmt: skip
        for x in now.all:
            x.requires_grad_()
        optimiser = torch.optim.Adam([{"params": part, "lr": rate} for part, rate in groups])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        best, least = now.mapped(_copy), math.inf
        for step in range(steps + 1):
            room = self._room
            if self._chain.limits is None:
                room *= _STRICT[0] + _STRICT[1] * step / (steps + 1)
            with torch.enable_grad():
                matrix = rows.matrix(now)
                if not bool(matrix.isfinite().all()):
                    break
                values = torch.linalg.eigvalsh(matrix - now.top * _one_corner(matrix))
                largest_value = float(values.detach().abs().max())
                blur = _BLUR[0] * (1.0 - step / (steps + 1)) * largest_value + _BLUR[1]
                soft = blur * torch.logsumexp(torch.cat([values / blur, values.new_zeros(1)]), 0)
                gamma = self._gamma(row, now)[0]
                loss = gamma + now.top + room * soft
            highest = float(values.detach()[-1])
            value = float((gamma + now.top).detach()) + room * max(highest, 0.0)
            proves = self._chain.limits is not None or highest < -_EXACT * largest_value
            if proves and value < least:
                best, least = now.mapped(_copy), value
            if step == steps:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                now.products.clamp_(min=0.0)
                now.balls.clamp_(min=0.0)
        return best

    def _gamma(self, row: Tensor, m: _Multipliers) -> tuple[Tensor, Tensor]:
        """The sum of the maxima of ``v phi(h) - alpha h^2 - eta h``, and its rounding."""
        low, high = self._low, self._high
        zero = torch.zeros_like(low)
        found = []
        for slope, left, right in (
            (self._chain.slopes[0], low, torch.minimum(high, zero)),
            (self._chain.slopes[1], torch.maximum(low, zero), high),
        ):
            steep = row * slope - m.slope
            bent = torch.where(m.curve > 0, m.curve, 1.0).detach()
            peak = torch.where(m.curve > 0, steep / (2.0 * bent), left).detach()
            ends = torch.stack([left, right, torch.minimum(torch.maximum(peak, left), right)])
            values = steep * ends - m.curve * ends.square()
            found.append(torch.where(left <= right, values.amax(0), -math.inf))
        size = torch.maximum(low.abs(), high.abs())
        steepest = torch.maximum(*(slope.abs() for slope in self._chain.slopes))
        terms = (row.abs() * steepest + m.slope.abs() + m.curve.abs() * size) * size
        return torch.maximum(*found).sum(), rounding(len(row)) * terms.sum()

    def _verified(self, row: Tensor, m: _Multipliers) -> float:
        """The bound that these multipliers prove; infinite if they prove none.

        ``s |xi|^2 - M + (k - s) e e'`` without a negative eigenvalue proves k, and s times the
        square of the length that xi can have, less 1.
        """
        matrix = self._rows.matrix(m)
        matrix = (matrix + matrix.T) / 2.0
        if not bool(matrix.isfinite().all()):
            return math.inf
        sizes = self._sizes.matrix(m.mapped(torch.abs))
        margin = 4.0 * (self._chain.error + rounding(2 * len(m.products)))
        margin *= float(torch.linalg.matrix_norm(sizes))
        gamma, room = self._gamma(row, m)
        lowest = float(torch.linalg.eigvalsh(-matrix[1:, 1:])[0])
        scale = float(matrix.diagonal().abs().max())
        shifts = [0.0]
        if self._chain.limits is not None:
            shifts = [max(-lowest, 0.0) + part * scale + 4.0 * margin for part in _SHIFTS]
        tops = [shift * self._room + self._corner(matrix, shift, margin) for shift in shifts]
        value = float(gamma + room) + min(tops)
        return value + rounding(4) * (abs(float(gamma)) + abs(min(tops)))

    def _corner(self, matrix: Tensor, shift: float, margin: float) -> float:
        """The least k for which ``s + (k - s) e e' - M`` surely has no negative eigenvalue."""
        whole = shift * torch.eye(len(matrix), dtype=torch.float64) - matrix
        margin += 4.0 * rounding(len(matrix)) * float(whole.diagonal().abs().sum())
        factor, failed = torch.linalg.cholesky_ex(_lowered(whole[1:, 1:], 2.0 * margin))
        if failed:
            return math.inf
        side = matrix[1:, :1]
        least = torch.cholesky_solve(side, factor)
        top = float(matrix[0, 0] + (side * least).sum())
        more = 4.0 * margin * (1.0 + float(least.square().sum())) + 1e-12 * abs(top)
        top = top + more
        whole[0, 0] = top - matrix[0, 0]
        margin += 4.0 * rounding(len(matrix)) * abs(float(whole[0, 0]))
        # Factorising what has a negative eigenvalue fails, but for what the margin is more than.
        return math.inf if torch.linalg.cholesky_ex(_lowered(whole, margin))[1] else top


def _lowered(matrix: Tensor, margin: float) -> Tensor:
    return matrix - margin * torch.eye(len(matrix), dtype=torch.float64)


def _in_units(forms: Forms, units: Tensor) -> Forms:
    return Forms(forms.rows * units, forms.sizes * units)


def _evened(forms: Forms) -> Forms:
    """The forms times powers of two, so that all are about as large."""
    size = torch.linalg.vector_norm(forms.rows, dim=1).clamp(min=1e-30)
    return forms.scaled(2.0 ** -size.log2().round())


def _one_corner(matrix: Tensor) -> Tensor:
    corner = torch.zeros_like(matrix)
    corner[0, 0] = 1.0
    return corner


def _copy(x: Tensor) -> Tensor:
    return x.detach().clone()
