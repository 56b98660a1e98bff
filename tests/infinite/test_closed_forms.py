"""Powers, polynomials, exponentials and waves: against 120 digits; user's spellings."""

import mpmath as mp
import pytest
import torch
from networks import Elementwise, stack
from reference import bump, exponential, mlp_kernels, polynomial, power, wave
from torch.nn import functional as F

import farfield as ff
from farfield.errors import RangeError
from farfield.infinite.duals.numeric import Numeric

FLOAT64 = torch.float64
X = torch.tensor([0.7, -1.3, 0.4], dtype=FLOAT64)
Z = torch.tensor([-0.2, 0.9, 1.1], dtype=FLOAT64)
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
PAIRS: Pairs = {
    "generic": (X, Z),
    "same": (X, X.clone()),
    "at 1e-3": (X, X + 1e-3 * Z),
    "at 1e-6": (X, X + 1e-6 * Z),
    "at 1e-8": (X, X + 1e-8 * Z),
    "antipodal": (X, -X),
    "1e-3 from antipodal": (X, -X + 1e-3 * Z),
    "1e-6 from antipodal": (X, -X + 1e-6 * Z),
}
FAR: Pairs = {
    "tiny": (X * 1e-30, Z * 1e-30),
    "huge": (X * 1e30, Z * 1e30),
    "tiny and huge": (X * 1e-30, Z * 1e30),
    "huge, 1e-6 from antipodal": (X * 1e30, (-X + 1e-6 * Z) * 1e30),
}
DUALS = {
    "relu^2": (lambda u: torch.relu(u) ** 2, lambda k: power(k, 2)),
    "relu^3": (lambda u: torch.relu(u) ** 3, lambda k: power(k, 3)),
    "relu^4": (lambda u: torch.relu(u) ** 4, lambda k: power(k, 4)),
    "leaky squares": (lambda u: F.relu(u) ** 2 - 2 * F.relu(-u) ** 2, lambda k: power(k, 2, -2)),
    "|u|^3": (lambda u: abs(u) ** 3, lambda k: power(k, 3, 1)),
    "u^2": (lambda u: u * u, lambda k: polynomial(k, [0, 0, 1])),
    "u^3": (lambda u: u**3, lambda k: polynomial(k, [0, 0, 0, 1])),
    "u^4": (lambda u: u**4, lambda k: polynomial(k, [0, 0, 0, 0, 1])),
    "hermite": (lambda u: u**3 - 3 * u, lambda k: polynomial(k, [0, -3, 0, 1])),
    "quadratic": (lambda u: 0.5 * u * u + u - 1, lambda k: polynomial(k, [-1, 1, 0.5])),
    "bump": (lambda u: torch.exp(-0.5 * u * u), lambda k: bump(k, 0.5)),
    "wave": (lambda u: torch.sin(0.5 * u + 0.75), lambda k: wave(k, 0.5, 0.75)),
    "exp": (lambda u: torch.exp(0.25 * u), lambda k: exponential(k, 0.25)),
}
SMOOTH = {"bump", "wave", "exp"}  # their reference differentiates numerically, with more digits


def worst_errors(name: str, norm: str | None, bias_var: float, pairs: Pairs) -> dict[str, float]:
    """Largest relative error of both kernels' entries, of a network with one hidden layer.

    Entries that are small because terms cancel (a mean is subtracted; a norm's trained bias adds
    1 to a tangent of almost -1; the mean of 3 u^2 - 3 is zero at variance 1) count relative to
    the roots of the diagonals. The pairs stand on the diagonal of one matrix.
    """
    function, dual = DUALS[name]
    xs, ys = (torch.stack(side) for side in zip(*pairs.values(), strict=True))
    limit = ff.infinite_width(stack(1, lambda: Elementwise(function), norm), 2.0, bias_var)
    both = [matrix.diagonal().tolist() for matrix in limit(xs, ys)]
    left, right = ([part.tolist() for part in limit.diagonal(side)] for side in (xs, ys))
    worst = dict.fromkeys(pairs, 0.0)
    with mp.workdps(400 if name in SMOOTH else 120):
        for number, label in enumerate(pairs):
            x, y = xs[number].tolist(), ys[number].tolist()
            exact = mlp_kernels(x, y, 1, dual, 2.0, bias_var, norm)
            moved = "antipodal" in label or name == "hermite"
            cancels = norm == "after" or (norm == "before" and moved)
            for kernel, (k11, k12, k22) in enumerate(exact):
                roots = mp.sqrt(k11 * k22)
                size = roots if cancels else max(abs(k12), mp.mpf("1e-70") * roots)
                errors = [
                    abs(mp.mpf(both[kernel][number]) - k12) / size,
                    abs(mp.mpf(left[kernel][number]) - k11) / k11,
                    abs(mp.mpf(right[kernel][number]) - k22) / k22,
                ]
                worst[label] = max(worst[label], *map(float, errors))
    return worst


@pytest.mark.parametrize("norm", [None, "before", "after"])
@pytest.mark.parametrize("name", DUALS)
def test_twelve_digits(name, norm) -> None:
    for bias_var in [0.0, 0.1]:
        errors = worst_errors(name, norm, bias_var, PAIRS)
        assert {label: e for label, e in errors.items() if not e <= 1e-12} == {}, bias_var


@pytest.mark.parametrize("norm", [None, "before"])
@pytest.mark.parametrize("name", [name for name in DUALS if name != "exp"])
def test_twelve_digits_at_norms_from_1e_minus_30_to_1e30(name, norm) -> None:
    for bias_var in [0.0, 0.1]:
        errors = worst_errors(name, norm, bias_var, FAR)
        assert {label: e for label, e in errors.items() if not e <= 1e-12} == {}, bias_var


@pytest.mark.parametrize("scale", [1e-70, 1e-30, 1e30, 1e70])
@pytest.mark.parametrize("degree", [2, 3, 4])
def test_representable_powers_of_far_inputs(degree, scale) -> None:
    # E[relu(u)^k relu(v)^k] = scale^(2 k) times that at scale 1; 1e70^4 still squares to 1e560.
    model = stack(1, lambda: Elementwise(lambda u: torch.relu(u) ** degree), "after", eps=0.0)
    x = torch.stack([X, Z, -X])
    near, far = (ff.infinite_width(model, 2.0, 0.0)(s * x) for s in (1.0, scale))
    for one, two in zip(near, far, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_beyond_the_range_is_refused() -> None:
    for function, size in [(torch.exp, 1e3), (lambda u: u**8, 1e60)]:
        limit = ff.infinite_width(stack(1, lambda f=function: Elementwise(f)), 2.0, 0.1)
        with pytest.raises(RangeError, match=r"float64.*norm before"):
            limit.ntk(size * X[None])


CLOSED_SPELLINGS = {
    "relu": ["u.clamp(min=0)", "u.clamp_min(0)", "F.relu(u)", "torch.clip(u, 0)",
             "0.5 * (u + u.abs())", "u * torch.heaviside(u, torch.zeros(1))", "F.leaky_relu(u, 0)",
             "-torch.clamp(-u, max=0)", "u - u.clamp_max(0)"],
    "relu^2": ["torch.relu(u)**2", "F.relu(u).square()", "torch.relu(u) * torch.relu(u)",
               "torch.relu(u) * u", "u.clamp(min=0)**2", "torch.pow(u.relu(), 2)",
               "torch.square(u.clamp_min(0))", "0.5 * (u * u + u * u.abs())"],
    "relu^3": ["torch.relu(u).pow(3)", "torch.relu(u) * u**2", "u.relu()**2 * u.relu()",
               "torch.relu(u**3)"],
    "relu^4": ["torch.relu(u)**4", "(torch.relu(u)**2)**2", "torch.relu(u**3) * u"],
    "u^2": ["u**2", "u.square()", "u * u", "torch.pow(u, 2)", "u.abs()**2", "abs(u * u)",
            "torch.sign(u) * u * abs(u)"],
    "hermite": ["u**3 - 3 * u", "u * (u * u - 3)", "u.pow(3) - u - u - u", "(u**2 - 3) * u"],
    "quadratic": ["0.5 * u * u + u - 1", "u**2 / 2 - (1 - u)", "0.5 * (u + 1)**2 - 1.5"],
    "bump": ["torch.exp(-0.5 * u * u)", "torch.exp(-u**2 / 2)", "(-u.square() / 2).exp()",
             "2.0 * torch.exp(-0.5 * u**2 + 0.5) / (2.0 * 2.718281828459045**0.5)"],
    "exp": ["torch.exp(0.25 * u)", "(u / 4).exp()", "torch.exp(u / 4 + 1) / 2.718281828459045"],
    "wave": ["torch.sin(0.5 * u + 0.75)", "torch.cos(0.5 * u + (0.75 - torch.pi / 2))",
             "torch.sin(0.5 * (u + 1.5))"],
}  # fmt: skip
PLAIN = {"relu": torch.relu, **{name: function for name, (function, _) in DUALS.items()}}


@pytest.mark.parametrize(
    ("name", "spelling"),
    [(name, spelling) for name, spellings in CLOSED_SPELLINGS.items() for spelling in spellings],
)
def test_closed_forms_are_found_from_any_spelling(name, spelling, monkeypatch) -> None:
    def quadrature(*args: object) -> None:
        raise AssertionError("quadrature")

    x = torch.stack([X, Z, -X])
    kernels = []
    monkeypatch.setattr(Numeric, "rows", quadrature)
    for function in (PLAIN[name], eval(f"lambda u: {spelling}", {"torch": torch, "F": F})):
        kernels.append(ff.infinite_width(stack(1, lambda f=function: Elementwise(f)), 2.0, 0.1)(x))
    for one, two in zip(*kernels, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-13, atol=1e-13)


def test_what_is_no_closed_form_goes_through_quadrature() -> None:
    # relu^2 + relu and relu(u - 1)^2 are none; E[phi] of the second moments by Monte Carlo.
    for function in (lambda u: F.relu(u) ** 2 + F.relu(u), lambda u: F.relu(u - 1) ** 2):
        model = stack(1, lambda f=function: Elementwise(f))
        k = ff.infinite_width(model, 1.0, 0.0).nngp(torch.stack([X, Z]))
        seed = torch.Generator().manual_seed(0)
        u = torch.randn(400_000, 3, dtype=FLOAT64, generator=seed) @ torch.stack([X, Z]).T / 3**0.5
        products = function(u)[:, :, None] * function(u)[:, None, :]
        error = products.std(0) / len(products) ** 0.5
        assert ((products.mean(0) - k).abs() <= 4 * error).all()
