r"""Order and chaos: where a random network stands, and how deep signals and gradients get.

In a wide random network the variance q of the pre-activations and the correlation c of those of two
inputs go from layer to layer as

    q -> V(q) = weight_var E[phi(sqrt(q) z)^2] + bias_var,
    c -> (weight_var E[phi(u) phi(v)] + bias_var) / q*,   u, v ~ N(0, q*) with correlation c,

and the mean squared gradient, from one layer to the one below, as
``chi = weight_var E[phi'(sqrt(q) z)^2]``.

Sources: Poole et al., "Exponential expressivity in deep neural networks through transient chaos"
(2016); Schoenholz et al., "Deep information propagation" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from farfield.errors import SettingsError
from farfield.infinite import dual_of
from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.pairs import Rows

CRITICAL = 1e-9
"""``|chi - 1|`` up to which a network is called critical: quadrature is good to 1e-10."""

_LEAST, _MOST = 1e-9, 1e12  # variances beyond count as 0 and as infinite
_TINY = 1e-20  # where the limit at q = 0 is looked at
_ROUNDING = 1e-12  # of the map of variances, relative
_SMALLEST = 1e-13  # 1 - c: below it a fixed point of the correlation is 1
_GRID = 10.0 ** torch.linspace(-6.0, 6.0, 97, dtype=torch.float64)  # of q, for the edge of chaos


@dataclass(frozen=True)
class Phase:
    """Where a wide random network stands.

    Attributes:
        name: ``"ordered"`` (chi < 1: gradients vanish, inputs become alike), ``"critical"``, or
            ``"chaotic"`` (chi > 1: gradients explode, like inputs are torn apart).
        variance: q*, the variance of the pre-activations after many layers: 0 or infinite where
            signals die out or grow without bound.
        chi: What the mean squared gradient is multiplied by per layer, at q*.
        correlation: c*, the stable correlation of two inputs after many layers; ``None`` where q*
            is 0 or infinite and phi is not homogeneous, so that there is none to be reached.
        variance_scale: xi_q: ``|q - q*|`` decays like ``exp(-layers / xi_q)``; infinite at a
            critical point of V, 0 if it is reached at once, ``None`` where q* is infinite.
        correlation_scale: xi_c, likewise of ``|c - c*|``: how deep a network can be trained.
    """

    name: str
    variance: float
    chi: float
    correlation: float | None
    variance_scale: float | None
    correlation_scale: float | None


def phase(
    activation: str | Callable[[Tensor], Tensor],
    weight_var: float | int,
    bias_var: float | int = 0.0,
    *,
    start: float | int = 1.0,
) -> Phase:
    r"""Fixed points, gradient factor and depth scales of wide random networks.

    ``xi_q = -1 / log |V'(q*)|`` and
    ``xi_c = -1 / log(weight_var E[phi'(u) phi'(v)])`` at the correlation c*; where c* = 1 the
    latter is ``-1 / log chi``. All expectations are those of the infinite-width reading: closed
    forms, else quadrature.

    Args:
        activation: A name, as of :func:`farfield.mlp`; a module such as ``nn.LeakyReLU(0.2)``; or a
            function of tensors such as ``torch.erf``.
        weight_var: W ~ N(0, weight_var / fan_in).
        bias_var: b ~ N(0, bias_var).
        start: Variance of the first layer's pre-activations, from which q* is reached; it matters
            where there are several fixed points, as for ReLU at (2, 0), where every q is one.

    Returns:
        The phase.

    Raises:
        SettingsError: A variance that is not allowed, or something that is no activation.
        UnsupportedOperation: The activation does something without an exact rule.

    Source: Poole et al. (2016), equations 3 to 7; Schoenholz et al. (2017), equations 3 to 9.

    Example:
        >>> import farfield as ff
        >>> found = ff.theory.phase("relu", 2.0)
        >>> found.name, found.variance, round(found.chi, 9), found.correlation
        ('critical', 1.0, 1.0, 1.0)
        >>> found = ff.theory.phase("tanh", 2.5, 0.05)
        >>> found.name, round(found.chi, 3), round(found.correlation, 3)
        ('chaotic', 1.134, 0.447)
    """
    weight_var, bias_var = _variance("weight_var", weight_var), _variance("bias_var", bias_var)
    if not 0.0 < start < math.inf:
        raise SettingsError(f"start is {start}; a variance of units must be finite and above 0.")
    dual = dual_of(activation)
    variance = _fixed_variance(dual, weight_var, bias_var, float(start))
    chi = weight_var * _chi(dual, variance)
    name = "critical" if abs(chi - 1.0) <= CRITICAL else "ordered" if chi < 1.0 else "chaotic"
    slope = None if math.isinf(variance) else weight_var * _growth(dual, variance)
    correlation, contraction = _fixed_correlation(dual, weight_var, bias_var, variance, chi)
    return Phase(
        name,
        variance,
        chi,
        correlation,
        None if slope is None else _scale(slope),
        None if contraction is None else _scale(contraction),
    )


def critical_weight_var(
    activation: str | Callable[[Tensor], Tensor], bias_var: float | int = 0.0
) -> float:
    r"""The edge of chaos: the weight_var at which chi = 1, given the variance of the biases.

    On the edge ``weight_var = 1 / E[phi'(sqrt(q) z)^2]`` and
    ``bias_var = q - E[phi(sqrt(q) z)^2] / E[phi'(sqrt(q) z)^2]``; the latter is solved for a q
    from 1e-6 to 1e6 that is stable. For ReLU and its relatives chi does not depend on q, and the
    answer is 2 / (1 + negative_slope^2) for any bias_var; only at bias_var = 0 is q bounded there.
    GELU and SiLU have an edge only above some bias_var: below it, chi = 1 belongs to variances
    that are not stable.

    Args:
        activation: As of :func:`phase`.
        bias_var: b ~ N(0, bias_var).

    Returns:
        The smallest such weight_var that belongs to a stable variance.

    Raises:
        SettingsError: A variance that is not allowed, something that is no activation, or one
            without an edge of chaos at this bias_var.
        UnsupportedOperation: The activation does something without an exact rule.

    Source: Poole et al. (2016); Hayou, Doucet and Rousseau, "On the impact of the activation
    function on deep neural networks training" (2019), for the line as a curve in q.

    Example:
        >>> import farfield as ff
        >>> ff.theory.critical_weight_var("relu"), round(ff.theory.critical_weight_var("tanh"), 9)
        (2.0, 1.0)
        >>> round(ff.theory.critical_weight_var("tanh", 0.05), 3)
        1.761
    """
    bias_var = _variance("bias_var", bias_var)
    dual = dual_of(activation)
    if isinstance(dual, Rectified):
        return 2.0 / _needed(dual.negative**2 + dual.positive**2, activation)
    found = [1.0 / _chi(dual, q) for q in _critical_variances(dual, bias_var)]
    if bias_var == 0.0 and _second(dual, _TINY) < _LEAST and (slope := _chi(dual, 0.0)) > 0:
        # phi(0) = 0: without biases signals may die out, which is stable if phi bends downwards.
        small = float(_GRID[0])
        if _second(dual, small) <= slope * small * (1.0 + 1e-12):
            found.append(1.0 / slope)
    if not found:
        raise SettingsError(
            f"{activation!r} has no edge of chaos at bias_var {bias_var:g}: no variance of units "
            "between 1e-6 and 1e6 is stable there with gradients that neither vanish nor explode. "
            "Try another bias_var, or phase() at the variances that you use."
        )
    return min(found)


def _critical_variances(dual: Activation, bias_var: float) -> list[float]:
    """Stable q with ``bias_var = q - E[phi^2] / E[phi'^2]``."""

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        slope = _chi(dual, q)
        return q - _second(dual, q) / slope - bias_var if slope > 0 else math.nan

    grid = [math.log(float(q)) for q in _GRID]
    values = [excess(point) for point in grid]
    found = []
    for index in range(len(grid) - 1):
        left, right = values[index], values[index + 1]
        if left * right < 0:
            q = math.exp(float(brentq(excess, grid[index], grid[index + 1], xtol=1e-14)))
            if _growth(dual, q) / _chi(dual, q) <= 1.0:
                found.append(q)
    return found


def _needed(slope: float, activation: object) -> float:
    if slope == 0.0:
        raise SettingsError(f"{activation!r} has no slope, so nothing below it is ever trained.")
    return slope


def _fixed_variance(dual: Activation, weight_var: float, bias_var: float, start: float) -> float:
    """The q that the map of variances reaches from ``start``.

    Found by its sign changes: near a critical point the map itself would take for ever. From a
    start where it grows it is the next fixed point above, else the next one below.
    """

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        return (weight_var * _second(dual, q) + bias_var) / q - 1.0

    here, towards = math.log(start), excess(math.log(start))
    if abs(towards) <= _ROUNDING:
        return start
    step = math.copysign(1.0, towards)
    while True:
        there = here + step
        if there > math.log(_MOST):
            return math.inf
        if there < math.log(_LEAST):
            return 0.0
        if excess(there) * step <= 0.0:
            return math.exp(float(brentq(excess, here, there, xtol=1e-14)))
        here, step = there, 1.5 * step


def _fixed_correlation(
    dual: Activation, weight_var: float, bias_var: float, variance: float, chi: float
) -> tuple[float | None, float | None]:
    """The stable fixed point c*, and what ``|c - c*|`` is multiplied by per layer there."""
    if variance == 0.0 or math.isinf(variance):
        if not isinstance(dual, Rectified):
            return None, None
        # Homogeneous: the map of correlations does not depend on q, and biases vanish beside it
        # (or are 0); gradients and correlations then scale apart from each other.
        if variance == 0.0 and bias_var > 0.0:
            return None, None
        return 1.0, 1.0
    if chi <= 1.0 + CRITICAL:
        return 1.0, chi

    law = dual.rows(Rows(*[_deviation(variance)] * 2)).tile(slice(None), slice(None))
    size = weight_var * _second(dual, variance) / variance

    def excess(log_gap: float) -> float:
        gap = math.exp(log_gap)
        return size * float(dual.angle(law, _angle(gap)).apart) / gap - 1.0

    low, high = math.log(_SMALLEST), 0.0  # 1 - c from 1e-13 to 1
    if excess(low) <= 0.0:
        return 1.0, chi
    # Phi with phi(-u) = -phi(u) and no biases keeps orthogonal inputs orthogonal.
    gap = 1.0 if excess(high) >= -1e-14 else math.exp(float(brentq(excess, low, high, xtol=1e-13)))
    return 1.0 - gap, chi * float(dual.slope(law, _angle(gap)))


def _angle(gap: float) -> Angle:
    return Angle(torch.full((1, 1), gap, dtype=torch.float64))


def _second(dual: Activation, variance: float) -> float:
    """``E[phi(sqrt(q) z)^2]``."""
    return float(dual.root(_deviation(variance))) ** 2


def _chi(dual: Activation, variance: float) -> float:
    """``E[phi'(sqrt(q) z)^2]``; at 0 and infinity its limit, as far as numbers go."""
    return float(dual.slope_root(_deviation(min(max(variance, _TINY), _MOST)))) ** 2


def _growth(dual: Activation, variance: float) -> float:
    """``d/dq E[phi(sqrt(q) z)^2] = E[z phi phi'] / sqrt(q)``."""
    q = torch.full((1,), max(variance, _TINY), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(dual.root(q.sqrt()).square().sum(), q)
    return float(slope)


def _deviation(variance: float) -> Tensor:
    return torch.full((1,), math.sqrt(variance), dtype=torch.float64)


def _scale(factor: float) -> float:
    """The number of layers in which a power of ``factor`` falls by e."""
    factor = abs(factor)
    if factor == 0.0:
        return 0.0
    return math.inf if factor >= 1.0 - CRITICAL else -1.0 / math.log(factor)


def _variance(what: str, value: float | int) -> float:
    if not 0.0 <= value < math.inf:
        raise SettingsError(f"{what} is {value}; a variance must be finite and at least 0.")
    return float(value)
