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


def power(k: Moments, degree: int, negative: int = 0) -> dict[str, Moments]:
    """Of ``negative |u|^degree`` for u < 0 and ``u^degree`` for u > 0, with u phi' = degree phi."""
    k11, _, k22 = k

    def triple(n: int, a: int) -> Moments:
        return tuple(_power_pair(n, a, *pair) for pair in _pairs(k))

    value, slope = triple(degree, negative), triple(degree - 1, -negative)
    half = mp.mpf(degree + 1) / 2
    absolute = mp.mpf(2) ** (mp.mpf(degree) / 2) * mp.gamma(half) / mp.sqrt(mp.pi)
    mean = absolute * (1 + negative) / 2
    return {
        "value": value,
        "slope": tuple(degree**2 * entry for entry in slope),
        "gain": tuple(degree**2 * entry for entry in value),
        "mean": (mean * mp.sqrt(k11) ** degree, mean * mp.sqrt(k22) ** degree),
    }


def _pairs(k: Moments) -> list[Moments]:
    return [(k[0], k[0], k[0]), k, (k[2], k[2], k[2])]


def _power_pair(n: int, a: int, k11: mp.mpf, k12: mp.mpf, k22: mp.mpf) -> mp.mpf:
    """Cho and Saul (2009), equation 4 and its derivatives, J_n for each pair of half lines."""
    size = mp.sqrt(k11 * k22)
    c = max(mp.mpf(-1), min(mp.mpf(1), k12 / size))
    same, other = (arc_cosine(n, theta) for theta in (mp.acos(c), mp.acos(-c)))
    return size**n / (2 * mp.pi) * ((1 + a**2) * same + 2 * a * other)


def arc_cosine(n: int, theta: mp.mpf) -> mp.mpf:
    """J_n, written out."""
    s, c, rest = mp.sin(theta), mp.cos(theta), mp.pi - theta
    return [
        rest,
        s + rest * c,
        3 * s * c + rest * (1 + 2 * c**2),
        s * (4 + 11 * c**2) + rest * (9 * c + 6 * c**3),
        s * (55 * c + 50 * c**3) + rest * (9 + 72 * c**2 + 24 * c**4),
    ][n]


def polynomial(k: Moments, coefficients: Sequence[float]) -> dict[str, Moments]:
    """By E[u^i v^j], which Stein's lemma reduces to lower powers."""
    phi = [mp.mpf(c) for c in coefficients]
    gain = [j * c for j, c in enumerate(phi)]

    def triple(p: Sequence[mp.mpf]) -> Moments:
        return tuple(_polynomial_pair(p, p, *pair) for pair in _pairs(k))

    mean = tuple(_polynomial_pair(phi, [mp.mpf(1)], r, r, r) for r in (k[0], k[2]))
    return {"value": triple(phi), "slope": triple(gain[1:]), "gain": triple(gain), "mean": mean}


def _polynomial_pair(
    p: Sequence[mp.mpf], q: Sequence[mp.mpf], k11: mp.mpf, k12: mp.mpf, k22: mp.mpf
) -> mp.mpf:
    def moment(i: int, j: int) -> mp.mpf:
        if i == 0:
            return mp.mpf(j % 2 == 0) * mp.fac2(j - 1) * k22 ** (j // 2)
        above = (i - 1) * k11 * moment(i - 2, j) if i > 1 else mp.mpf(0)
        return above + (j * k12 * moment(i - 1, j - 1) if j else 0)

    return mp.fsum(a * b * moment(i, j) for i, a in enumerate(p) for j, b in enumerate(q) if a * b)


def smooth(
    k: Moments, second: Callable[..., mp.mpf], mean: Callable[[mp.mpf], mp.mpf]
) -> dict[str, Moments]:
    """Slope and gain as derivatives of E[phi(a u) phi(b v)] with respect to K12, and to a and b."""

    def gain(k11: mp.mpf, k12: mp.mpf, k22: mp.mpf) -> mp.mpf:
        stretched = lambda a, b: second(a * a * k11, a * b * k12, b * b * k22)  # noqa: E731
        return mp.diff(stretched, (1, 1), (1, 1))

    return {
        "value": tuple(second(*pair) for pair in _pairs(k)),
        "slope": tuple(mp.diff(lambda c, p=p: second(p[0], c, p[2]), p[1]) for p in _pairs(k)),
        "gain": tuple(gain(*pair) for pair in _pairs(k)),
        "mean": (mean(k[0]), mean(k[2])),
    }


def bump(k: Moments, rate: float) -> dict[str, Moments]:
    """``exp(-rate u^2)``: the determinant."""
    c = 2 * mp.mpf(rate)

    def second(a: mp.mpf, b: mp.mpf, d: mp.mpf) -> mp.mpf:
        return 1 / mp.sqrt((1 + c * a) * (1 + c * d) - (c * b) ** 2)

    return smooth(k, second, lambda a: 1 / mp.sqrt(1 + c * a))


def exponential(k: Moments, rate: float) -> dict[str, Moments]:
    """``exp(rate u)``: the lognormal mean."""
    c = mp.mpf(rate) ** 2 / 2

    def second(a: mp.mpf, b: mp.mpf, d: mp.mpf) -> mp.mpf:
        return mp.exp(c * (a + 2 * b + d))

    return smooth(k, second, lambda a: mp.exp(c * a))


def wave(k: Moments, rate: float, phase: float) -> dict[str, Moments]:
    """``sin(rate u + phase)`` from the real part of characteristic functions."""
    c, kappa = mp.mpf(rate) ** 2 / 2, mp.cos(2 * mp.mpf(phase))

    def second(a: mp.mpf, b: mp.mpf, d: mp.mpf) -> mp.mpf:
        return (mp.exp(-c * (a - 2 * b + d)) - kappa * mp.exp(-c * (a + 2 * b + d))) / 2

    return smooth(k, second, lambda a: mp.sin(mp.mpf(phase)) * mp.exp(-c * a))
