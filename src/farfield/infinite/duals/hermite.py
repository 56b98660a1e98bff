r"""Hermite coefficients of functions of a Gaussian: ``a_k(r) = E[f(r z) h_k(z)]``, z ~ N(0, 1).

The orthonormal polynomials h_k times the root of the density stay below one, however large k is,
and so does their recurrence. The function times the root of the density is integrated against
them by Gauss rules on panels: narrow ones around zero, where a function of a wide Gaussian has
its structure, and cut where the function bends. On each panel the function must be a polynomial
to nearly all digits; what the last Legendre coefficients say of this is the estimated error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield.infinite.safe import safe_divide

Function = Callable[[Tensor], Tensor]

_REACH = 12.0  # exp(-reach^2 / 4) is below 1e-15: enough unless the function grows exponentially
_FURTHER = 4.0  # reach added with each new try
_NODES = 32  # on each panel
_LAST = 4  # Legendre coefficients that show how well a panel resolves the function
_PHASE = 16.0  # of h_k over half a panel: with it, degree 63 leaves half of its degrees to f
_UNIT = 2.0  # width of the panels next to zero, in u: functions vary at this scale
_DYADIC = 60  # panels of growing width at most
_TRIES = 4  # with panels of half the width, and more of them
_RESOLVED = 1e-14
_ENTRIES = 2**17


@dataclass(frozen=True)
class Coefficients:
    """Hermite coefficients of one function.

    Attributes:
        values: a_0, a_1, ..., (m, count).
        error: Estimate of the root of the sum of the squares of their errors, (m,).
    """

    values: Tensor
    error: Tensor


def coefficients(
    function: Function, r: Tensor, kinks: Collection[float], count: int
) -> Coefficients:
    """Hermite coefficients of ``z -> f(r z)``.

    Args:
        function: f, entry by entry.
        r: Standard deviations, (m,), float64, without a gradient.
        kinks: Where f bends or jumps.
        count: How many coefficients.

    Returns:
        The coefficients and their estimated error.
    """
    best: Coefficients | None = None
    for attempt in range(_TRIES):
        edges = _edges(r, count, attempt)
        found = [_chunk(function, part, kinks, edges, count) for part in _chunks(r, edges)]
        result = Coefficients(
            torch.cat([part.values for part in found]), torch.cat([part.error for part in found])
        )
        if best is None:
            best = result
        else:
            better = result.error < best.error
            best = Coefficients(
                torch.where(better[:, None], result.values, best.values),
                torch.where(better, result.error, best.error),
            )
        size = best.values.square().sum(-1).sqrt()
        if bool((best.error <= _RESOLVED * size).all()):
            break
    assert best is not None
    return best


class Expansion(torch.autograd.Function):
    """Given coefficients, with their gradient in r.

    ``r da_k/dr = k a_k + sqrt((k + 1) (k + 2)) a_(k+2)``, by parts, whether f has a slope or not.
    """

    @staticmethod
    def forward(ctx: Any, r: Tensor, values: Tensor) -> Tensor:
        """All but the last two coefficients, (*shape of r, count - 2)."""
        ctx.save_for_backward(r, values)
        return values[..., :-2].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient in r."""
        r, values = ctx.saved_tensors
        k = torch.arange(values.shape[-1] - 2, dtype=values.dtype, device=values.device)
        moved = k * values[..., :-2] + ((k + 1) * (k + 2)).sqrt() * values[..., 2:]
        return safe_divide((grad * moved).sum(-1), r.to(grad.dtype)).to(r.dtype), None


@cache
def _gauss() -> tuple[Tensor, Tensor, Tensor]:
    """Nodes and weights on (0, 1), and the matrix that yields the last Legendre coefficients.

    The coefficients are those of the orthonormal polynomials.
    """
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    degrees = np.arange(_NODES - _LAST, _NODES)
    vander = np.polynomial.legendre.legvander(x, _NODES - 1)[:, degrees]
    analysis = vander * (0.5 * weights)[:, None] * np.sqrt(2.0 * degrees + 1.0)
    return (
        torch.from_numpy(0.5 * (1.0 + x)),
        torch.from_numpy(0.5 * weights),
        torch.from_numpy(analysis),
    )


def _edges(r: Tensor, count: int, attempt: int) -> Tensor:
    """Edges of panels that all rows share, from -reach to reach."""
    reach, parts = _REACH + _FURTHER * attempt, 2**attempt
    widest = 2.0 * _PHASE / math.sqrt(count)
    largest = float(r.max()) if r.numel() else 0.0
    narrowest = max(_UNIT / max(largest, _UNIT / widest), _REACH * 0.5**_DYADIC)
    edges = [0.0]
    while edges[-1] < reach:
        width = min(widest, max(edges[-1], narrowest))
        edges += [edges[-1] + width * (i + 1) / parts for i in range(parts)]
    positive = torch.tensor(edges[1:], dtype=torch.float64, device=r.device)
    return torch.cat([-positive.flip(0), positive.new_zeros(1), positive])


def _chunks(r: Tensor, edges: Tensor) -> Iterator[Tensor]:
    size = max(1, _ENTRIES // (_NODES * len(edges)))
    return iter(r.split(size))


def _chunk(
    function: Function, r: Tensor, kinks: Collection[float], edges: Tensor, count: int
) -> Coefficients:
    low, high = edges[:-1].expand(len(r), -1), edges[1:].expand(len(r), -1)
    cuts = sorted({kink for kink in kinks if kink})
    values = r.new_zeros(len(r), count)
    unresolved = torch.zeros_like(r)
    whole = torch.ones_like(low)
    if cuts:
        pieces, whole = _cut(r, cuts, edges)
        start, end = pieces
        weighted, rest = _weighted(function, r, start, end)
        unresolved += rest
        nodes = _at(start, end)
        for k, wave in enumerate(_waves(nodes.flatten(1), count)):
            values[:, k] = (weighted.flatten(1) * wave).sum(-1)
    weighted, rest = _weighted(function, r, low, high, whole)
    waves = torch.stack(list(_waves(_at(edges[None, :-1], edges[None, 1:]).flatten(), count)), -1)
    ends = torch.stack([edges[0], edges[-1]])
    beyond = (function(r[:, None] * ends) * _root_of_density(ends)).square().sum(-1)
    error = (unresolved + rest + beyond).sqrt()
    return Coefficients(values + weighted.flatten(1) @ waves, error)


def _at(start: Tensor, end: Tensor) -> Tensor:
    """Nodes of panels, (..., panels, nodes)."""
    x, _, _ = (part.to(start.device) for part in _gauss())
    return start[..., None] + (end - start)[..., None] * x


def _weighted(
    function: Function, r: Tensor, start: Tensor, end: Tensor, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The function times the root of the density and the weights; squares of what is unresolved.

    Returns:
        Of shapes (m, panels, nodes) and (m,).
    """
    _, weights, analysis = (part.to(r.device) for part in _gauss())
    z = _at(start, end)
    values = function(r[:, None, None] * z) * _root_of_density(z)
    if share is not None:
        values = values * share[..., None]
    last = (values @ analysis).square().sum(-1) * (end - start)
    return values * weights * (end - start)[..., None], last.sum(-1)


def _cut(r: Tensor, cuts: list[float], edges: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The panels in which a row's function bends, cut there; and which panels stay whole.

    Returns:
        Starts and ends of the pieces, (m, 2 * cuts), and ones for the other panels, (m, panels).
    """
    # A wide row has its cuts close to zero, a narrow one beyond the reach.
    places = torch.tensor(cuts, dtype=r.dtype, device=r.device)
    z = (places / r.clamp_min(1e-300)[:, None]).clamp(edges[0], edges[-1])
    panel = (torch.searchsorted(edges, z) - 1).clamp(0, len(edges) - 2)
    low, high = edges[panel], edges[panel + 1]
    before = torch.cat([torch.full_like(z[:, :1], -math.inf), z[:, :-1]], 1)
    same = torch.cat(
        [panel[:, 1:] == panel[:, :-1], torch.zeros_like(panel[:, :1], dtype=torch.bool)], 1
    )
    start = torch.cat([torch.maximum(low, before), z], 1)
    end = torch.cat([z, torch.where(same, z, high)], 1)
    whole = torch.ones(len(r), len(edges) - 1, dtype=r.dtype, device=r.device)
    return (start, end), whole.scatter(1, panel, 0.0)


def _root_of_density(z: Tensor) -> Tensor:
    return torch.exp(-0.25 * z * z) * math.sqrt(1.0 / math.sqrt(2.0 * math.pi))


def _waves(z: Tensor, count: int) -> Iterator[Tensor]:
    """``h_k(z)`` times the root of the density, k = 0, 1, ..."""
    previous, current = torch.zeros_like(z), _root_of_density(z)
    for k in range(count):
        yield current
        following = (z * current - math.sqrt(k) * previous) / math.sqrt(k + 1)
        previous, current = current, following
