r"""Expectations over pairs of nearly the same Gaussian, for functions that bend.

With v = r2 (c z + s w), u = r1 z and s = sin theta small, the function of v is first averaged
over w, a Gaussian of the small width sigma = s r2. Away from the bends a few Gauss-Hermite nodes
do that. Around a bend k of the function of v, with v = k + sigma x and r2 c z = k + sigma y, the
average is ``F(y) = int g(k + sigma x) density(x - y) dx``: g is needed at a few x on either side
only, whatever y. What remains is one integral over z, cut where f bends and where the
neighbourhoods |y| < 7 of the bends begin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from farfield.infinite.duals.nodes import Rule, gauss, gauss_hermite
from farfield.infinite.duals.polar import Estimate, Pairs

Function = Callable[[Tensor], Tensor]

WIDEST = 0.4  # sigma: functions must be smooth at this scale, but for their bends

_REACH = 9.5  # of z
_AROUND = 7.0  # of y
_INSIDE = 14.5  # of x: 7.5 more
_WIDEST_PANEL = 3.2  # of z
_UNIT = 2.0  # width in u of the panels next to zero
_AT_ONCE = 16  # pairs, with some ten thousand nodes each


def is_near(pairs: Pairs, kinks: Collection[float]) -> Tensor:
    """Which pairs :func:`near_expectation` is made for, (m,)."""
    cuts = sorted(set(kinks))
    gap = min((b - a for a, b in itertools.pairwise(cuts)), default=math.inf)
    theta = torch.minimum(pairs.angle, pairs.supplement)
    sigma = torch.sin(theta) * torch.minimum(pairs.left, pairs.right)
    return (theta < 0.5) & (sigma > 0) & (sigma < min(WIDEST, gap / (_INSIDE + 0.5)))


def near_expectation(function: Function, pairs: Pairs, kinks: Collection[float]) -> Estimate:
    """``E[f(u) f(v)]`` for Gaussian pairs that are near each other, or near antipodes.

    Args:
        function: f, entry by entry.
        pairs: m pairs of which :func:`is_near` is true.
        kinks: Where f bends or jumps.

    Returns:
        Values of shape (m,).
    """
    cuts = sorted(set(kinks))
    acute = pairs.angle <= pairs.supplement
    result = Estimate.unknown(pairs.left)
    for chosen, sign in [(acute, 1.0), (~acute, -1.0)]:
        index = chosen.nonzero().flatten()
        # Rows of similar width share their panels.
        index = index[torch.maximum(pairs.left, pairs.right)[index].argsort()]
        for some in index.split(_AT_ONCE):
            if len(some):
                result = result.put(some, _chunk(function, pairs.take(some), cuts, sign))
    return result


def _chunk(f: Function, pairs: Pairs, kinks: Sequence[float], sign: float) -> Estimate:
    """Pairs with the same sign of the cosine; where it is negative, of u and -v."""
    wide = torch.maximum(pairs.left, pairs.right)[:, None]
    narrow = torch.minimum(pairs.left, pairs.right)[:, None]
    theta = (pairs.angle if sign > 0 else pairs.supplement)[:, None]
    outer = _Outer(f, kinks, wide, gauss(18).to(theta.device))
    around = [(sign * kink, torch.cos(theta), torch.sin(theta), narrow) for kink in kinks]

    def g(v: Tensor) -> Tensor:
        return f(sign * v)

    total = _away(outer, g, around, torch.cos(theta), torch.sin(theta), narrow)
    for bend in around:
        part = _beside(outer, g, *bend)
        total = Estimate(total.value + part.value, total.change + part.change, total.beyond)
    return total


class _Outer:
    """The integral over z of f(r1 z) times something, on panels cut at the bends of f."""

    def __init__(self, f: Function, kinks: Sequence[float], r: Tensor, rule: Rule) -> None:
        self.f, self.kinks, self.r, self.rule = f, kinks, r, rule

    def bends(self) -> list[Tensor]:
        """In z, each (m, 1)."""
        return [kink / self.r for kink in self.kinks]

    def nodes(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and lengths of the panels between sorted edges: (m, panels, nodes), (m, panels)."""
        start, end = edges[:, :-1, None], edges[:, 1:, None]
        return start * self.rule.rest + end * self.rule.x, edges.diff(dim=-1)

    def integrate(self, z: Tensor, lengths: Tensor, fine: Tensor, coarse: Tensor) -> Estimate:
        """The integral, given the inner one by a fine and by a coarse rule."""
        outer = self.f(self.r[..., None] * z) * _density(z) * lengths[..., None]
        values = outer * fine
        panels = values @ self.rule.fine
        with torch.no_grad():
            change = (panels - values @ self.rule.coarse).abs().sum(-1)
            change += ((outer * (fine - coarse)) @ self.rule.fine).abs().sum(-1)
        return Estimate(panels.sum(-1), change, torch.zeros_like(change))


def _away(
    outer: _Outer,
    g: Function,
    around: Sequence[tuple[float, Tensor, Tensor, Tensor]],
    c: Tensor,
    s: Tensor,
    r2: Tensor,
) -> Estimate:
    """All but the neighbourhoods of the bends of g."""
    layers = [((k / r2 - _AROUND * s) / c, (k / r2 + _AROUND * s) / c) for k, *_ in around]
    common = _common_edges(outer.r)
    cuts = [common.expand(len(c), -1), *outer.bends(), *(edge for pair in layers for edge in pair)]
    edges = torch.cat(cuts, -1).clamp(-_REACH, _REACH).sort(-1).values
    z, lengths = outer.nodes(edges)
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    for low, high in layers:
        lengths = torch.where((middle > low) & (middle < high), 0.0, lengths)
    rule = gauss_hermite(16).to(c.device)
    inner = g((r2 * c)[..., None, None] * z[..., None] + (r2 * s)[..., None, None] * rule.x)
    result = outer.integrate(z, lengths, inner @ rule.fine, inner @ rule.coarse)
    with torch.no_grad():
        ends = z[:, [0, -1], [0, -1]]
        beyond = (outer.f(outer.r * ends) * g(r2 * c * ends) * _density(ends)).abs().amax(-1)
    return Estimate(result.value, result.change, beyond)


def _beside(outer: _Outer, g: Function, kink: float, c: Tensor, s: Tensor, r2: Tensor) -> Estimate:
    """The neighbourhood of one bend of g."""
    sigma = s * r2
    fixed = torch.linspace(-_AROUND, _AROUND, 5, dtype=c.dtype, device=c.device)
    bends = [(r2 * c * z - kink) / sigma for z in outer.bends()]
    edges = torch.cat([fixed.expand(len(c), -1), *bends], -1).clamp(-_AROUND, _AROUND)
    y, lengths = outer.nodes(edges.sort(-1).values)
    fine, coarse = torch.zeros_like(y), torch.zeros_like(y)
    rule = gauss(56).to(c.device)
    for side in (-1.0, 1.0):
        x = side * _INSIDE * rule.x
        values = _INSIDE * g(kink + sigma * x)
        kernel = _density(x - y[..., None]).flatten(1, 2)
        both = torch.stack([values * rule.fine, (values * rule.coarse).detach()], -1)
        inner = (kernel @ both).unflatten(1, y.shape[1:])
        fine, coarse = fine + inner[..., 0], coarse + inner[..., 1]
    z = kink / (r2 * c)[..., None] + (s / c)[..., None] * y
    return outer.integrate(z, lengths * (s / c), fine, coarse)


def _common_edges(r: Tensor) -> Tensor:
    """Edges in z that all pairs of a chunk share: narrow panels around zero for wide Gaussians."""
    edges = [0.0]
    width = min(_WIDEST_PANEL, _UNIT / max(float(r.detach().max()), 1e-300))
    while edges[-1] < _REACH:
        edges.append(edges[-1] + min(_WIDEST_PANEL, max(width, edges[-1])))
    positive = torch.tensor(edges[1:], dtype=r.dtype, device=r.device)
    return torch.cat([-positive.flip(0), positive.new_zeros(1), positive])


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) * (1.0 / math.sqrt(2.0 * math.pi))
