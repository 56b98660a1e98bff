"""The kernels of a multilayer perceptron to 50 digits, straight from the textbook formulas.

Nothing here is shared with the library: mpmath's closed forms where the literature has them,
and its adaptive quadrature in two dimensions for the rest.
"""

from collections.abc import Callable, Sequence

import mpmath as mp

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


def by_quadrature(
    f: Callable, df: Callable, breaks: Sequence[float] = (0,)
) -> Callable[[Moments], dict[str, Moments]]:
    """Any function, by adaptive quadrature; ``breaks`` are where it bends."""

    def dual(k: Moments) -> dict[str, Moments]:
        k11, k12, k22 = k
        value, slope, gain = [], [], []
        for a, c, b in [(k11, k11, k11), (k11, k12, k22), (k22, k22, k22)]:
            for target, g in [(value, f), (slope, df), (gain, lambda u: u * df(u))]:
                target.append(expect_pair(g, a, c, b, breaks))
        means = tuple(expect(f, q, breaks) for q in (k11, k22))
        return {"value": tuple(value), "slope": tuple(slope), "gain": tuple(gain), "mean": means}

    return dual


def expect(f: Callable, variance: mp.mpf, breaks: Sequence[float]) -> mp.mpf:
    root = mp.sqrt(variance)
    edges = sorted({-mp.mpf(9), *(mp.mpf(b) / root for b in breaks if abs(b) < 9 * root), 9})
    return mp.quad(lambda z: f(root * z) * mp.npdf(z), edges)


def expect_pair(
    f: Callable, k11: mp.mpf, k12: mp.mpf, k22: mp.mpf, breaks: Sequence[float]
) -> mp.mpf:
    """E[f(u) f(v)], the outer integral over u, the inner one over v given u."""
    root, other = mp.sqrt(k11), mp.sqrt(k22)
    rho = k12 / (root * other)
    rest = mp.sqrt(max(mp.mpf(0), 1 - rho**2))
    if rest == 0:
        sign = 1 if rho > 0 else -1
        return expect(lambda u: f(u) * f(sign * other / root * u), k11, breaks)

    def inner(z: mp.mpf) -> mp.mpf:
        cuts = [(mp.mpf(b) / other - rho * z) / rest for b in breaks]
        edges = sorted({-mp.mpf(9), *(cut for cut in cuts if abs(cut) < 9), mp.mpf(9)})
        return mp.quad(lambda w: f(other * (rho * z + rest * w)) * mp.npdf(w), edges)

    edges = sorted({-mp.mpf(9), *(mp.mpf(b) / root for b in breaks if abs(b) < 9 * root), 9})
    return mp.quad(lambda z: f(root * z) * inner(z) * mp.npdf(z), edges)


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
