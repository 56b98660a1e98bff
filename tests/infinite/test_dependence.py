"""What belongs together: ranges of dependent units, views, rows that touch, threads."""

import threading

import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import UnsupportedOperation

X = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
WIDTH, HALF = 16, 8


class Own(nn.Module):
    """A model whose ``forward`` is a function of it and its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.a, self.d, self.b = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH), nn.Linear(WIDTH, 1)
        self.ending = nn.Linear(HALF, 1)
        self.gain = nn.Parameter(torch.ones(4))
        self.norm = nn.LayerNorm(WIDTH, eps=0.0, elementwise_affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def limit(function, weight_var: float = 1.5, bias_var: float = 0.3):
    return ff.infinite_width(Own(function).double(), weight_var, bias_var)


@pytest.mark.parametrize(
    "function",
    [
        lambda s, h, x: torch.relu(h[:, :HALF] + s.norm(h)[:, :HALF]),
        lambda s, h, x: torch.relu(h[:, :HALF]) * s.norm(h)[:, :HALF],
        lambda s, h, x: h[:, :HALF] + (x[:, :1] * h)[:, :HALF],
        lambda s, h, x: h[:, :HALF] + (h + s.d(x))[:, :HALF],
        lambda s, h, x: h[:, :HALF] + s.norm(h)[:, 4:12],
        lambda s, h, x: h[:, :HALF][:, 2:6] + s.norm(h)[:, :4],
    ],
)
def test_ranges_of_dependent_units_that_overlap_are_refused(function) -> None:
    with pytest.raises(UnsupportedOperation, match="same random map"):
        limit(lambda s, x: s.ending(function(s, s.a(x), x))).nngp(X)


def test_disjoint_ranges_of_dependent_units_are_independent() -> None:
    one = limit(lambda s, x: s.ending(s.a(x)[:, :HALF] + s.norm(s.a(x))[:, HALF:]))
    with pytest.raises(UnsupportedOperation, match="a second time"):
        one.nngp(X)

    def apart(s, x):
        h = s.a(x)
        return s.ending(h[:, :HALF] + s.norm(h)[:, HALF:])

    k = 1.5 * X @ X.T / 4 + 0.3
    r = k.diagonal().sqrt()
    torch.testing.assert_close(limit(apart).nngp(X), 1.5 * (k + k / r.outer(r)) + 0.3)


def after_a_view(s, x):
    h = s.a(x)
    part = h[:, :HALF]
    h.relu_()
    return s.ending(part)


def after_a_cast(s, x):
    h = s.a(x)
    h.to(h.dtype).relu_()
    return s.b(h)


def after_a_shape(s, x):
    z = x.clone()
    same = z.view(len(z), 2, 2)
    z.zero_()
    return s.b(torch.relu(s.a(same.flatten(1))))


def after_a_slice(s, x):
    x = x.clone()
    part = x[:, :2]
    x.mul_(3.0)
    return s.b(s.a(torch.cat([part, part], -1)))


@pytest.mark.parametrize("function", [after_a_view, after_a_cast, after_a_shape, after_a_slice])
def test_in_place_functions_beside_views_are_refused(function) -> None:
    with pytest.raises(UnsupportedOperation, match="with views"):
        limit(function).nngp(X)


SIGMOIDS = {
    "product": (lambda s, x: torch.sigmoid(s.a(x)) * torch.sigmoid(s.d(x)), "b"),
    "cat": (lambda s, x: torch.cat([torch.sigmoid(s.a(x)), torch.sigmoid(s.d(x))], -1), None),
    "three": (
        lambda s, x: torch.cat([torch.sigmoid(s.a(x)), *torch.sigmoid(s.d(x)).chunk(2, -1)], -1),
        None,
    ),
}


@pytest.mark.parametrize("name", SIGMOIDS)
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-20])
def test_what_hardly_varies_keeps_its_correlations(name, size) -> None:
    function, _ = SIGMOIDS[name]

    def normed(s, x):
        h = function(s, x)
        h = F.layer_norm(h, h.shape[-1:], eps=0.0)
        return s.last(h)

    model = Own(normed).double()
    model.last = nn.Linear(WIDTH if name == "product" else 2 * WIDTH, 1).double()
    value = ff.infinite_width(model, weight_var=1.0, bias_var=0.0).nngp(size * X)
    lengths = X.norm(dim=1)
    # Up to terms of third order a sigmoid is a line.
    atol = 1e-12 + 3 * size**2 * X.square().sum(1).max().item()
    torch.testing.assert_close(value, X @ X.T / lengths.outer(lengths), rtol=0.0, atol=atol)


@pytest.mark.parametrize(
    "function",
    [
        lambda u: torch.where(u > 0, torch.tanh(u) + 1.03, torch.tanh(u) + 1.0),
        lambda u: torch.sigmoid(u + 0.01 * torch.sign(u)),
    ],
)
def test_a_jump_remains_when_nothing_else_varies(function) -> None:
    norm = nn.LayerNorm(WIDTH, eps=0.0, elementwise_affine=False)
    model = nn.Sequential(nn.Linear(4, WIDTH), Elementwise(function), norm, nn.Linear(WIDTH, 1))
    value = ff.infinite_width(model, weight_var=1.0, bias_var=0.0).nngp(1e-8 * X)
    lengths = X.norm(dim=1)
    cosine = (X @ X.T / lengths.outer(lengths)).clamp(-1.0, 1.0)
    torch.testing.assert_close(value, 2 / torch.pi * torch.asin(cosine), rtol=0.0, atol=1e-5)


def test_the_number_of_entries_is_a_shape() -> None:
    with pytest.raises(UnsupportedOperation, match=r"x\.shape\[0\]"):
        limit(lambda s, x: s.b(torch.relu(s.a(x / x.numel())))).ntk(X)


def test_every_size_of_batch_is_checked() -> None:
    kernel = limit(lambda s, x: s.b(s.a(x if len(x) < 10 else 2.0 * x))).ntk
    kernel(X)
    with pytest.raises(UnsupportedOperation, match=r"x\.shape\[0\]"):
        kernel(X.repeat(5, 1))


@torch.library.custom_op("farfield_tests::smoothed", mutates_args=())
def smoothed(x: torch.Tensor) -> torch.Tensor:
    weight = torch.exp(-(torch.cdist(x, x) ** 2))
    return weight @ x / weight.sum(1, keepdim=True)


def test_rows_that_touch_their_neighbours_are_found() -> None:
    x = torch.tensor([[100.0, 0, 0, 0], [0, 1, 2, 0], [0.1, 1.1, 2, 0], [0, 0.9, 2.2, 0]])
    with pytest.raises(UnsupportedOperation, match="across the batch"):
        limit(lambda s, x: s.b(torch.relu(s.a(smoothed(x))))).ntk(x.double())


def test_one_huge_row_hides_nothing() -> None:
    x = torch.cat([torch.tensor([[1e12, 0, 0, 0]], dtype=X.dtype), X])
    with pytest.raises(UnsupportedOperation, match="across the batch"):
        limit(lambda s, x: s.b(s.a(x + torch.arange(len(x))[:, None]))).ntk(x)


def test_rows_of_their_own_are_let_through() -> None:
    table = nn.Embedding(4, 4).double().requires_grad_(False)
    index = X[:, 0].abs().clamp(0, 3).long()

    def embedded(s, x):
        return s.b(s.a(table(x[:, 0].abs().clamp(0, 3).long())))

    def inverted(s, x):
        return s.b(s.a(torch.linalg.inv(x.view(-1, 2, 2)).flatten(1)))

    k = 1.5 * table(index) @ table(index).T / 4 + 0.3
    torch.testing.assert_close(limit(embedded).nngp(X), 1.5 * k + 0.3)
    y = torch.linalg.inv(X.view(-1, 2, 2)).flatten(1)
    torch.testing.assert_close(limit(inverted).nngp(X), 1.5 * (1.5 * y @ y.T / 4 + 0.3) + 0.3)
    normed = limit(lambda s, x: s.b(s.a(F.normalize(x, dim=-1))))
    assert normed.ntk.diagonal(X[:0]).shape == (0,)


def test_a_trained_gain_of_features_stays_random() -> None:
    kernels = limit(lambda s, x: s.b(torch.relu(s.a(x * s.gain))))
    expected = limit(lambda s, x: s.b(torch.relu(s.a(x)))).nngp(X)
    torch.testing.assert_close(kernels.nngp(X), expected)
    with pytest.raises(UnsupportedOperation, match="do not average out"):
        kernels.ntk(X)


def test_a_shift_that_is_zero_here_has_a_gradient() -> None:
    x = torch.tensor([[0.0, 1, 2, 3], [0.0, 2, -3, 4]], dtype=X.dtype, requires_grad=True)
    kernel = limit(lambda s, x: s.b(torch.relu(s.a(x)) + x[:, :1])).nngp
    assert torch.autograd.gradcheck(kernel, x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2.0 * ctx.saved_tensors[0] * grad


def test_a_function_with_a_gradient_of_its_own_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match=r"autograd\.Function"):
        limit(lambda s, x: s.b(s.a(Square.apply(x)))).nngp(X)


def test_kernels_in_threads_leave_random_numbers_alone() -> None:
    kernel = limit(lambda s, x: s.b(torch.relu(s.a(x.abs() + 1.0)))).ntk
    expected, failures, drawn = kernel(X), [], []

    def compute() -> None:
        for _ in range(10):
            try:
                assert torch.equal(kernel(X), expected)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        drawn.append(float(torch.rand((), dtype=torch.float64)))
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(drawn)) == len(drawn) > 100
