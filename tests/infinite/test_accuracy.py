"""Kernels against 50 digits of mpmath, and against closed forms on the diagonal."""

import mpmath as mp
import pytest
import torch
from networks import Elementwise, stack
from reference import erf, mlp_kernels, relu
from torch import nn

import farfield as ff

FLOAT64 = torch.float64
DUALS = {
    "relu": (nn.ReLU, relu),
    "leaky": (lambda: nn.LeakyReLU(0.3), lambda k: relu(k, 0.3)),
    "abs": (lambda: Elementwise(torch.abs), lambda k: relu(k, -1.0)),
    "erf": (lambda: Elementwise(torch.erf), erf),
}
# Of the reference: at inputs of 1e30 the determinant that erf needs loses 120 of them.
DIGITS = {"relu": 50, "leaky": 50, "abs": 50, "erf": 250}
X = torch.tensor([0.7, -1.3, 0.4], dtype=FLOAT64)
Z = torch.tensor([-0.2, 0.9, 1.1], dtype=FLOAT64)
PAIRS = {
    "generic": (X, Z),
    "same": (X, X.clone()),
    "antipodal": (X, -X),
    "almost antipodal": (X, -X + 1e-6 * Z),
    "tiny": (X * 1e-30, Z * 1e-30),
    "huge": (X * 1e30, Z * 1e30),
    "tiny and huge": (X * 1e-30, Z * 1e30),
}
FAR = {"vanishing": (X * 1e-150, Z * 1e-150), "enormous": (X * 1e150, Z * 1e150)}
NEAR = {f"at {e:g}": (X, X + e * X.norm() * Z / Z.norm()) for e in [1e-3, 1e-5, 1e-6, 1e-8]}


def worst_errors(name, norm, depth, bias_var, pairs, of_roots=()) -> dict[str, float]:
    """Largest relative error of both kernels' entries, for each of these pairs.

    Entries that are small because terms cancel (a mean is subtracted; a norm's trained bias adds
    1 to a tangent of almost -1: the pairs in ``of_roots``) count relative to the roots of the
    diagonals. The network is read once for all pairs, which stand on the diagonal of a matrix.
    """
    activation, dual = DUALS[name]
    xs, ys = (torch.stack(side) for side in zip(*pairs.values(), strict=True))
    limit = ff.infinite_width(stack(depth, activation, norm), weight_var=2.0, bias_var=bias_var)
    both = [matrix.diagonal().tolist() for matrix in limit(xs, ys)]
    left, right = ([part.tolist() for part in limit.diagonal(side)] for side in (xs, ys))
    worst = dict.fromkeys(pairs, 0.0)
    with mp.workdps(DIGITS[name]):
        for number, label in enumerate(pairs):
            x, y = xs[number].tolist(), ys[number].tolist()
            exact = mlp_kernels(x, y, depth, dual, 2.0, bias_var, norm)
            for kernel, (k11, k12, k22) in enumerate(exact):
                size = mp.sqrt(k11 * k22) if norm == "after" or label in of_roots else abs(k12)
                floor = mp.mpf("1e-36") * mp.sqrt(k11 * k22)  # zero, to the digits of the reference
                errors = [
                    abs(mp.mpf(both[kernel][number]) - k12) / max(size, floor),
                    abs(mp.mpf(left[kernel][number]) - k11) / k11,
                    abs(mp.mpf(right[kernel][number]) - k22) / k22,
                ]
                worst[label] = max(worst[label], *map(float, errors))
    return worst


def assert_below(tolerance: float, errors: dict[str, float]) -> None:
    assert {label: error for label, error in errors.items() if not error <= tolerance} == {}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
@pytest.mark.parametrize("name", DUALS)
def test_pre_activations_normalised_or_not(name, bias_var, depth) -> None:
    for norm in [None, "before"]:
        cancels = ["almost antipodal"] if norm == "before" else []
        assert_below(1e-12, worst_errors(name, norm, depth, bias_var, PAIRS, of_roots=cancels))


@pytest.mark.parametrize("name", ["relu", "erf"])
@pytest.mark.parametrize("norm", [None, "before"])
def test_fifty_layers(name, norm) -> None:
    chosen = {label: PAIRS[label] for label in ["generic", "almost antipodal", "tiny", "huge"]}
    assert_below(1e-12, worst_errors(name, norm, 50, 0.1, chosen))


@pytest.mark.parametrize("name", ["relu", "leaky"])
@pytest.mark.parametrize("norm", [None, "before"])
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
def test_norms_from_1e_minus_150_to_1e150(name, norm, bias_var) -> None:
    for label, pair in FAR.items():  # not in one matrix, whose other entries would be beyond range
        assert_below(1e-12, worst_errors(name, norm, 3, bias_var, {label: pair}))


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("norm", [None, "before", "after"])
def test_close_pairs_keep_their_digits(name, norm) -> None:
    for depth in [1, 3]:
        assert_below(1e-10, worst_errors(name, norm, depth, 0.1, NEAR))


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("depth", [1, 3])
def test_activations_normalised(name, depth) -> None:
    assert_below(1e-12, worst_errors(name, "after", depth, 0.1, PAIRS))


def test_zero_input() -> None:
    for norm in [None, "before"]:
        assert_below(1e-12, worst_errors("relu", norm, 3, 0.1, {"zero": (X, 0 * X)}))
    k = ff.infinite_width(stack(2, nn.ReLU), weight_var=2.0, bias_var=0.0)
    assert k.ntk(torch.stack([X, 0 * X]))[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("radius", [0.0, 1.0, 25.0, 1e100])
@pytest.mark.parametrize("hidden", [1, 2, 5])
def test_diagonal_without_norm(hidden, radius) -> None:
    # Theta(x, x) = (L + 1) q0 + s L (L + 1) / 2 with unit-variance first weights.
    s = 0.01
    q0 = radius**2 + s
    value = paper(hidden, None, s).ntk.diagonal(torch.full((1, 1), radius, dtype=FLOAT64)).item()
    assert value == pytest.approx((hidden + 1) * q0 + s * hidden * (hidden + 1) / 2, rel=1e-13)


@pytest.mark.parametrize("radius", [0.0, 0.3, 25.0, 1e100])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_diagonal_with_one_norm(at, radius) -> None:
    s, hidden = 0.01, 3
    q0, m = radius**2 + s, hidden - at + 1
    below = (at * q0 + s * at * (at - 1) / 2) / (q0 + (at - 1) * s)
    value = paper(hidden, at, s).ntk.diagonal(torch.full((1, 1), radius, dtype=FLOAT64)).item()
    assert value == pytest.approx(below + m + s * m * (m + 1) / 2, rel=1e-13)


def test_published_off_diagonal_value() -> None:
    x = torch.tensor([[25.0], [-25.0]], dtype=FLOAT64)
    assert paper(2, None, 0.01).ntk(x)[0, 1].item() == pytest.approx(198.17, abs=5e-3)


def paper(hidden: int, norm_at: int | None, bias_var: float):
    """The parametrisation of Ziomek, Whittle and Osborne: LayerNorm without eps or gain."""
    model = ff.mlp(
        1, [4] * hidden, 1, norm=None if norm_at is None else "layer", norm_at=(norm_at or 1) - 1
    )
    variances = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.0
            module.requires_grad_(False)
        if isinstance(module, nn.Linear):
            variances[name] = 2.0 if variances else 1.0
    return ff.infinite_width(model, weight_var=variances, bias_var=bias_var)
