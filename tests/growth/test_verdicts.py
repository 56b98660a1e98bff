"""The right verdict, degree and reason for each kind of network."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.growth import Effort, certify_model

QUICK = Effort(rays=16, starts=8, steps=20, cells=200, descent=0)


class Block(nn.Module):
    def __init__(self, width: int, norm: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h):
        return h + 0.5 * self.down(F.gelu(self.up(self.norm(h))))


class Squared(nn.Module):
    def forward(self, x):
        return torch.relu(x) ** 2


class Encoder(nn.Module):
    def __init__(self, final: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, dropout=0.1)
        self.embed = nn.Linear(5, 8)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.final = nn.LayerNorm(8) if final else nn.Identity()
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.final(self.encoder(self.embed(x))).mean(1))


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.backbone.requires_grad_(False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 1)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(self.norm(features))


class Cancels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        h = self.layer(x)
        return h - 1.0 * h


def mlp(*hidden: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), *hidden, nn.Linear(16, 1))


CASES = {
    "MLP without a norm": (
        lambda: mlp(nn.ReLU(), nn.Linear(16, 16), nn.ReLU()), (4,), False, 1.0,
        "Nothing on the way Linear '0' -> ReLU '1' -> Linear '2' -> ReLU '3' -> Linear '4'",
    ),
    "LayerNorm first": (
        lambda: mlp(nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()), (4,), True, 0.0,
        "LayerNorm '1' bounds everything after it.",
    ),
    "LayerNorm last": (
        lambda: mlp(nn.ReLU(), nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU()), (4,), True, 0.0,
        "LayerNorm '3' bounds everything after it.",
    ),
    "LayerNorm on the input": (
        lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 1)), (4,), True, 0.0, "LayerNorm '0'",
    ),
    "BatchNorm in eval mode": (
        lambda: mlp(nn.BatchNorm1d(16), nn.ReLU()), (4,), False, 1.0,
        "BatchNorm1d '1' is a fixed affine map in eval mode and bounds nothing.",
    ),
    "RMSNorm": (lambda: mlp(nn.RMSNorm(16), nn.ReLU()), (4,), True, 0.0, "RMSNorm '1'"),
    "tanh": (
        lambda: mlp(nn.Tanh(), nn.Linear(16, 16), nn.ReLU()), (4,), True, 0.0, "Tanh '1' bounds",
    ),
    "sigmoid": (
        lambda: mlp(nn.ReLU(), nn.Linear(16, 16), nn.Sigmoid()), (4,), True, 0.0,
        "Sigmoid '3' bounds",
    ),
    "softmax": (lambda: mlp(nn.Softmax(-1)), (4,), True, 0.0, "Softmax '1' bounds"),
    "LayerNorm inside a residual branch only": (
        lambda: mlp(nn.ReLU(), Block(16)), (4,), False, 1.0,
        "The skip connection around '2.norm' to '2.down' carries the input past every norm.",
    ),
    "the same with a norm behind": (
        lambda: mlp(nn.ReLU(), Block(16), nn.LayerNorm(16)), (4,), True, 0.0, "LayerNorm '3'",
    ),
    "residual without any norm": (
        lambda: mlp(nn.ReLU(), Block(16, norm=False)), (4,), False, 1.0,
        "carries the input past the layers inside it.",
    ),
    "pre-norm transformer": (
        lambda: Encoder(final=False), (3, 5), False, 1.0, "carry the input past every norm.",
    ),
    "pre-norm transformer with a final norm": (
        lambda: Encoder(final=True), (3, 5), True, 0.0, "LayerNorm 'final' bounds",
    ),
    "post-norm transformer layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (3, 8), True, 0.0,
        "LayerNorm 'norm1' bounds",
    ),
    "ReLU squared": (lambda: mlp(Squared()), (4,), False, 2.0, "Nothing on the way"),
    "ReLU squared twice": (
        lambda: mlp(Squared(), nn.Linear(16, 16), Squared()), (4,), False, 4.0, "Nothing",
    ),
    "gated": (lambda: nn.Sequential(nn.Linear(4, 8), nn.GLU()), (4,), False, 1.0, "Nothing"),
    "LayerNorm with eps = 0": (
        lambda: mlp(nn.LayerNorm(16, eps=0.0), nn.ReLU()), (4,), True, 0.0, "LayerNorm '1'",
    ),
    "LayerNorm with a huge eps": (
        lambda: mlp(nn.LayerNorm(16, eps=1e6), nn.ReLU()), (4,), True, 0.0, "LayerNorm '1'",
    ),
    "frozen backbone with a head": (Frozen, (4,), True, 0.0, "LayerNorm 'norm' bounds"),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(),
                              nn.Linear(36, 1)),
        (1, 5, 5), True, 0.0, "GroupNorm '1'",
    ),
    "convolutions with BatchNorm": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
                              nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 1)),
        (2, 7), False, 1.0, "BatchNorm1d '1' is a fixed affine map",
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 1)), (3,), True,
        0.0, "Embedding '0' bounds",
    ),
    "terms that cancel": (Cancels, (3,), None, 1.0, "no growth was found on rays to 1e12"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_verdict_degree_and_reason(case: str) -> None:
    make, shape, bounded, degree, reason = CASES[case]
    torch.manual_seed(0)
    cert = certify_model(make().eval(), shape, effort=QUICK)
    assert cert.bounded is bounded
    assert reason in cert.reason
    assert cert.growth.degree == degree
    assert math.isfinite(cert.bound.largest) is (bounded is True)
    found = cert.growth.found
    if bounded is False:
        assert found.degree == pytest.approx(degree, abs=1e-3)
        assert cert.growth.is_attained
        assert cert.growth.path
    else:
        assert found is None
    flat = cert.bound.lower.flatten(), cert.bound.upper.flatten()
    assert (cert.worst_found.lower >= flat[0]).all()
    assert (cert.worst_found.upper <= flat[1]).all()


@pytest.mark.parametrize("activation", ["relu", "gelu", "leaky_relu"])
def test_the_slope_is_the_network_without_biases(activation: str) -> None:
    torch.manual_seed(1)
    model = ff.gaussian_init_(ff.mlp(3, [16, 16], 2, activation=activation)).double()
    growth = certify_model(model, effort=QUICK).growth
    assert growth.degree == growth.found.degree == 1.0
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.bias.zero_()
        # GELU is a ReLU far away: an input of 1e9 makes it one to all digits.
        bare = model(1e9 * growth.found.ray[None])[0, growth.found.output] / 1e9
    assert growth.slope == pytest.approx(bare.item(), rel=1e-8)


def test_faster_than_any_power() -> None:
    class Exponential(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x).exp()

    torch.manual_seed(0)
    cert = certify_model(Exponential(), effort=QUICK)
    assert cert.bounded is False
    assert cert.growth.degree == math.inf
    assert cert.verdict == "grows faster than any power"


def test_a_norm_written_by_hand() -> None:
    class HandNorm(nn.Module):
        def forward(self, x):
            x = x - x.mean(-1, keepdim=True)
            return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    torch.manual_seed(0)
    model = mlp(HandNorm(), nn.ReLU())
    own = mlp(nn.LayerNorm(16, eps=1e-6, elementwise_affine=False), nn.ReLU())
    own.load_state_dict(model.state_dict())
    cert, reference = (certify_model(m, effort=QUICK) for m in (model, own))
    assert cert.bounded
    assert "RMSNorm in HandNorm '1'" in cert.reason
    assert reference.bound.largest == pytest.approx(cert.bound.largest, rel=0.05)


def test_notes_tell_of_a_division_by_zero() -> None:
    model = mlp(nn.LayerNorm(16, eps=0.0), nn.ReLU())
    (note,) = certify_model(model, effort=QUICK).notes
    assert "divides 0 by 0 where its inputs are all equal" in note


def test_what_the_certificate_prints() -> None:
    torch.manual_seed(0)
    text = str(certify_model(mlp(nn.LayerNorm(16), nn.ReLU()), effort=QUICK))
    for part in ("Bounded, for every input of R^4.", "LayerNorm '1' bounds", "Proven: no output",
                 "bound / found = "):  # fmt: skip
        assert part in text
    text = str(certify_model(mlp(nn.ReLU()), effort=QUICK))
    for part in ("Grows, degree 1", "no output grows faster than |x|^1", "steepest ray output 0"):
        assert part in text


def own(function, *tensors):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.numbers = nn.ParameterList([nn.Parameter(tensor) for tensor in tensors])

        def forward(self, x):
            return function(x, *self.numbers)

    return Own()


def test_what_rounding_leaves_is_no_growth() -> None:
    # The same sum in two orders: 0 but for rounding, which grows like the terms.
    torch.manual_seed(0)
    weights = torch.randn(40, 3, dtype=torch.float64), torch.randn(1, 40, dtype=torch.float64)

    def cancels(x, first, last, size=0.0):
        h = torch.relu(x @ first.T)
        return h @ last.T - h.flip(1) @ last.flip(1).T + size * x[:, :1]

    x = torch.randn(10, 3, dtype=torch.float64)
    assert cancels(1e12 * x, *weights).abs().max() > 100 * cancels(1e9 * x, *weights).abs().max()
    assert certify_model(own(cancels, *weights), (3,), effort=QUICK).bounded is None
    grows = own(lambda x, a, b: cancels(x, a, b, 1e-6), *weights)
    assert certify_model(grows, (3,), effort=QUICK).bounded is False


@pytest.mark.parametrize("power", [9, 27, 40])
def test_degrees_that_float64_does_not_hold_at_the_end(power: int) -> None:
    cert = certify_model(own(lambda x: x.tanh() + x**power), (2,), effort=QUICK)
    assert cert.growth.degree == power
    assert cert.growth.found.degree == pytest.approx(power, rel=1e-6)


def test_an_overflow_of_a_step_is_no_growth() -> None:
    for function in (
        lambda x: torch.log(1 + torch.exp(x)) - torch.relu(x),
        lambda x: (1 + x**40).pow(1 / 80) / (1 + x * x),
    ):
        assert certify_model(own(function), (2,), effort=QUICK).bounded is None


def test_no_degree_is_found_that_is_above_the_proven_one() -> None:
    growth = certify_model(own(lambda x: x * torch.sin(x)), (2,), effort=QUICK).growth
    assert growth.found.degree <= growth.degree == 1.0


def test_the_ray_starts_inside_the_domain() -> None:
    # It grows with the second number where the first one is below 5, outside of the domain.
    def gate(x):
        return torch.where(x[:, :1] < 5, x[:, 1:], x[:, :1].tanh())

    domain = {0: (5.0, math.inf)}
    assert certify_model(own(gate), (2,), domain, QUICK).bounded is None
