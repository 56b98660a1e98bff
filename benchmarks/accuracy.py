"""How accurate the exact kernels are: the worst relative error of each rule.

Run it with ``make accuracy``; it takes a few minutes on one thread and writes nothing. Multilayer
perceptrons of 1, 3 and 50 hidden layers, with and without biases and norms, are evaluated at
pairs of inputs: generic, equal, antipodal, 1e-8 to 1e-4 of their norm apart, tiny, huge. Both
kernels are compared with the formulas of ``tests/infinite/reference.py`` in 200 digits, which share
no code with the library; those of functions without a closed form (at one layer, generic pairs)
with integrals in extended precision.

An error counts relative to the entry; where the exact entry is small because its terms cancel
(a norm's mean is subtracted, a wave changes sign), relative to the roots of the diagonals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import farfield as ff

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "infinite"))
import reference  # type: ignore[import-not-found]

Number = Any
Moments = tuple[Number, Number, Number]
Moment = Callable[[Number, Number, Number], Number]
WEIGHT_VAR = 2.0


class Elementwise(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def smooth(moment: Moment, mean: Callable[[Number], Number]) -> Callable[[Moments], dict[str, Any]]:
    """All that the recursion needs, from ``M(a, c, b) = E[phi(u) phi(v)]`` alone.

    By Price's theorem ``E[phi' phi'] = dM / dc``; and ``E[u v phi' phi']`` is the derivative of
    ``M(s^2 a, s t c, t^2 b) = E[phi(s u) phi(t v)]`` in s and t at 1.
    """

    def parts(a: Number, c: Number, b: Number) -> tuple[Number, Number, Number]:
        slope = mp.diff(lambda x: moment(a, x, b), c)
        gain = mp.diff(lambda s, t: moment(s * s * a, s * t * c, t * t * b), (1, 1), (1, 1))
        return moment(a, c, b), slope, gain

    def dual(k: Moments) -> dict[str, Any]:
        # The derivatives at equal inputs are taken along M, which goes on beyond |c| = sqrt(a b).
        three = [parts(k[0], k[0], k[0]), parts(*k), parts(k[2], k[2], k[2])]
        value, slope, gain = ([part[i] for part in three] for i in range(3))
        return {"value": value, "slope": slope, "gain": gain, "mean": (mean(k[0]), mean(k[2]))}

    return dual


def gelu(a: Number, c: Number, b: Number) -> Number:
    wide = (1 + a) * (1 + b)
    delta = mp.sqrt(wide - c**2)
    first = (c**2 + a * b * delta**2) / (wide * delta) + c * mp.atan(c / delta)
    return first / (2 * mp.pi) + c / 4


def wave(sign: int) -> Moment:
    def moment(a: Number, c: Number, b: Number) -> Number:
        return (mp.exp(c - (a + b) / 2) + sign * mp.exp(-c - (a + b) / 2)) / 2

    return moment


def sign_dual(k: Moments) -> dict[str, Any]:
    def moment(a: Number, c: Number, b: Number) -> Number:
        cosine = max(mp.mpf(-1), min(mp.mpf(1), c / mp.sqrt(a * b)))
        return 2 / mp.pi * mp.asin(cosine)

    none = (mp.mpf(0),) * 3
    value = (mp.mpf(1), moment(*k), mp.mpf(1))
    return {"value": value, "slope": none, "gain": none, "mean": none[:2]}


def step_dual(k: Moments) -> dict[str, Any]:
    def moment(a: Number, c: Number, b: Number) -> Number:
        return mp.acos(max(mp.mpf(-1), min(mp.mpf(1), -c / mp.sqrt(a * b)))) / (2 * mp.pi)

    none = (mp.mpf(0),) * 3
    value = (mp.mpf(1) / 2, moment(*k), mp.mpf(1) / 2)
    return {"value": value, "slope": none, "gain": none, "mean": (mp.mpf(1) / 2,) * 2}


CLOSED: dict[str, tuple[Callable[[], nn.Module], Callable[[Moments], dict[str, Any]]]] = {
    "ReLU": (nn.ReLU, reference.relu),
    "LeakyReLU(0.3)": (lambda: nn.LeakyReLU(0.3), lambda k: reference.relu(k, 0.3)),
    "abs": (lambda: Elementwise(torch.abs), lambda k: reference.relu(k, -1.0)),
    "identity": (nn.Identity, lambda k: reference.relu(k, 1.0)),
    "sign": (lambda: Elementwise(torch.sign), sign_dual),
    "erf": (lambda: Elementwise(torch.erf), reference.erf),
    "GELU": (nn.GELU, smooth(gelu, lambda a: a / mp.sqrt(2 * mp.pi * (1 + a)))),
    "sin": (lambda: Elementwise(torch.sin), smooth(wave(-1), lambda a: mp.mpf(0))),
    "cos": (lambda: Elementwise(torch.cos), smooth(wave(1), lambda a: mp.exp(-a / 2))),
    "step": (lambda: Elementwise(lambda u: torch.heaviside(u, u.new_zeros(()))), step_dual),
    "ReLU^2": (lambda: Elementwise(lambda u: F.relu(u) ** 2), lambda k: reference.power(k, 2)),
    "ReLU^3": (lambda: Elementwise(lambda u: F.relu(u) ** 3), lambda k: reference.power(k, 3)),
    "ReLU^4": (lambda: Elementwise(lambda u: F.relu(u) ** 4), lambda k: reference.power(k, 4)),
    "1 - u + u^3": (
        lambda: Elementwise(lambda u: 1 - u + u**3),
        lambda k: reference.polynomial(k, [1.0, -1.0, 0.0, 1.0]),
    ),
    "exp(-u^2)": (
        lambda: Elementwise(lambda u: torch.exp(-(u**2))), lambda k: reference.bump(k, 1.0)
    ),
    "exp(u / 2)": (
        lambda: Elementwise(lambda u: torch.exp(0.5 * u)), lambda k: reference.exponential(k, 0.5)
    ),
}  # fmt: skip
BENT = {"ReLU", "LeakyReLU(0.3)", "abs", "identity", "sign", "step"}
POWERS = {"ReLU^2", "ReLU^3", "ReLU^4"}
# At depth 50 they, or their references, would leave every range.
SHALLOW = {"sin", "cos", "1 - u + u^3", "exp(-u^2)", "exp(u / 2)", *POWERS}
# Where terms cancel: entries of either sign that are sums of larger ones.
CANCELS = {"sin", "identity", "sign", "erf", "GELU", "LeakyReLU(0.3)", "1 - u + u^3"}

Scalar = Callable[[Any], Any]
BEND, CUBE = np.sqrt(2 / np.pi), 0.044715  # of GELU's approximation, as PyTorch rounds them


def bend(u: Any) -> Any:
    return BEND * (u + CUBE * u**3)


NUMERIC: dict[str, tuple[Callable[[Tensor], Tensor], Scalar, Scalar]] = {
    "tanh": (torch.tanh, np.tanh, lambda u: 1 - np.tanh(u) ** 2),
    "sigmoid": (torch.sigmoid, lambda u: logistic(u), lambda u: logistic(u) * logistic(-u)),
    "SiLU": (
        F.silu,
        lambda u: u * logistic(u),
        lambda u: logistic(u) * (1 + u * logistic(-u)),
    ),
    "softplus": (F.softplus, lambda u: np.logaddexp(0, u), lambda u: logistic(u)),
    "Mish": (
        F.mish,
        lambda u: u * np.tanh(np.logaddexp(0, u)),
        lambda u: np.tanh(np.logaddexp(0, u))
        + u * logistic(u) / np.cosh(np.logaddexp(0, u)) ** 2,
    ),
    "tanh-GELU": (
        lambda u: F.gelu(u, approximate="tanh"),
        lambda u: 0.5 * u * (1 + np.tanh(bend(u))),
        lambda u: 0.5 * (1 + np.tanh(bend(u)))
        + 0.5 * u * BEND * (1 + 3 * CUBE * u**2) / np.cosh(bend(u)) ** 2,
    ),
}  # fmt: skip

X = [0.7, -1.3, 0.4]
Z = [-0.2, 0.9, 1.1]


def pairs(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The kind of a pair, and the pair."""
    x, z = (torch.tensor(v, dtype=torch.float64) for v in (X, Z))
    close = [1e-4, 1e-6, 1e-8] if dtype == torch.float64 else [1e-4, 1e-6]
    found = [("generic", x, z), ("generic", z, -0.5 * x), ("equal", x, x), ("opposite", x, -x)]
    found += [("close", x, x + e * x.norm() * z / z.norm()) for e in close]
    found += [("tiny", 1e-30 * x, 1e-30 * z), ("huge", 1e30 * x, 1e30 * z)]
    return ((kind, one.to(dtype), two.to(dtype)) for kind, one, two in found)


def network(depth: int, activation: Callable[[], nn.Module], norm: str | None) -> nn.Module:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Linear(4 if index else len(X), 4))
        layers += [nn.LayerNorm(4)] * (norm == "before")
        layers.append(activation())
        layers += [nn.LayerNorm(4)] * (norm == "after")
    return nn.Sequential(*layers, nn.Linear(4, 1))


def worst(name: str, norm: str | None, depth: int, dtype: torch.dtype) -> dict[str, float]:
    """The largest relative error for each kind of pair."""
    activation, dual = CLOSED[name]
    found: dict[str, float] = {}
    largest = float(torch.finfo(dtype).max)
    for bias_var in (0.0, 0.1):
        limit = ff.infinite_width(network(depth, activation, norm), WEIGHT_VAR, bias_var)
        for kind, x, y in pairs(dtype):
            scales = name in BENT or name in POWERS
            if kind == "huge" and not scales and norm != "before" and name != "GELU":
                continue  # erf and waves of 1e60: the references themselves would need 1e60 digits
            if kind == "tiny" and bias_var == 0.0 and not scales and norm is None:
                continue  # GELU's references cancel 60 digits there
            both = torch.stack([x, y])
            try:
                got = [kernel.item() for kernel in limit(x[None], y[None])]
                ends = [kernel.diagonal(both).tolist() for kernel in (limit.nngp, limit.ntk)]
            except ff.errors.RangeError:
                continue  # powers of huge inputs are no numbers of this precision
            exact = reference.mlp_kernels(
                x.tolist(), y.tolist(), depth, dual, WEIGHT_VAR, bias_var, norm
            )
            for value, (end1, end2), (k11, k12, k22) in zip(got, ends, exact, strict=True):
                size = mp.sqrt(abs(k11 * k22))
                # The floor is what is left of an exact zero in the references.
                cross = size if norm or name in CANCELS else max(abs(k12), size * mp.mpf("1e-36"))
                for one, two, scale in [
                    (value, k12, cross), (end1, k11, k11), (end2, k22, k22)
                ]:  # fmt: skip
                    if not float(torch.finfo(dtype).tiny) < abs(scale) < largest:
                        continue  # not a number of this precision
                    error = float(abs(mp.mpf(one) - two) / abs(scale))
                    found[kind] = max(found.get(kind, 0.0), error)
    return found


def logistic(u: Any) -> Any:
    return 1 / (1 + np.exp(-u))


def trapezoid(f: Callable[[Any], Any], k11: Any, k12: Any, k22: Any) -> Any:
    """``E[f(u) f(v)]`` in extended precision.

    For analytic functions the trapezoidal rule on the whole plane converges like exp(-c / step).
    """
    z = np.arange(-400, 401).astype(np.longdouble) * np.longdouble("0.025")
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    rho = min(k12 / np.sqrt(k11 * k22), np.longdouble(1))
    v = rho * z[:, None] + np.sqrt((1 - rho) * (1 + rho)) * z
    values = f(np.sqrt(k22) * v) @ weight
    return (weight * f(np.sqrt(k11) * z) * values).sum()


def worst_numeric(name: str, norm: str | None) -> float:
    """The largest error relative to the roots, one hidden layer, generic pairs."""
    function, phi, slope = NUMERIC[name]
    error = 0.0
    for scale in (0.3, 1.0, 3.0):
        x = torch.tensor([X, Z], dtype=torch.float64) * scale
        model = network(1, lambda: Elementwise(function), norm)
        limit = ff.infinite_width(model, WEIGHT_VAR, 0.1)
        k = (x.numpy().astype(np.longdouble) @ x.numpy().T.astype(np.longdouble)) * 2 / 3
        k = k + np.longdouble(0.1)
        t = k.copy()
        if norm == "before":
            root = np.sqrt(np.diag(k) + np.longdouble(1e-5))
            k, t = k / np.outer(root, root), t / np.outer(root, root)
        for i, j in [(0, 1), (0, 0), (1, 1)]:
            functions = (phi, slope, lambda u, slope=slope: u * slope(u))
            value, slopes, gains = (trapezoid(f, k[i, i], k[i, j], k[j, j]) for f in functions)
            tangent = t[i, j] * slopes + (gains + slopes if norm == "before" else 0)
            nngp = 2 * value + np.longdouble(0.1)
            for got, exact in zip(limit(x), (nngp, nngp + 2 * tangent), strict=True):
                error = max(error, float(abs(got[i, j].item() - exact) / abs(exact)))
    return error


KINDS = ("generic", "equal", "opposite", "close", "tiny", "huge")


Found = dict[tuple[str, str, str], float]
"""Worst error by activation, place of the norm (or ``close``), and dtype."""


def table(dtype: torch.dtype, depths: list[int], names: list[str]) -> Found:
    """A line for each activation, place of the norm and depth, in Markdown."""
    short = str(dtype).removeprefix("torch.")
    summary: Found = {}
    print(f"\n### {short}\n")
    print("| activation | LayerNorm | hidden layers |" + "".join(f" {kind} |" for kind in KINDS))
    print("|---" * (3 + len(KINDS)) + "|")
    for name in names:
        for norm in (None, "before", "after"):
            for depth in depths:
                if depth > 3 and (norm == "after" or name in SHALLOW):
                    continue
                found = worst(name, norm, depth, dtype)
                for kind, error in found.items():
                    place = "close" if kind == "close" else norm or "none"
                    key = (name, place, short)
                    summary[key] = max(summary.get(key, 0.0), error)
                cells = [f"{found[kind]:.0e}" if kind in found else "-" for kind in KINDS]
                print(f"| {name} | {norm or 'none'} | {depth} | {' | '.join(cells)} |", flush=True)
    return summary


def summarise(found: Found, names: list[str]) -> None:
    """The worst of all depths and pairs, close ones apart."""
    columns = [(place, "float64") for place in ("none", "before", "after", "close")]
    columns += [(place, "float32") for place in ("none", "before", "after", "close")]
    print("\n### Summary\n")
    print("| activation |" + "".join(f" {place}, {dtype} |" for place, dtype in columns))
    print("|---" * (1 + len(columns)) + "|")
    for name in names:
        errors = [found.get((name, *column)) for column in columns]
        cells = ["-" if error is None else f"{error:.0e}" for error in errors]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3, 50])
    parser.add_argument("--only", nargs="+", choices=list(CLOSED), default=list(CLOSED))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    print("Largest relative error of an entry of the NNGP or the NTK.")
    with mp.workdps(DIGITS):
        found: Found = {}
        for dtype in (torch.float64, torch.float32):
            found |= table(dtype, arguments.depths, arguments.only)
    summarise(found, arguments.only)
    print("\n### By quadrature (float64, one hidden layer, variances 0.1 to 14)\n")
    print("| activation | no norm | LayerNorm before |\n|---|---|---|")
    for name in NUMERIC:
        errors = [worst_numeric(name, norm) for norm in (None, "before")]
        print(f"| {name} | " + " | ".join(f"{error:.0e}" for error in errors) + " |")
    print(f"\n{time.perf_counter() - begin:.0f} s")


DIGITS = 200  # variances from 1e-60 to 1e60 in one expression, and 60 digits of the result

if __name__ == "__main__":
    main()
