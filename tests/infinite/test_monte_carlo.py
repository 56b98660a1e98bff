"""The limit of every kind of layer against finite networks, drawn at random."""

from collections.abc import Callable

import pytest
import torch
from networks import Elementwise, Postnorm, Residual, stack
from scipy import stats
from torch import nn

import farfield as ff

WIDTH, OUTPUTS, DRAWS = 256, 16, 20
X = torch.tensor([[0.7, -1.3, 0.4], [-0.2, 0.9, 1.1], [0.0, 0.3, -0.1]], dtype=torch.float64)
WEIGHT_VAR, BIAS_VAR = 1.5, 0.2


class RmsAfter(nn.Sequential):
    def __init__(self, width: int) -> None:
        layers = [nn.Linear(3, width), nn.ReLU(), nn.RMSNorm(width), nn.Linear(width, 1)]
        super().__init__(*layers)


def norm_on_the_input(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(3, elementwise_affine=False), stack(1, nn.ReLU, width=width))


def half_frozen(width: int) -> nn.Module:
    model = stack(2, nn.ReLU, width=width)
    model[2].requires_grad_(False)
    return model


def of(function: Callable[[torch.Tensor], torch.Tensor], norm: str | None = None):
    return lambda width: stack(2, lambda: Elementwise(function), norm, width=width)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "relu": of(torch.relu),
    "leaky relu": lambda width: stack(2, lambda: nn.LeakyReLU(0.3), width=width),
    "abs": of(torch.abs),
    "sign": of(torch.sign),
    "erf": of(torch.erf),
    "gelu": of(nn.functional.gelu),
    "sin": of(torch.sin),
    "cos": of(torch.cos),
    "tanh": of(torch.tanh),
    "identity": lambda width: stack(2, nn.Identity, width=width),
    "norm before relu": of(torch.relu, "before"),
    "norm before cos": of(torch.cos, "before"),
    "norm before gelu": of(nn.functional.gelu, "before"),
    "norm after relu": of(torch.relu, "after"),
    "norm after gelu": of(nn.functional.gelu, "after"),
    "rms after relu": RmsAfter,
    "norm on the input": norm_on_the_input,
    "residual sums, gate, concatenation": lambda width: Residual(width=width),
    "norms after sums": lambda width: Postnorm(width=width),
    "frozen layer": half_frozen,
}
# Every z-score below this, with probability 0.999 when all are right: Student's t for the number
# of draws, and Bonferroni's correction for two kernels of six different entries each.
HIGHEST = float(stats.t.ppf(1 - 0.5e-3 / (len(NETWORKS) * 2 * 6), DRAWS - 1))


def with_outputs(model: nn.Module) -> nn.Module:
    """Many outputs make the means of each draw sharper."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and child.out_features == 1:
                setattr(module, name, nn.Linear(child.in_features, OUTPUTS))
    return model.double().eval()


def score(model: nn.Module, exact: ff.infinite_width, allowance: float) -> float:
    """The largest |mean - limit| in standard errors, beyond an allowance relative to the roots."""
    seed = torch.Generator().manual_seed(11)
    options = {"weight_var": WEIGHT_VAR, "bias_var": BIAS_VAR, "generator": seed}
    drawn = ff.monte_carlo(model, X, draws=DRAWS, **options)
    pairs = [(drawn.nngp, drawn.nngp_error), (drawn.ntk, drawn.ntk_error)]
    worst = 0.0
    for value, (mean, error) in zip(exact(X), pairs, strict=True):
        root = value.diagonal().sqrt()
        beyond = ((mean - value).abs() - allowance * root.outer(root)).clamp_min(0.0)
        worst = max(worst, float((beyond / error).max()))
    return worst


@pytest.mark.parametrize("name", NETWORKS)
def test_finite_networks_scatter_around_the_limit(name) -> None:
    model = with_outputs(NETWORKS[name](WIDTH))
    # Terms of order 1 / width; how they shrink is seen below.
    assert score(model, ff.infinite_width(model, WEIGHT_VAR, BIAS_VAR), 2.0 / WIDTH) <= HIGHEST


def test_a_wrong_limit_is_noticed() -> None:
    # The mean that LayerNorm subtracts, which RMSNorm does not.
    model = with_outputs(stack(1, nn.ReLU, "after", width=WIDTH))
    wrong = ff.infinite_width(RmsAfter(WIDTH), WEIGHT_VAR, BIAS_VAR)
    assert score(model, wrong, 2.0 / WIDTH) > HIGHEST


def test_the_difference_shrinks_like_one_over_the_width() -> None:
    # One normalised layer of cosines, at widths where the difference is seen.
    off = {}
    for width in (6, 24):
        model = with_outputs(stack(1, lambda: Elementwise(torch.cos), "before", width=width))
        model.requires_grad_(False)  # only the NNGP is compared
        options = {"weight_var": WEIGHT_VAR, "bias_var": BIAS_VAR}
        seed = torch.Generator().manual_seed(5)
        drawn = ff.monte_carlo(model, X[:1], draws=500, generator=seed, **options)
        exact = ff.infinite_width(model, **options).nngp(X[:1])
        off[width] = ((drawn.nngp - exact) / exact).item(), (drawn.nngp_error / exact).item()
    (narrow, error), (wide, other) = off[6], off[24]
    assert abs(narrow) > 6.0 * error
    # A quarter of it, within the sampling errors, which exclude that it stays.
    assert abs(wide - narrow / 4) <= 4.0 * (other + error / 4)
    assert abs(wide - narrow) > 4.0 * other
