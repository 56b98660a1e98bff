"""Theta(x, x) of two hidden ReLU layers, with LayerNorm nowhere, first, second and everywhere.

Ziomek, Whittle and Osborne's parametrisation: first weights of variance 1, then 2; s = 0.01.
"""

import pytest
import torch
from torch import nn

import farfield as ff

BIAS_VAR = 0.01


def theta(norm_at: str | int | None, *radii: float) -> list[float]:
    norm = None if norm_at is None else "layer"
    model = ff.mlp(1, [4, 4], 1, norm=norm, norm_at="every" if norm_at is None else norm_at)
    variances: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.0
            module.requires_grad_(False)  # the paper's has no gain and no bias
        if isinstance(module, nn.Linear):
            variances[name] = 2.0 if variances else 1.0
    x = torch.tensor(radii, dtype=torch.float64)[:, None]
    limit = ff.infinite_width(model, weight_var=variances, bias_var=BIAS_VAR)
    return limit.ntk.diagonal(x).tolist()


def test_without_norm_it_grows_with_the_square() -> None:
    assert theta(None, 25.0) == pytest.approx([1875.06], rel=1e-13)
    assert theta(None, 1e100) == pytest.approx([3e200], rel=1e-13)


def test_a_first_norm_makes_it_constant() -> None:
    assert theta(0, 0.0, 0.3, 25.0, 1e100) == pytest.approx([3.03] * 4, rel=1e-13)


def test_a_second_norm_bounds_it() -> None:
    low, middle, high = theta(1, 0.0, 0.1, 1e100)
    assert (low, high) == pytest.approx((2.51, 3.01), rel=1e-13)
    assert low < middle < high


def test_norms_everywhere_make_it_constant() -> None:
    s = BIAS_VAR
    expected = (2 + s) / (1 + s) + 1 + s
    assert theta("every", 0.0, 0.3, 25.0, 1e100) == pytest.approx([expected] * 4, rel=1e-13)
    assert expected == pytest.approx(3.00, abs=5e-3)
