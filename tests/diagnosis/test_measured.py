"""What is measured, against naive computations."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import farfield as ff
from farfield.diagnosis import Draws, against, flow, spread
from farfield.errors import RangeError, SettingsError

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def nothing(done: int) -> None:
    """Progress that nobody looks at."""


class Branching(nn.Module):
    """Control flow on values, which no batch of networks can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        y = self.linear(x)
        return y * 2 if float(y.detach().sum()) < 1e9 else y


MODELS = {
    "mlp": lambda: ff.mlp(3, [6, 4], 2, norm="layer"),
    "shared": lambda: nn.Sequential(*[nn.Linear(3, 3), nn.Tanh()] * 2),
    "branching": Branching,
    "in place": lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)),
}


def naive(network: nn.Module, x: torch.Tensor) -> float:
    """T(x, x), the mean over outputs, by autograd."""
    outputs = network(x[None])[0]
    sizes = []
    for output in outputs:
        gradients = torch.autograd.grad(output, list(network.parameters()), retain_graph=True)
        sizes.append(sum(float(g.square().sum()) for g in gradients))
    return sum(sizes) / len(sizes)


@pytest.mark.parametrize("name", MODELS)
def test_kernels_of_draws_are_squared_gradients(name, monkeypatch) -> None:
    draws = Draws(MODELS[name]().double(), 0)
    found = spread.kernels(draws, X[:2], 2, 5, nothing)
    expected = [[naive(draws.network(k), x) for x in X[:2]] for k in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    monkeypatch.setattr(spread, "_NUMBERS_AT_ONCE", 2 * draws.size * 2 * 2)  # two at once
    np.testing.assert_allclose(spread.kernels(draws, X[:2], 2, 5, nothing), found, rtol=1e-12)
    monkeypatch.setattr(spread, "_NUMBERS_AT_ONCE", 1)  # one by one, another way
    np.testing.assert_allclose(spread.kernels(draws, X[:2], 2, 5, nothing), found, rtol=1e-10)


def test_the_dispersion_is_that_of_the_values() -> None:
    values = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    found = spread.dispersion(values, None, "no reason", 0)
    assert found.value == pytest.approx((4.5 / 4 + 1.0) / 2)
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.median_log == pytest.approx(math.log(2.0))
    assert found.draws == 4
    assert found.dead == 0


def test_heavy_tails_are_told_from_light_ones() -> None:
    generator = np.random.default_rng(0)
    light = spread.dispersion(np.exp(0.2 * generator.standard_normal((200, 1))), None, "", 0)
    assert not light.heavy_tailed
    # E[T^2] / E[T]^2 of exp(s z) is exp(s^2), and log T has the quartiles -+0.674 s.
    assert light.interval[0] < math.exp(0.04) < light.interval[1]
    assert light.spread_log == pytest.approx(2 * 0.6745 * 0.2, rel=0.3)
    heavy = spread.dispersion(np.exp(2.0 * generator.standard_normal((200, 1))), None, "", 0)
    assert heavy.heavy_tailed
    assert heavy.largest_share > light.largest_share
    assert heavy.kurtosis > 10.0 > light.kurtosis


def test_a_kernel_that_never_varies_has_dispersion_one() -> None:
    found = spread.dispersion(np.full((7, 2), 3.0), None, "", 0)
    assert (found.value, found.kurtosis) == (1.0, 0.0)
    assert found.interval == pytest.approx((1.0, 1.0), rel=1e-12)
    dead = spread.dispersion(np.array([[0.0], [1.0]]), None, "", 0)
    assert (dead.value, dead.dead, dead.median_log) == (2.0, 1, 0.0)


def test_kernels_that_overflow_or_vanish_are_refused() -> None:
    model = ff.gaussian_init_(ff.mlp(3, [4], 1), 2.0, 0.0)
    with pytest.raises(RangeError, match=r"not finite in torch\.float32"):
        spread.kernels(Draws(model, 0), torch.full((1, 3), 1e30), 1, 3, nothing)
    without = ff.gaussian_init_(ff.mlp(3, [4], 1, bias=False), 2.0)
    with pytest.raises(RangeError, match="every draw is zero"):
        spread.kernels(Draws(without, 0), torch.zeros(1, 3), 1, 3, nothing)


def test_the_prediction_is_the_exact_one_of_the_network() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.1)), nn.Linear(6, 2))
    ff.gaussian_init_(model, {"0.0": 1.5, "1": 0.7}, 0.2)
    value, why_not = spread.predicted(model, X[:1])
    expected = ff.theory.ntk_moments(
        [3, 6, 2], [1.5, 0.7], [0.2, 0.2], negative_slope=0.1, input_norm=float(X[0].norm())
    )
    assert (value, why_not) == (pytest.approx(expected.dispersion, rel=1e-12), None)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ff.mlp(3, [4], 1), "not drawn by gaussian_init_"),
        (ff.gaussian_init_(ff.mlp(3, [4], 1, norm="layer")), "plain sequences"),
        (ff.gaussian_init_(ff.mlp(3, [4], 1, activation="tanh")), "plain sequences"),
        (ff.gaussian_init_(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))), "plain sequences"),
        (ff.gaussian_init_(ff.mlp(3, [4], 1), {"0": 0.0}), "weight_var is 0"),
        (
            ff.gaussian_init_(
                nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))
            ),
            "biases in all of them or none",
        ),
    ],
)
def test_no_prediction_says_why(model, said) -> None:
    value, why_not = spread.predicted(model, X[:1])
    assert value is None
    assert said in why_not


def test_gradients_are_those_of_the_biases() -> None:
    # The gradient with respect to what a linear layer puts out is that of its bias.
    draws = Draws(ff.gaussian_init_(ff.mlp(3, [6, 5, 4], 1).double(), 2.0, 0.1), 3)
    shape, found = flow.gradients(draws, X[:1], 2, nothing)
    expected = torch.zeros(4, dtype=torch.float64)
    for number in range(2):
        network = draws.network(number)
        biases = [module.bias for module in network if isinstance(module, nn.Linear)]
        gradients = torch.autograd.grad(network(X[:1]).sum(), biases)
        expected += torch.stack([g.square().sum() for g in gradients]) / 2
    assert found.sizes == pytest.approx(expected.tolist(), rel=1e-10)
    assert shape.layers == ("0", "2", "4", "6")
    assert shape.depth_to_width == pytest.approx(1 / 6 + 1 / 5 + 1 / 4)


@pytest.mark.parametrize(
    ("weight_var", "phase"), [(2.0, "critical"), (1.2, "vanishing"), (3.0, "exploding")]
)
def test_phases_of_relu_networks(weight_var, phase) -> None:
    model = ff.gaussian_init_(ff.mlp(3, [100] * 12, 1), weight_var, 0.0)
    _, found = flow.gradients(Draws(model, 0), X.float(), 8, nothing)
    assert found.phase == phase
    # chi = weight_var / 2; the interval is of 8 networks with variances of order 1 / width.
    assert found.slope == pytest.approx(math.log(weight_var / 2), abs=0.1)
    assert found.interval[0] < found.slope < found.interval[1]


def test_two_layers_have_no_phase() -> None:
    _, found = flow.gradients(Draws(ff.mlp(3, [4], 1).double(), 0), X, 2, nothing)
    assert found.phase == "too shallow"


def test_wide_networks_agree_with_the_limit() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    model = ff.gaussian_init_(ff.mlp(3, [2000], 1), 2.0, 0.1)
    found = against.agreement(Draws(model, 0), x, 2, nothing)
    assert found.correlation > 0.99
    exact = ff.infinite_width(model, parameterization="standard").ntk(x.double())
    rows, columns = torch.triu_indices(8, 8, 1)
    assert found.infinite == pytest.approx(exact[rows, columns].tolist())
    # A finite kernel of this width is off by about 1 / sqrt(2000) of its size.
    scale = max(found.infinite)
    assert found.finite == pytest.approx(found.infinite, abs=0.2 * scale)


def test_no_agreement_says_why() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 1)).double()
    assert "softmax has no rule" in against.agreement(Draws(model, 0), X, 2, nothing).why_not
    assert "at least 3" in against.agreement(Draws(model, 0), X[:2], 2, nothing).why_not
    same = against.agreement(Draws(ff.mlp(3, [4], 1).double(), 0), X[:1].expand(4, 3), 2, nothing)
    assert same.correlation is None


def test_training_is_a_plain_loop() -> None:
    draws = Draws(ff.gaussian_init_(ff.mlp(3, [8], 1).double(), 2.0, 0.1), 0)
    y = X.sum(1, keepdim=True)
    found = against.train(draws.network(0), X, y, X[:3], 10, 0.01, nothing)
    network = draws.network(0)
    before = ff.empirical_ntk(network)(X[:3]).detach()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        loss = (network(X) - y).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = ff.empirical_ntk(network)(X[:3]).detach()
    assert found.loss_before == pytest.approx(losses[0])
    assert found.loss_after < losses[-1]
    assert found.change == pytest.approx(float((after - before).norm() / before.norm()))
    cosine = float((after * before).sum() / after.norm() / before.norm())
    assert found.distance == pytest.approx(1 - cosine, rel=1e-6)


def test_targets() -> None:
    classes = against.targets_of(torch.tensor([0, 2, 1]), 3, 3)
    assert torch.equal(classes, torch.eye(3, dtype=torch.int64)[[0, 2, 1]])
    assert against.targets_of(torch.ones(4), 1, 4).shape == (4, 1)
    for y, outputs, said in [
        (torch.ones(3), 1, "3 targets for 4"),
        (torch.tensor([0, 1, 2, 5]), 3, "from 0 to 5"),
        (torch.ones(4, 2), 3, "3 outputs"),
        (torch.full((4,), math.nan), 1, "NaN"),
    ]:
        with pytest.raises(SettingsError, match=said):
            against.targets_of(y, outputs, 4)


def test_a_channel_has_one_gradient_for_all_its_places() -> None:
    # That of its bias; as sums over places, an average over 36 of them would look like vanishing.
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(3, 4, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    draws = Draws(model.double(), 0)
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    shape, found = flow.gradients(draws, x, 1, nothing)
    network = draws.network(0)
    signs = torch.randint(2, (2,), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    biases = [network[0].bias, network[2].bias, network[6].bias]
    expected = torch.autograd.grad(network(x)[0] @ signs.double(), biases)
    assert found.sizes == pytest.approx([float(g.square().sum()) for g in expected], rel=1e-10)
    assert shape.hidden == (3, 4)


def test_gradients_that_are_lost_have_vanished() -> None:
    # 120 layers with a factor of 0.1 each: 1e-120, far below the smallest number of float32.
    model = ff.gaussian_init_(ff.mlp(3, [32] * 120, 1), 0.2, 0.1)
    _, found = flow.gradients(Draws(model, 0), X.float(), 2, nothing)
    assert found.phase == "vanishing"
    assert found.sizes[0] == 0.0
    assert found.slope == pytest.approx(math.log(0.1), abs=0.3)  # of 2 networks
    dead = ff.gaussian_init_(ff.mlp(3, [4, 4], 1).double(), 0.0, 0.0)
    _, found = flow.gradients(Draws(dead, 0), X, 2, nothing)
    assert (found.phase, found.slope) == ("vanishing", -math.inf)


class Heads(nn.Module):
    """Two outputs, and one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.value, self.policy = nn.Linear(3, 8), nn.Linear(8, 1), nn.Linear(8, 2)

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        return {"value": self.value(hidden)[:, 0], "policy": self.policy(hidden)}


def test_outputs_of_several_heads_stand_side_by_side() -> None:
    draws = Draws(Heads().double(), 0)
    shape, _ = flow.gradients(draws, X, 1, nothing)
    assert shape.hidden == (8,)
    network, y = draws.network(0), torch.ones(5, 3, dtype=torch.float64)
    expected = torch.cat([network(X)["value"][:, None], network(X)["policy"]], 1)
    assert against.loss_of(network, X, y).item() == pytest.approx(
        (expected - y).square().mean().item(), rel=1e-12
    )
    assert against.train(network, X, y, X[:2], 2, 0.01, nothing).change > 0


def test_a_kernel_that_dies_in_training_has_changed_by_all_of_it() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(0.01)
        model[2].weight.fill_(1.0)
    x = torch.ones(2, 1)
    found = against.train(model, x, -10 * torch.ones(2, 1), x, 3, 0.1, nothing)
    assert (found.change, found.distance) == (1.0, 1.0)


def test_small_samples_are_not_called_heavy_tailed() -> None:
    # The largest of 20 draws of an even law has more than a tenth of the sum of squares.
    light = spread.dispersion(np.linspace(1.0, 2.0, 20)[:, None], None, "", 0)
    assert light.largest_share < 0.1 < 3 * light.largest_share
    uneven = np.append(np.ones(19), 2.0)[:, None]
    assert spread.dispersion(uneven, None, "", 0).largest_share > 0.1
    assert not spread.dispersion(uneven, None, "", 0).heavy_tailed
