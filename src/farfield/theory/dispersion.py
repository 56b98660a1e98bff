r"""Dispersion ``E[T^2] / E[T]^2`` of tangent kernels of random ReLU networks, in three phases."""

from __future__ import annotations

import math

from farfield.errors import SettingsError
from farfield.theory.moments import ntk_moments

CRITICAL_RELU = 2.0
"""weight_var of ReLU networks at which gradients neither vanish nor explode."""

METHODS = ("exact", "limit", "published")

_SERIES = 1.0  # below this, phi_2 is summed as a series


def dispersion(
    depth: int,
    width: int,
    weight_var: float | int,
    bias: bool = True,
    *,
    method: str = "exact",
    input_norm: float | int = 1.0,
    in_features: int | None = None,
) -> float:
    r"""``E[T(x, x)^2] / E[T(x, x)]^2`` of the tangent kernel of random ReLU networks.

    1 means that every draw has the same kernel; at 1 + v the standard deviation of T over draws
    is sqrt(v) of its mean. The networks have L = ``depth`` hidden layers of M = ``width`` units
    each (so L + 1 linear layers) and one output; W ~ N(0, weight_var / fan_in), biases start at
    0, gradients count plainly (standard parametrisation).

    ``"exact"``: exact at this depth and width, by :func:`ntk_moments`.

    ``"limit"``: its limit as L, M -> infinity at fixed lambda = L / M. With
    ``p(z) = (e^z - 1 - z) / z^2`` and r = |x|^2 width / in_features, which is how weights and
    biases share T at the edge of chaos:

    - weights alone (``bias=False``) for *any* weight_var, and with biases in the chaotic phase
      (weight_var > 2), where their share vanishes: ``W = e^{5 lambda} (1 + 4 p(-6 lambda)) / 3``;
    - edge of chaos (weight_var = 2) with biases: ``(r^2 W + 2 r C + B) / (1 + r)^2`` with
      ``B = 2 p(5 lambda)``,
      ``C = p(5 lambda) + e^{5 lambda} (4 p(-6 lambda) - 3 p(-5 lambda))``;
    - ordered phase (weight_var < 2) with biases: 1, since the last biases dominate.

    ``"published"``: the same with ``W = 2 e^{5 lambda} p(-4 lambda)
    = [e^{5 lambda} (1 - 1/(4 lambda)) + e^{lambda} / (4 lambda)] / (2 lambda)`` and
    ``C = p(5 lambda) + e^{5 lambda} (5 p(-5 lambda) - 4 p(-4 lambda))``, the chaotic formula of
    the paper as we know it (quoted, not read from a copy). It is what a network gives whose
    backward pass has weights of its own, independent of those of the forward pass (its masks are
    shared): what A_m and B_l have in common then grows
    by 1 + 1/M a layer. The same weights go both ways, though, so that the product of the layers
    between them has ``E[|Q|_F^4] / E[|Q|_F^2]^2 -> (e^{5 t} + 2 e^{-t}) / 3`` at t = (m - l) / M
    instead of e^t. Both agree to first order in lambda; at lambda = 0.2 they are 2.168 and
    2.118, at 0.5 7.76 and 6.92.

    **How close is finite width?** "limit" is off by terms of order 1 / M at fixed lambda, and the
    jump at weight_var = 2 is spread over a window of order 1 / L. For lambda = 0.2 and
    weight_var 2: 1.452 at M = 10, 1.621 at M = 100, 1.649 at M = 1000, limit 1.652.

    Args:
        depth: L, the number of hidden layers.
        width: M, the units of each of them.
        weight_var: Variance of the weights times fan_in.
        bias: Whether gradients with respect to the biases count.
        method: ``"exact"``, ``"limit"`` or ``"published"``.
        input_norm: |x|; it matters only with biases.
        in_features: Features of the input; ``width`` by default.

    Returns:
        The ratio, at least 1; infinite where it leaves the range of float64.

    Raises:
        SettingsError: A depth, width, variance, input or method that means nothing.

    Source: Seleznova and Kutyniok, "Neural Tangent Kernel Beyond the Infinite-Width Limit: Effects
    of Depth and Initialization" (ICML 2022), for the phases and the published formula; "exact" and
    "limit" are derived here (:mod:`farfield.theory.moments`). The exponent 5 L / M is that of
    Hanin and Nica (2019).

    Example:
        >>> import farfield as ff
        >>> for method in ("exact", "limit", "published"):
        ...     print([round(ff.theory.dispersion(20, 100, var, method=method), 3)
        ...            for var in (1.0, 2.0, 2.5)])
        [1.017, 1.621, 1.999]
        [1.0, 1.652, 2.168]
        [1.0, 1.63, 2.118]
    """
    for name, value in (("depth", depth), ("width", width), ("in_features", in_features)):
        if value is not None and value < 1:
            raise SettingsError(f"{name} is {value}; it must be at least 1.")
    for name, number in (("weight_var", weight_var), ("input_norm", input_norm)):
        if not 0.0 < number < math.inf:
            raise SettingsError(f"{name} is {number}; it must be finite and above 0.")
    if method not in METHODS:
        raise SettingsError(f"The method is {method!r}; choose one of {', '.join(METHODS)}.")
    features = width if in_features is None else in_features
    if method == "exact":
        widths = [features, *[width] * depth, 1]
        return ntk_moments(widths, weight_var, bias=bias, input_norm=input_norm).dispersion
    if bias and weight_var < CRITICAL_RELU:
        return 1.0
    ratio, published = depth / width, method == "published"
    grown = _exp(5.0 * ratio)
    weights = grown * _weights(ratio, published)
    if not bias or weight_var > CRITICAL_RELU or math.isinf(grown):
        return weights
    share = float(input_norm) ** 2 * width / features
    biases = _phi2(5.0 * ratio)
    both = biases + grown * _weights_above_biases(ratio, published)
    return (share**2 * weights + 2.0 * share * both + 2.0 * biases) / (1.0 + share) ** 2


def _weights(ratio: float, published: bool) -> float:
    """``(2 / lambda^2) int (lambda - t) g(t) e^{-5 t} dt``, g as in the docstring above."""
    if published:
        return 2.0 * _phi2(-4.0 * ratio)
    return (1.0 + 4.0 * _phi2(-6.0 * ratio)) / 3.0


def _weights_above_biases(ratio: float, published: bool) -> float:
    """``e^{-5 lambda} / lambda^2 int int_{u < v} e^{5 u} g(v - u) du dv``, u and v from the top."""
    if published:
        return 5.0 * _phi2(-5.0 * ratio) - 4.0 * _phi2(-4.0 * ratio)
    return 4.0 * _phi2(-6.0 * ratio) - 3.0 * _phi2(-5.0 * ratio)


def _phi2(z: float) -> float:
    """``(e^z - 1 - z) / z^2`` without cancellation."""
    if abs(z) >= _SERIES:
        return (_exp(z) - 1.0 - z) / z**2
    total, term = 0.0, 0.5
    for k in range(3, 25):  # 1 / 24! is far below the rounding
        total += term
        term *= z / k
    return total


def _exp(z: float) -> float:
    return math.exp(z) if z < 709.0 else math.inf
