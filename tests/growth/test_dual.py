"""Bounds of linear functions, against closed forms, constrained optimisation and enumeration."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

import farfield as ff
from farfield.growth import Effort, certify_model

QUICK = Effort(rays=32, starts=16, steps=60, cells=200, descent=0)


def normed(width: int, seed: int, *, eps: float = 1e-5) -> nn.LayerNorm:
    generator = torch.Generator().manual_seed(seed)
    norm = nn.LayerNorm(width, eps=eps).double()
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    return norm


@pytest.mark.parametrize("width", [2, 3, 20])
def test_layer_norm_then_linear_is_the_closed_form_and_attained(width: int) -> None:
    torch.manual_seed(width)
    norm, layer = normed(width, width), nn.Linear(width, 3).double()
    cert = certify_model(nn.Sequential(norm, layer), effort=QUICK)
    with torch.no_grad():
        scaled = layer.weight * norm.weight
        centred = scaled - scaled.mean(1, keepdim=True)
        middle = layer.weight @ norm.bias + layer.bias
        size = math.sqrt(width) * centred.norm(dim=1)
    torch.testing.assert_close(cert.bound.upper, middle + size, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(cert.bound.lower, middle - size, rtol=1e-8, atol=1e-8)
    assert 1.0 <= cert.ratio < 1.01


def test_rms_norm_then_linear() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 2, bias=False).double()
    cert = certify_model(nn.Sequential(nn.RMSNorm(5).double(), layer), effort=QUICK)
    expected = math.sqrt(5) * layer.weight.detach().norm(dim=1)
    torch.testing.assert_close(cert.bound.upper, expected, rtol=1e-8, atol=1e-8)
    assert cert.ratio < 1.01


@pytest.mark.parametrize("features", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_the_cone_of_a_linear_layer_before_the_norm(features: int, bias: bool) -> None:
    """Against constrained optimisation over the half space of directions (SLSQP)."""
    torch.manual_seed(features)
    first, last = nn.Linear(features, 12, bias=bias).double(), nn.Linear(12, 1).double()
    norm = normed(12, 3)
    cert = certify_model(nn.Sequential(first, norm, last), effort=QUICK)
    with torch.no_grad():
        columns = [first.weight] + ([first.bias[:, None]] if bias else [])
        matrix = torch.cat(columns, 1)
        matrix = (matrix - matrix.mean(0)).numpy()
        weight = (last.weight * norm.weight)[0].numpy()
        middle = float(last.weight @ norm.bias + last.bias)

    def value(z: np.ndarray) -> float:
        direction = matrix @ z
        length = np.linalg.norm(direction)
        return -math.sqrt(12) * float(weight @ direction) / max(length, 1e-12)

    rng = np.random.default_rng(0)
    limits = [(None, None)] * features + ([(0.0, None)] if bias else [])
    best = min(
        minimize(value, rng.normal(size=matrix.shape[1]) + 0.1, bounds=limits).fun
        for _ in range(20)
    )
    assert float(cert.bound.upper) == pytest.approx(middle - best, rel=1e-4)
    assert cert.ratio < 1.1  # a short search


def test_relu_behind_a_norm_beats_interval_arithmetic_by_far() -> None:
    """The maximum over the sphere, by projected ascent, is close below the bound."""
    width = 64
    torch.manual_seed(0)
    layer = nn.Linear(width, 1, bias=False).double()
    model = nn.Sequential(nn.LayerNorm(width).double(), nn.ReLU(), layer)
    cert = certify_model(model, effort=QUICK)
    t = torch.randn(200, width).double()
    for _ in range(200):
        t = t.requires_grad_()
        (slope,) = torch.autograd.grad((torch.relu(t) @ layer.weight.T).sum(), t)
        t = (t + slope / slope.norm(dim=1, keepdim=True)).detach()
        t = t - t.mean(1, keepdim=True)
        t = math.sqrt(width) * t / t.norm(dim=1, keepdim=True)
    found = float((torch.relu(t) @ layer.weight.detach().T).max())
    bound = float(cert.bound.upper)
    interval = math.sqrt(width - 1) * float(layer.weight.detach().clamp(min=0).sum())
    assert found <= bound <= 1.1 * found
    assert bound < interval / 3


def test_a_box_without_activation_is_exact() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).double()
    lower, upper = -torch.rand(4).double(), 2 * torch.rand(4).double()
    cert = certify_model(model, domain=(lower, upper), effort=QUICK)
    corners = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()
    values = model(lower + corners * (upper - lower)).detach()
    torch.testing.assert_close(cert.bound.upper, values.amax(0), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(cert.bound.lower, values.amin(0), rtol=1e-8, atol=1e-8)


def test_relu_in_a_box_is_the_linear_programme() -> None:
    """One hidden layer: the dual is that of the triangle relaxation, solved here by HiGHS."""
    torch.manual_seed(2)
    first, last = nn.Linear(3, 8).double(), nn.Linear(8, 1).double()
    model = nn.Sequential(first, nn.ReLU(), last)
    alone = dataclasses.replace(QUICK, cells=0)  # cells find what no relaxation of the whole can
    cert = certify_model(model, domain=(-1.0, 1.0), effort=alone)
    w, b = first.weight.detach().numpy(), first.bias.detach().numpy()
    reach = np.abs(w).sum(1)
    low, high = b - reach, b + reach
    rows, limits = [], []
    for i in range(8):  # variables: x (3), then h (8)
        h = np.eye(8)[i]
        if high[i] <= 0:
            rows.append(np.r_[np.zeros(3), h])
            limits.append(0.0)
        elif low[i] >= 0:
            rows += [np.r_[-w[i], h], np.r_[w[i], -h]]
            limits += [b[i], -b[i]]
        else:
            slope = high[i] / (high[i] - low[i])
            rows += [np.r_[w[i], -h], np.r_[-slope * w[i], h]]
            limits += [-b[i], slope * (b[i] - low[i])]
    cost = np.r_[np.zeros(3), -last.weight.detach().numpy()[0]]
    bounds = [(-1, 1)] * 3 + [(0, None)] * 8
    solved = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=bounds)
    best = -solved.fun + float(last.bias.detach())
    # A few dozen gradient steps come within two per cent of the optimum.
    assert best - 1e-9 <= float(cert.bound.upper) <= best + 0.02 * abs(best) + 0.01


def test_bounds_of_two_hidden_layers_are_close_to_what_is_found() -> None:
    ratios = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        place = ("first", "last", "every")[seed % 3]
        model = ff.mlp(3, [24, 24], 1, norm="layer", norm_at=place)
        ff.gaussian_init_(model, generator=generator)
        ratios.append(certify_model(model, effort=QUICK).ratio)
    assert min(ratios) >= 1.0
    assert max(ratios) <= 5.0


def test_a_larger_box_never_has_a_smaller_bound() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 1))
    sizes = [
        certify_model(model, domain=box, effort=Effort(4, 2, 2, descent=0)).bound.largest
        for box in ((-0.01, 0.01), (-0.1, 0.1), (-1.0, 1.0), None)
    ]
    # Each is the result of gradient steps, and so uncertain in the third digit.
    assert all(small <= 1.01 * large for small, large in itertools.pairwise(sizes))
