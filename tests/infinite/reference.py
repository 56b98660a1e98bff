"""The kernels of a multilayer perceptron to 50 digits, straight from the textbook formulas.

Nothing here is shared with the library: mpmath's closed forms where the literature has them,
and scipy's adaptive quadrature in two dimensions (to 13 digits) for the rest.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import mpmath as mp
from scipy import integrate

mp.mp.dps = 50

Moments = tuple[mp.mpf, mp.mpf, mp.mpf]  # K11, K12, K22


def relu(k: Moments, slope: float = 0.0) -> dict[str, Moments]:
    """E[phi phi], E[phi' phi'], E[u v phi' phi'] and the means of a leaky ReLU."""
    a = mp.mpf(slope)

    def pair(k11: mp.mpf, k12: mp.mpf, k22: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
        size = mp.sqrt(k11 * k22)
        if size == 0:
            return mp.mpf(0), mp.mpf(0)
        theta = mp.acos(max(mp.mpf(-1), min(mp.mpf(1), k12 / size)))
        same = mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)
        other = mp.sin(theta) - theta * mp.cos(theta)
        value = size / (2 * mp.pi) * ((1 + a**2) * same - 2 * a * other)
        return value, ((1 + a**2) * (mp.pi - theta) + 2 * a * theta) / (2 * mp.pi)

    k11, k12, k22 = k
    first, cross, last = pair(k11, k11, k11), pair(k11, k12, k22), pair(k22, k22, k22)
    value = (first[0], cross[0], last[0])
    mean = (1 - a) / mp.sqrt(2 * mp.pi)
    return {
        "value": value,
        "slope": (first[1], cross[1], last[1]),
        "gain": value,
        "mean": (mean * mp.sqrt(k11), mean * mp.sqrt(k22)),
    }


def erf(k: Moments) -> dict[str, Moments]:
    def pair(k11: mp.mpf, k12: mp.mpf, k22: mp.mpf) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
        det = (1 + 2 * k11) * (1 + 2 * k22) - 4 * k12**2
        value = 2 / mp.pi * mp.asin(2 * k12 / mp.sqrt((1 + 2 * k11) * (1 + 2 * k22)))
        return value, 4 / mp.pi / mp.sqrt(det), 4 / mp.pi * k12 / mp.sqrt(det) ** 3

    k11, k12, k22 = k
    parts = [pair(k11, k11, k11), pair(k11, k12, k22), pair(k22, k22, k22)]
    value, slope, gain = (tuple(part[i] for part in parts) for i in range(3))
    return {"value": value, "slope": slope, "gain": gain, "mean": (mp.mpf(0), mp.mpf(0))}


def expect(f: Callable[[float], float], variance: float, breaks: Sequence[float]) -> float:
    """E[f(u)] to 13 digits by scipy's adaptive quadrature; ``breaks`` are where f bends."""
    root = variance**0.5
    cuts = [b / root for b in breaks if abs(b) < 9 * root]
    return integral(lambda z: f(root * z) * density(z), cuts)


def expect_pair(
    f: Callable[[float], float], k11: float, k12: float, k22: float, breaks: Sequence[float]
) -> float:
    """E[f(u) f(v)], the outer integral over u, the inner one over v given u."""
    root, other = k11**0.5, k22**0.5
    rho = k12 / (root * other)
    rest = (1 - rho**2) ** 0.5

    def inner(z: float) -> float:
        cuts = [(b / other - rho * z) / rest for b in breaks]
        return integral(lambda w: f(other * (rho * z + rest * w)) * density(w), cuts)

    cuts = [b / root for b in breaks]
    return integral(lambda z: f(root * z) * inner(z) * density(z), cuts)


def density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def integral(f: Callable[[float], float], cuts: Sequence[float]) -> float:
    edges = [-9.0, *sorted(cut for cut in cuts if abs(cut) < 9), 9.0]
    return sum(
        integrate.quad(f, low, high, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    )


def mlp_kernels(
    x: Sequence[float],
    y: Sequence[float],
    depth: int,
    dual: Callable[[Moments], dict[str, Moments]],
    weight_var: float,
    bias_var: float,
    norm: str | None = None,
    eps: float = 1e-5,
    affine: bool = True,
) -> tuple[Moments, Moments]:
    """(K11, K12, K22) and (T11, T12, T22) of an MLP; norm: None, "before" or "after" phi."""
    w, b = mp.mpf(weight_var), mp.mpf(bias_var)
    xs, ys = [mp.mpf(v) for v in x], [mp.mpf(v) for v in y]
    dots = [mp.fdot(p, q) / len(xs) for p, q in [(xs, xs), (xs, ys), (ys, ys)]]
    k = tuple(w * dot + b for dot in dots)
    t = k
    eta = mp.mpf(1 if affine else 0)
    for _ in range(depth):
        if norm == "before":
            roots = [mp.sqrt(k[0] + mp.mpf(eps)), mp.sqrt(k[2] + mp.mpf(eps))]
            scale = (roots[0] ** 2, roots[0] * roots[1], roots[1] ** 2)
            k = tuple(a / s for a, s in zip(k, scale, strict=True))
            d = dual(k)
            t = tuple(
                a / s * slope + eta * gain + eta * slope
                for a, s, slope, gain in zip(t, scale, d["slope"], d["gain"], strict=True)
            )
            k = d["value"]
        else:
            d = dual(k)
            t = tuple(a * slope for a, slope in zip(t, d["slope"], strict=True))
            k = d["value"]
        if norm == "after":
            m1, m2 = d["mean"]
            v = (k[0] - m1 * m1, k[1] - m1 * m2, k[2] - m2 * m2)
            roots = [mp.sqrt(v[0] + mp.mpf(eps)), mp.sqrt(v[2] + mp.mpf(eps))]
            scale = (roots[0] ** 2, roots[0] * roots[1], roots[1] ** 2)
            k = tuple(a / s for a, s in zip(v, scale, strict=True))
            t = tuple(a / s + eta * q + eta for a, s, q in zip(t, scale, k, strict=True))
        k = tuple(w * a + b for a in k)
        t = tuple(q + w * a for q, a in zip(k, t, strict=True))
    return k, t
