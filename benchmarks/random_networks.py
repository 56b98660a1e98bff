"""Random networks over all rules of certificates, trained and untrained."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.growth.domain import DomainChoice

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh, nn.Sigmoid,
    nn.CELU, nn.SELU, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.ReLU6, nn.Softsign,
    nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.LogSigmoid, nn.PReLU, nn.RReLU,
    lambda: nn.GELU("tanh"), lambda: nn.LeakyReLU(-0.3), lambda: nn.Threshold(0.3, -1.0),
    lambda: nn.Softplus(3.0, 4.0), lambda: nn.ELU(2.0), lambda: Apply(torch.abs),
    lambda: Apply(torch.sin), lambda: Apply(torch.erf), lambda: Apply(lambda u: u.relu() ** 2),
    lambda: Apply(lambda u: (-u * u).exp()), lambda: Apply(lambda u: u.clamp(-0.7, 2.0)),
    lambda: Apply(lambda u: u / (1.0 + u * u)), lambda: Apply(lambda u: u * u.sigmoid()),
    lambda: Apply(lambda u: (1.0 + u * u).sqrt()), lambda: Apply(lambda u: u**3 - u),
    lambda: Apply(lambda u: torch.where(u > 0.2, u, 0.1 * u - 1.0)),
)  # fmt: skip


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """``x + branch(x)``."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + 0.7 * self.branch(x)
        return result


class Gate(nn.Module):
    """``down(silu(gate(x)) * up(x))``, as in SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, width), nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return result


class Branches(nn.Module):
    """Parts of the units through different functions, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width - width // 3, width - width // 3)

    def forward(self, x: Tensor) -> Tensor:
        third = x.shape[-1] // 3
        first, rest = x[..., :third], x[..., third:]
        low, high = torch.minimum(rest, -rest), rest.flip(-1)
        mixed: Tensor = torch.cat([first.softmax(-1), self.inner(high) - 0.5 * low], -1)
        return mixed


class HandNorm(nn.Module):
    """RMSNorm as language models write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """Attention written by hand, over the positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.all = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.all(x).chunk(3, -1)
        weights = (query @ key.transpose(-2, -1) / math.sqrt(x.shape[-1])).softmax(-1)
        result: Tensor = self.head(weights @ value)
        return result


@dataclass(frozen=True)
class Case:
    """A network and what it is asked about."""

    name: str
    model: nn.Module
    shape: tuple[int, ...]
    domain: DomainChoice = None
    tokens: int = 0


def draw(seed: int, *, trained: bool) -> Case:
    """A random network; the same for the same seed."""
    chance = random.Random(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family = FAMILIES[seed % len(FAMILIES)]
        case = family(chance)
        _disturb(case.model, chance)
        if trained:
            _train(case)
        case.model.eval()
    return case


def _norm(chance: random.Random, width: int) -> nn.Module:
    eps = chance.choice([1e-5, 1e-5, 0.0, 1e-2, 10.0])
    makers: list[Callable[[], nn.Module]] = [
        lambda: nn.LayerNorm(width, eps=eps),
        lambda: nn.LayerNorm(width, elementwise_affine=False),
        lambda: nn.RMSNorm(width, eps=eps),
        lambda: HandNorm(width),
        lambda: nn.BatchNorm1d(width),
        lambda: nn.Identity(),
    ]
    return chance.choice(makers)()


def mlp(chance: random.Random) -> Case:
    """Linear, norm, activation; perhaps on a norm, perhaps with residual blocks or gates."""
    features, width = chance.randint(1, 8), chance.choice([6, 12, 24])
    layers: list[nn.Module] = []
    if chance.random() < 0.2 and features > 1:
        layers.append(nn.LayerNorm(features))
    now = features
    for _ in range(chance.randint(1, 3)):
        layers += [nn.Linear(now, width), _norm(chance, width), chance.choice(ACTIVATIONS)()]
        now = width
        if chance.random() < 0.3:
            inner = [nn.Linear(width, width), chance.choice(ACTIVATIONS)(), nn.Dropout(0.2)]
            if chance.random() < 0.5:
                inner.insert(0, nn.LayerNorm(width))
            layers.append(Residual(nn.Sequential(*inner)))
        if chance.random() < 0.2:
            layers.append(chance.choice([Gate, Branches])(width))
    if chance.random() < 0.3:
        layers.append(nn.LayerNorm(width))
    layers.append(nn.Linear(now, chance.randint(1, 3)))
    if chance.random() < 0.15:
        layers.append(chance.choice([nn.Softmax(-1), nn.LogSoftmax(-1), nn.Tanh()]))
    return Case("mlp", nn.Sequential(*layers), (features,), _domain(chance, features))


def _domain(chance: random.Random, features: int) -> DomainChoice:
    kind = chance.random()
    if kind < 0.6:
        return None
    if kind < 0.85:
        size = chance.choice([0.1, 1.0, 30.0])
        centre = torch.randn(features).double()
        return (centre - size, centre + size * torch.rand(features).double())
    return {0: (chance.uniform(-3.0, 0.0), chance.choice([1.0, math.inf]))}


def bounded_mlp(chance: random.Random) -> Case:
    """As :func:`mlp`, with a norm behind the first layer in any case."""
    case = mlp(chance)
    layers = list(case.model.children())
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    layer = layers[first]
    assert isinstance(layer, nn.Linear)
    norm = chance.choice([nn.LayerNorm, nn.RMSNorm])(layer.out_features)
    layers.insert(first + 1, norm)
    return Case("mlp with a norm", nn.Sequential(*layers), case.shape, case.domain)


def images(chance: random.Random) -> Case:
    """Convolutions, group and batch norms, poolings."""
    channels, size = chance.choice([1, 3]), 6
    pool = chance.choice(
        [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(3)]
    )
    norm = chance.choice(
        [nn.GroupNorm(2, 4), nn.GroupNorm(1, 4), nn.BatchNorm2d(4),
         nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, size, size])]
    )  # fmt: skip
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1, padding_mode=chance.choice(["zeros", "circular"])),
        norm, chance.choice(ACTIVATIONS[:15])(), nn.Dropout2d(0.1), pool,
        nn.Conv2d(4, 4, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    return Case("images", model, (channels, size, size))


def series(chance: random.Random) -> Case:
    """One-dimensional convolutions."""
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, stride=chance.choice([1, 2])),
        chance.choice([nn.GroupNorm(2, 4), nn.BatchNorm1d(4), nn.InstanceNorm1d(4)]),
        chance.choice(ACTIVATIONS[:15])(),
        nn.ConvTranspose1d(4, 3, 2),
        chance.choice([nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(1)]),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    return Case("series", model, (2, 8))


def transformer(chance: random.Random) -> Case:
    """Encoder layers with the norm before or behind, hand-written attention, a head."""
    width = 8
    layers: list[nn.Module] = [nn.Linear(3, width)]
    for _ in range(chance.randint(1, 2)):
        if chance.random() < 0.6:
            layers.append(
                nn.TransformerEncoderLayer(
                    width, 2, 12, batch_first=True, norm_first=chance.random() < 0.5,
                    activation=chance.choice(["relu", "gelu"]),
                )
            )  # fmt: skip
        else:
            layers.append(Residual(nn.Sequential(nn.LayerNorm(width), Attention(width))))
    if chance.random() < 0.6:
        layers.append(nn.LayerNorm(width))
    layers += [Apply(lambda u: u.mean(1)), nn.Linear(width, 2)]
    return Case("transformer", nn.Sequential(*layers), (3, 3))


def tokens(chance: random.Random) -> Case:
    """A table of tokens in front."""
    rest: list[nn.Module] = [nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)]
    if chance.random() < 0.5:
        rest = [nn.Flatten(), nn.Linear(18, 12), nn.GELU(), nn.Linear(12, 6)]
    model = nn.Sequential(nn.Embedding(7, 6), *rest, nn.Linear(6, 1))
    return Case("tokens", model, (3,), tokens=7)


def plain_norms(chance: random.Random) -> Case:
    """Two hidden layers, LayerNorm at the first, the last or every one: ReLU or its kin."""
    features, width = chance.randint(1, 12), chance.choice([8, 16, 32])
    activation = chance.choice([nn.ReLU, nn.ReLU, nn.GELU, nn.LeakyReLU])
    place = chance.choice(["first", "last", "every"])
    first = [nn.LayerNorm(width)] if place != "last" else []
    last = [nn.LayerNorm(width)] if place != "first" else []
    model = nn.Sequential(
        nn.Linear(features, width), *first, activation(), nn.Linear(width, width), *last,
        activation(), nn.Linear(width, 1),
    )  # fmt: skip
    return Case("two hidden layers", model, (features,))


FAMILIES: tuple[Callable[[random.Random], Case], ...] = (
    mlp, bounded_mlp, images, bounded_mlp, series, transformer, mlp, tokens, bounded_mlp,
    plain_norms,
)  # fmt: skip


def _disturb(model: nn.Module, chance: random.Random) -> None:
    """Weights of another scale; gains, biases and running statistics away from their start."""
    scale = chance.choice([0.3, 1.0, 1.0, 3.0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(scale)
        for name, buffer in model.named_buffers():
            if "running_mean" in name:
                buffer.normal_()
            elif "running_var" in name:
                buffer.uniform_(0.2, 3.0)


def _train(case: Case) -> None:
    """A hundred steps of Adam towards a wavy target."""
    if case.tokens:
        x: Tensor = torch.randint(case.tokens, (64, *case.shape))
        y = torch.sin(x.double().sum(1, keepdim=True)).float()
    else:
        x = 2.0 * torch.randn(64, *case.shape)
        y = torch.sin(2.0 * x.flatten(1).sum(1, keepdim=True))
    optimiser = torch.optim.Adam(case.model.parameters(), lr=0.01)
    case.model.train()
    for _ in range(100):
        optimiser.zero_grad()
        loss = (case.model(x).flatten(1) - y).clamp(-10, 10).square().mean()
        if not bool(loss.isfinite()):
            break
        loss.backward()
        nn.utils.clip_grad_norm_(case.model.parameters(), 1.0, error_if_nonfinite=False)
        before = [parameter.detach().clone() for parameter in case.model.parameters()]
        optimiser.step()
        if not all(bool(p.isfinite().all()) for p in case.model.parameters()):
            with torch.no_grad():
                for parameter, old in zip(case.model.parameters(), before, strict=True):
                    parameter.copy_(old)
            break
