"""What must hold for every network and every batch, searched for counterexamples."""

import functools
from dataclasses import dataclass

import pytest
import torch
from architectures import ACTIVATIONS, NORMS, Block, Blocks
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import farfield as ff

FLOAT64 = torch.float64
FEATURES = 3
HOMOGENEOUS = ["relu", "leaky", "abs"]

# Without shrinking: a failure says its example, and a search that fails should not take minutes.
search = functools.partial(
    settings, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)


@dataclass(frozen=True)
class Network:
    """A network that a failure can name."""

    blocks: list[Block]
    eps: float = 1e-5
    weight_var: float = 2.0
    bias_var: float = 0.0

    @property
    def kernels(self) -> tuple[ff.Kernel, ff.Kernel]:
        model = Blocks(self.blocks, FEATURES, eps=self.eps, bias=self.bias_var > 0.0)
        limit = ff.infinite_width(model, self.weight_var, self.bias_var)
        return limit.nngp, limit.ntk


def blocks(activations=tuple(ACTIVATIONS), norms=tuple(NORMS), kinds=None, most=3):
    """One to ``most`` blocks."""
    one = st.builds(
        Block,
        kind=st.sampled_from(kinds or ["plain", "residual", "gate", "cat"]),
        activation=st.sampled_from(activations),
        before=st.sampled_from(norms),
        after=st.sampled_from(norms),
    )
    return st.lists(one, min_size=1, max_size=most)


@st.composite
def batches(draw, largest: int = 30, rows: int = 6) -> torch.Tensor:
    """Rows of any size, and rows close to, equal to or opposite to earlier ones."""
    entries = st.floats(-2.0, 2.0).filter(lambda value: value == 0.0 or abs(value) > 1e-3)
    exponents = st.one_of(st.just(0), st.integers(-largest, largest))
    batch: list[torch.Tensor] = []
    kinds = ["new", "uneven", "zero", "same", "close", "opposite", "almost opposite"]
    for number in range(rows):
        kind = draw(st.sampled_from(kinds if number else ["new"]))
        row = torch.tensor([draw(entries) for _ in range(FEATURES)], dtype=FLOAT64)
        if kind == "new":
            row = row * 10.0 ** draw(exponents)
        elif kind == "uneven":
            row = row * torch.tensor([10.0 ** draw(exponents) for _ in row], dtype=FLOAT64)
        elif kind == "zero":
            row = 0.0 * row
        else:
            other = batch[draw(st.integers(0, number - 1))]
            nudge = 10.0 ** draw(st.integers(-12, -3)) if kind.startswith(("clo", "alm")) else 0.0
            row = (-1.0 if "opposite" in kind else 1.0) * (other + nudge * other.abs().max() * row)
        batch.append(row)
    return torch.stack(batch)


@st.composite
def networks(draw, **options) -> Network:
    """A network of some blocks."""
    return Network(
        draw(blocks(**options)),
        eps=draw(st.sampled_from([1e-12, 1e-5, 0.1])),
        weight_var=draw(st.sampled_from([1.0, 2.0])),
        bias_var=draw(st.sampled_from([0.0, 0.1])),
    )


def roots(kernel, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """What an entry of the kernel can be at most: its rounding errors are relative to that."""
    left = kernel.diagonal(x).sqrt()
    return left.outer(left if y is None else kernel.diagonal(y).sqrt())


def check_semidefinite(kernel, x: torch.Tensor) -> None:
    matrix, size = kernel(x), roots(kernel, x)
    assert matrix.isfinite().all()
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), kernel.diagonal(x))
    assert (matrix.diagonal() >= 0).all()
    # Brought to a diagonal of ones, so that the largest inputs do not hide the others.
    cosines = torch.where(size > 0, matrix / torch.where(size > 0, size, 1.0), 0.0)
    assert (cosines.abs() <= 1.0 + 1e-9).all()
    for values in (torch.linalg.eigvalsh(cosines), torch.linalg.eigvalsh(matrix)):
        assert values[0] >= -1e-12 * values[-1]


@given(networks(), batches())
@search(max_examples=14)
def test_symmetric_and_positive_semidefinite(network, x) -> None:
    for kernel in network.kernels:
        check_semidefinite(kernel, x)


@given(networks(), batches(), st.permutations(range(6)), st.integers(1, 5), st.integers(1, 5))
@search(max_examples=8)
def test_an_entry_depends_on_its_two_inputs_alone(network, x, order, rows, columns) -> None:
    # Only the dot products of the inputs may be added in another order.
    for kernel in network.kernels:
        matrix, size = kernel(x), roots(kernel, x)
        permuted = kernel(x[order])
        assert ((permuted - matrix[order][:, order]).abs() <= 1e-13 * size[order][:, order]).all()
        part = kernel(x[:rows], x[:columns])
        error = (part - matrix[:rows, :columns]).abs()
        assert (error <= 1e-13 * size[:rows, :columns]).all()
        assert torch.equal(kernel.diagonal(x[order]), kernel.diagonal(x)[order])


@given(
    blocks(activations=HOMOGENEOUS, norms=["none"], kinds=["plain", "residual", "cat"]),
    batches(largest=10),
    st.floats(-20.0, 20.0),
    st.floats(-20.0, 20.0),
)
@search(max_examples=10)
def test_rectifiers_without_biases_are_homogeneous(layers, x, a, b) -> None:
    # k(a x, b y) = a b k(x, y); a x is rounded, which turns it by 1e-16.
    network = Network(layers)
    y, (a, b) = x.flip(0), (10.0**a, 10.0**b)
    for kernel in network.kernels:
        error = (kernel(a * x, b * y) / a / b - kernel(x, y)).abs()
        assert (error <= 1e-13 * roots(kernel, x, y)).all()


@given(
    st.sampled_from(["layer", "plain layer", "rms"]),
    st.sampled_from(list(ACTIVATIONS)),
    blocks(most=2),
    batches(largest=10),
    st.integers(-60, 60),
)
@search(max_examples=10)
def test_a_first_norm_without_bias_forgets_the_size(norm, activation, rest, x, a) -> None:
    network = Network([Block("plain", activation, before=norm), *rest], eps=0.0)
    for kernel in network.kernels:
        error = (kernel(2.0**a * x, x) - kernel(x)).abs()
        assert (error <= 1e-13 * roots(kernel, x)).all()


@given(networks(), batches(largest=8))
@search(max_examples=10)
def test_single_precision_is_rounded_double_precision(network, x) -> None:
    x = x.float()
    for kernel in network.kernels:
        rough, exact = kernel(x), kernel(x.double())
        assert rough.dtype == torch.float32
        # Entries that float32 cannot hold become zero or infinite.
        held = (exact.abs() < 3e38) & (roots(kernel, x.double()) > 1e-30)
        error = (rough.double() - exact).abs()
        assert (error[held] <= 2e-6 * roots(kernel, x.double())[held]).all()
        assert not rough.isnan().any()


def test_a_broken_kernel_is_found() -> None:
    # The search finds the mistake that textbooks make: the angle from a rounded cosine.
    def rounded(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        size = x.norm(dim=1).outer(y.norm(dim=1))
        angle = torch.acos((x @ y.T / size).clamp(-1.0, 1.0))
        return size * (torch.sin(angle) + (torch.pi - angle) * torch.cos(angle))

    kernel = ff.Kernel(rounded, lambda x: torch.pi * x.norm(dim=1).square())

    @given(batches())
    @search(max_examples=60)
    def check(x: torch.Tensor) -> None:
        check_semidefinite(kernel, x)

    with pytest.raises(AssertionError):
        check()
