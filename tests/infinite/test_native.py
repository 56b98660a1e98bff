"""The compiled library gives what PyTorch gives, and is left out where it cannot."""

import math

import pytest
import torch
from networks import Elementwise, Residual, stack
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.infinite import kernel as kernel_module
from farfield.infinite.native import library


class Sums(nn.Module):
    """Sums of pre-activations, with and without obtuse angles and known cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (
            nn.Linear(width, 4) for width in (3, 4, 4, 4)
        )
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        h = h + self.second(F.relu(h))
        h = h + self.third(F.leaky_relu(self.norm(h), 0.3))
        return self.last(h)


class Fork(nn.Module):
    """Units behind an activation that go into two maps, as in a block with a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)
        self.up, self.down, self.side = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.first(x))
        return self.last(F.relu(self.down(F.relu(self.up(h))) + self.side(h)))


class ForkOfOneRange(nn.Module):
    """The same units, taken twice as a range: two laws with one and the same function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(4, 1)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.first(x))
        return self.last(self.one(h[:, :4]) + self.two(h[:, :4]))


NETWORKS = {
    "relu": lambda: stack(3, nn.ReLU),
    "leaky": lambda: stack(3, lambda: nn.LeakyReLU(0.4)),
    "nearly linear": lambda: stack(2, lambda: nn.LeakyReLU(0.7)),
    "folding": lambda: stack(3, lambda: nn.LeakyReLU(-0.5)),
    "abs": lambda: stack(3, lambda: Elementwise(torch.abs)),
    "linear": lambda: stack(2, nn.Identity),
    "norm before": lambda: stack(3, nn.ReLU, "before"),
    "norm before leaky": lambda: stack(3, lambda: nn.LeakyReLU(0.4), "before"),
    "norm after": lambda: stack(3, nn.ReLU, "after"),
    "norm after leaky": lambda: stack(2, lambda: nn.LeakyReLU(0.4), "after"),
    "sums": Sums,
    "fork": Fork,
    "fork of one range": ForkOfOneRange,
    "frozen": lambda: stack(2, nn.ReLU).requires_grad_(False),
}
needs_compiler = pytest.mark.skipif(library.load() is None, reason="there is no C compiler")


@pytest.fixture
def x() -> torch.Tensor:
    """Generic, antipodal, zero, almost equal, almost antipodal, huge and tiny inputs."""
    x = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    near = [x[:4] * (1 + 1e-7), x[:4] + 1e-7 * x[4:8], -x[:3] + 1e-6 * x[8:11]]
    return torch.cat([x, -x[:5], 0 * x[:2], *near, x[:3] * 1e30, x[:3] * 1e-30])


@needs_compiler
@pytest.mark.parametrize("bias_var", [0.0, 0.1])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_pytorch(name, bias_var, x, monkeypatch) -> None:
    limit = ff.infinite_width(NETWORKS[name](), weight_var=2.0, bias_var=bias_var)
    y = torch.cat([torch.flip(x[:40], [0]), x[60:65]])
    found = {}
    for pairs in (0, math.inf):
        monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", pairs)
        tiles = limit._tiles(x, y, ["ntk"])
        assert (tiles.write is not None) == (pairs == 0)
        found[pairs] = [*limit(x, y), *limit(x), limit.ntk(x[:1]), limit.nngp(x.float())]
    roots = [r.sqrt().outer(s.sqrt()) for r, s in zip(limit.diagonal(x), limit.diagonal(y))]  # noqa: B905
    for number, (one, two) in enumerate(zip(found[0], found[math.inf], strict=True)):
        if number < 2:  # a cosine near 0 keeps its digits relative to 1 only
            assert ((one - two).abs() <= 1e-14 * roots[number] + 1e-13 * two.abs()).all()
        if number < 4 and name in ("relu", "norm before", "abs", "folding"):
            assert ((one - two).abs() <= 1e-14 * two.abs()).all()
        if number in (2, 3):
            assert torch.equal(one, one.T)
    torch.testing.assert_close(found[0][5], found[math.inf][5], rtol=1e-6, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("side", [1, 7, 64])
def test_any_tiles_and_places(side, x, monkeypatch) -> None:
    monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", 0)
    limit = ff.infinite_width(stack(2, nn.ReLU), weight_var=2.0, bias_var=0.1)
    x = x if side > 1 else x[:45]  # two blocks are enough where each entry is a tile
    whole = limit.ntk(x)
    monkeypatch.setattr("farfield.infinite.native.fused.Fused.longest_side", side)
    monkeypatch.setattr("farfield.kernel._LONGEST_BLOCK", 40)
    # The products of unit vectors may be added in another order.
    torch.testing.assert_close(limit.ntk(x), whole, rtol=1e-13, atol=0)
    large = torch.full((len(x), 200), -1.0, dtype=torch.float64)
    strided = large[:, 3 : 3 + len(x)]
    assert limit.ntk(x, out=strided) is strided
    torch.testing.assert_close(strided, whole, rtol=1e-13, atol=0)
    assert (large[:, :3] == -1).all()
    assert (large[:, 3 + len(x) :] == -1).all()
    columns = torch.empty(len(x), len(x), dtype=torch.float64).T
    torch.testing.assert_close(limit.ntk(x, out=columns), whole, rtol=1e-13, atol=0)


@needs_compiler
@pytest.mark.parametrize("side", [300, 512])
def test_tiles_of_several_strips_and_groups(side, monkeypatch) -> None:
    # 256 columns go through the steps together, and 64 rows are written together.
    monkeypatch.setattr("farfield.infinite.native.fused.Fused.longest_side", side)
    x, y = torch.randn(2, 601, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    limit = ff.infinite_width(stack(2, nn.ReLU), weight_var=2.0, bias_var=0.1)
    y = torch.cat([y, x[:100]])
    found = {}
    for pairs in (0, math.inf):
        monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", pairs)
        found[pairs] = [limit.ntk(x), limit.nngp(y), limit.ntk(x, y)]
    for one, two in zip(found[0], found[math.inf], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-13, atol=0)
    assert all(torch.equal(one, one.T) for one in found[0][:2])


@pytest.mark.parametrize(
    ("reason", "model", "prepare"),
    [
        ("another activation", lambda: stack(1, nn.GELU), lambda x: x),
        ("several positions", Residual, lambda x: x[:, None]),
        ("gradients", lambda: stack(1, nn.ReLU), lambda x: x.requires_grad_()),
    ],
)
def test_left_to_pytorch(reason, model, prepare, x, monkeypatch) -> None:
    monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", 0)
    limit = ff.infinite_width(model(), weight_var=2.0, bias_var=0.1)
    x = prepare(x[:4])
    assert limit._tiles(x, x, ["ntk"]).write is None
    assert limit.ntk(x).isfinite().all()


def test_without_a_compiler(monkeypatch) -> None:
    for change in (
        lambda: monkeypatch.setenv(library.SWITCH, "0"),
        lambda: monkeypatch.setattr(library, "_COMPILERS", ("no-such-compiler",)),
        lambda: monkeypatch.setattr(library, "_FLAGS", ["--no-such-flag"]),
    ):
        library.load.cache_clear()
        change()
        assert library.load() is None
        monkeypatch.undo()
    library.load.cache_clear()


def test_polynomials_of_the_angle() -> None:
    mp = pytest.importorskip("mpmath")
    half = len(library.coefficients()) // 2
    points = [*torch.linspace(1e-9, 0.5, 50).tolist(), *(10.0**-k for k in range(2, 30))]
    with mp.workdps(150):
        for x in points:
            t = 2 * mp.asin(mp.sqrt(mp.mpf(x)))
            y, sine = 4 * x - 1, mp.sin(t)
            bend = (sine - t * mp.cos(t)) / (mp.mpf(x) * sine)
            for number, exact in enumerate([t / sine, bend]):
                terms = library.coefficients()[number * half : (number + 1) * half]
                value = 0.0
                for term in terms[::-1]:
                    value = value * y + float(term)
                # About 20 roundings, each 1e-16.
                assert abs(value / exact - 1) <= 2e-15


@pytest.mark.parametrize("pairs", [0, math.inf])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_in_several_threads(mode, pairs, x, monkeypatch) -> None:
    limit = ff.infinite_width(stack(2, nn.ReLU), weight_var=2.0, bias_var=0.1)
    whole = limit.ntk(x)
    monkeypatch.setattr(kernel_module, "_WORTH_COMPILING", pairs)
    monkeypatch.setattr("farfield.kernel._LONGEST_SIDE", 16)
    monkeypatch.setattr("farfield.infinite.native.fused.Fused.longest_side", 16)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with mode():
            value = limit.ntk(x.requires_grad_())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not value.requires_grad
    torch.testing.assert_close(value.clone(), whole, rtol=1e-13, atol=0)
