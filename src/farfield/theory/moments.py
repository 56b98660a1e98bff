r"""The first two moments of the tangent kernel of random ReLU networks of finite width, exactly.

For one input, T = sum_l A_{l-1} B_l (weights) + sum_l B_l (biases), with A_l the squared length of
the activations of layer l and B_l that of the gradients with respect to its pre-activations. Flip
the sign of a row of W and of its bias at random: the law stays, and so do all A and B. The masks of
a ReLU are therefore independent of everything else, and A and B are those of a *linear* network
with random masks. What the pair A_m, B_l (l <= m) has in common is the product
``Q = D_m W_m ... W_{l+1} D_l`` of masks and weights between them, and

    E[|Q h|^2 |Q' g|^2] = E[|Q|_F^4]    for independent Gaussian vectors h, g.

With S = Q Q', one more layer maps (E[(tr S)^2], E[tr S^2]) to itself linearly: a 2 x 2 transfer
matrix for each layer, and the moments are exact for any widths. (Hanin and Nica, 2020, "Finite
depth and width corrections to the neural tangent kernel", use the same independence for bounds.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from farfield.errors import SettingsError

Array = npt.NDArray[np.float64]

PARAMETERIZATIONS = ("standard", "ntk")


@dataclass(frozen=True)
class NTKMoments:
    """The law of T(x, x) over random networks, as far as its first two moments tell.

    Attributes:
        log_mean: ``log E[T]``.
        dispersion: ``E[T^2] / E[T]^2``; infinite where it leaves the range of float64.
    """

    log_mean: float
    dispersion: float

    @property
    def mean(self) -> float:
        """``E[T]``; infinite where it leaves the range of float64."""
        return math.exp(self.log_mean) if self.log_mean < math.log(1.7e308) else math.inf


def ntk_moments(
    widths: Sequence[int],
    weight_var: float | int | Sequence[float | int] = 2.0,
    bias_var: float | int | Sequence[float | int] = 0.0,
    *,
    bias: bool = True,
    negative_slope: float | int = 0.0,
    input_norm: float | int = 1.0,
    parameterization: str = "standard",
) -> NTKMoments:
    r"""Mean and dispersion of the tangent kernel T(x, x) of random ReLU networks of any widths.

    Exact for finite widths: no limit is taken. The network is
    ``Linear, ReLU, ..., Linear`` with W ~ N(0, weight_var / fan_in), b ~ N(0, bias_var); T is the
    mean over the outputs of ``|grad f(x)|^2``, as of ``farfield.empirical_ntk(model)``.

    Args:
        widths: Input features, hidden widths, outputs: ``[n0, M, ..., M, 1]``.
        weight_var: Of each linear layer, or one number for all.
        bias_var: Likewise.
        bias: Whether there are biases whose gradients count; with ``bias_var=0`` they are there
            and start at 0.
        negative_slope: Of LeakyReLU; 0 is ReLU, 1 a linear network.
        input_norm: The Euclidean length of x; nothing else about x matters.
        parameterization: ``"standard"``: plain gradients; ``"ntk"``: each counts with the variance
            of its parameter.

    Returns:
        The moments.

    Raises:
        SettingsError: Widths, variances or an input that mean nothing.

    Source: derived here (see the module); the independence of the masks is in Hanin and Nica
    (2020), the fourth moments of products in Hanin and Nica (2019), "Products of many large random
    matrices and gradients in deep neural networks".

    Example:
        >>> import farfield as ff
        >>> moments = ff.theory.ntk_moments([100, *[100] * 20, 1], weight_var=2.0)
        >>> round(moments.mean, 6), round(moments.dispersion, 3)
        (42.0, 1.621)
    """
    network = _checked(
        widths, weight_var, bias_var, bias, negative_slope, input_norm, parameterization
    )
    forward = _Forward.of(network)
    backward = _Backward.of(network)
    logs, ratios = _terms(network, forward, backward)
    log_mean = float(np.logaddexp.reduce(logs))
    shares = np.exp(logs - log_mean)
    with np.errstate(over="ignore"):
        value = float(shares @ ratios @ shares)
    return NTKMoments(log_mean, value)


@dataclass(frozen=True, eq=False)
class _Network:
    """A checked description; index l of the variances is the linear layer into layer l + 1."""

    widths: Array
    weight_vars: Array
    bias_vars: Array
    bias: bool
    second: float  # E[phi'^2] of a mask
    excess: float  # E[phi'^4] / E[phi'^2]^2
    input_norm: float
    ntk: bool

    @property
    def hidden(self) -> int:
        """Number of hidden layers H."""
        return len(self.widths) - 2


@dataclass(frozen=True, eq=False)
class _Forward:
    """Of A_0, ..., A_H: logarithms of means, ``E[A^2] / E[A]^2``, and the share without bias."""

    log: Array
    square: Array
    share: Array

    @classmethod
    def of(cls, net: _Network) -> _Forward:
        logs, squares, shares = [2.0 * math.log(net.input_norm)], [1.0], [1.0]
        for layer in range(1, net.hidden + 1):
            log_signal = logs[-1] + math.log(net.weight_vars[layer - 1] / net.widths[layer - 1])
            bias = net.bias_vars[layer - 1]
            log_bias = math.log(bias) if bias > 0 else -math.inf
            log_q = float(np.logaddexp(log_signal, log_bias))
            share = math.exp(log_signal - log_q)
            width = net.widths[layer]
            logs.append(log_q + math.log(net.second * width))
            grown = 1.0 + (3.0 * net.excess - 1.0) / width
            squares.append(grown * (1.0 + share**2 * (squares[-1] - 1.0)))
            shares.append(share)
        return cls(np.array(logs), np.array(squares), np.array(shares))


@dataclass(frozen=True, eq=False)
class _Backward:
    """Of B_1, ..., B_{H+1} at the indices 1, ...: logarithms of means, ``E[B^2] / E[B]^2``."""

    log: Array
    square: Array

    @classmethod
    def of(cls, net: _Network) -> _Backward:
        last = net.hidden + 1
        logs, squares = np.zeros(last + 1), np.ones(last + 1)
        trace, square = 1.0, 1.0 / net.widths[-1]  # of the identity, over its trace squared
        for layer in range(net.hidden, 0, -1):
            trace, square = _transfer(trace, square, net.widths[layer], net.excess)
            logs[layer] = logs[layer + 1] + math.log(net.second * net.weight_vars[layer])
            squares[layer] = trace
        return cls(logs, squares)


def _transfer(trace: Any, square: Any, width: float, excess: float) -> tuple[Any, Any]:
    """``(tr S)^2`` and ``tr S^2`` of ``S -> D W S W' D``, each over ``E[tr]^2``, on average.

    With rows w_i ~ N(0, tau) and d_i = D_i^2 the entries are ``D_i D_j w_i' S w_j``, and
    ``E[(w' S w)^2] = tau^2 ((tr S)^2 + 2 tr S^2)``, ``E[(w_i' S w_j)^2] = tau^2 tr S^2``.
    """
    same = (excess / width) * (trace + 2.0 * square)
    rest = 1.0 - 1.0 / width
    return rest * trace + same, rest * square + same


def _terms(net: _Network, forward: _Forward, backward: _Backward) -> tuple[Array, Array]:
    """Logarithms of the means of all summands of T, and E[one other] over their means."""
    last = net.hidden + 1
    layers = np.arange(1, last + 1)
    weights = forward.log[layers - 1] + backward.log[layers]
    biases = backward.log[layers]
    if net.ntk:
        weights = weights + np.log(net.weight_vars / net.widths[:-1])
        with np.errstate(divide="ignore"):
            biases = biases + np.log(net.bias_vars)
    once, twice = _shared(net, forward)
    upper = np.triu_indices(last, 1)
    later = backward.square[layers]
    both = np.maximum.outer(layers, layers)
    plain = backward.square[both]  # two biases: what the later one has
    ww, wb = plain.copy(), plain.copy()
    np.fill_diagonal(ww, forward.square[layers - 1] * later)
    ww[upper] = later[upper[1]] * twice[upper[0], upper[1] - 1]
    ww.T[upper] = ww[upper]
    # A weight below a bias has nothing in common with it but the later gradient.
    wb.T[upper] = later[upper[1]] * once[upper[0], upper[1] - 1]
    if not net.bias:
        return weights, ww
    return np.concatenate([weights, biases]), np.block([[ww, wb], [wb.T, plain]])


def _shared(net: _Network, forward: _Forward) -> tuple[Array, Array]:
    """``E[A_m B_l]`` and ``E[A_{l-1} A_m B_l]`` over means and the moments of B_{m+1}.

    At [l - 1, m - 1], l <= m. A_m is what came from A_{l-1}, and from the biases of layers
    l, ..., m; each part has its own product Q in common with B_l.
    """
    hidden = net.hidden
    once, twice = np.ones((hidden, hidden)), np.ones((hidden, hidden))
    trace, square = np.ones(hidden), np.zeros(hidden)  # of S; one column for each m
    signal, biases = np.ones(hidden), np.zeros(hidden)  # shares of A_m; the latter times E[|Q|^4]
    for layer in range(hidden, 0, -1):
        above = slice(layer - 1, hidden)
        trace[above], square[above] = _transfer(
            trace[above], square[above], net.widths[layer], net.excess
        )
        share = forward.share[layer]
        biases[above] += (1.0 - share) * signal[above] * trace[above]
        signal[above] *= share
        once[layer - 1, above] = signal[above] * trace[above] + biases[above]
        twice[layer - 1, above] = (
            forward.square[layer - 1] * signal[above] * trace[above] + biases[above]
        )
    return once, twice


def _checked(
    widths: Sequence[int],
    weight_var: float | int | Sequence[float | int],
    bias_var: float | int | Sequence[float | int],
    bias: bool,
    negative_slope: float | int,
    input_norm: float | int,
    parameterization: str,
) -> _Network:
    sizes = [int(width) for width in widths]
    if len(sizes) < 2 or min(sizes) < 1 or sizes != list(widths):
        raise SettingsError(
            f"widths is {list(widths)}; give whole numbers of at least 1: input features, hidden "
            "widths, outputs."
        )
    if parameterization not in PARAMETERIZATIONS:
        raise SettingsError(
            f"The parameterization is {parameterization!r}; choose 'ntk' or 'standard'."
        )
    if not 0.0 < input_norm < math.inf:
        raise SettingsError(f"input_norm is {input_norm}; it must be finite and above 0.")
    if not math.isfinite(negative_slope):
        raise SettingsError(f"negative_slope is {negative_slope}; it must be finite.")
    weight_vars = _for_layers("weight_var", weight_var, len(sizes) - 1)
    if not (weight_vars > 0).all():
        raise SettingsError(
            f"weight_var is {weight_var}; it must be above 0, or the kernel of a deep network is 0."
        )
    bias_vars = _for_layers("bias_var", bias_var, len(sizes) - 1)
    second, fourth = (0.5 * (1.0 + float(negative_slope) ** degree) for degree in (2, 4))
    return _Network(
        np.array(sizes, dtype=float),
        weight_vars,
        bias_vars,
        bias,
        second,
        fourth / second**2,
        float(input_norm),
        parameterization == "ntk",
    )


def _for_layers(what: str, given: float | int | Sequence[float | int], layers: int) -> Array:
    values = [given] * layers if isinstance(given, Real) else list(given)  # type: ignore[arg-type]
    if len(values) != layers:
        raise SettingsError(
            f"{what} has {len(values)} values for {layers} linear layers; give one for each, or "
            "one number for all."
        )
    array = np.array(values, dtype=float)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise SettingsError(f"{what} is {given}; a variance must be finite and at least 0.")
    return array
