"""Layers whose signals are a mask for all outputs: the last convolution before a head."""

import pytest
import torch
from torch import Tensor, nn

import farfield as ff
from farfield.empirical.costs import Pair
from farfield.empirical.factors import Outer
from farfield.empirical.masked import add_masked, masks_of
from oracles import all_pairs, jacobians


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def cnn(dead: bool) -> nn.Module:
    torch.manual_seed(int(dead))
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    with torch.no_grad():
        model[3].running_mean.normal_()
        if dead:
            model[3].bias[1] = -1e3  # never passes
            model[7].weight[:, 2] = 0.0  # nothing comes back
            model[7].weight[0, 4] = 0.0  # nothing comes back from the first output
    return model.double().eval()


def sequence() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.AvgPool2d((8, 1)), nn.Flatten(), nn.Linear(6, 4)
    ).double()


CASES = {
    "groups and a norm": (lambda: cnn(False), (6, 2, 7, 7), 2),
    "dead and pruned channels": (lambda: cnn(True), (6, 2, 7, 7), None),
    "a sequence": (sequence, (6, 8, 5), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_dense_jacobians(name) -> None:
    make, shape, layer = CASES[name]
    model, x = make(), drawn(*shape)
    gradients = jacobians(model, x)
    pairs = all_pairs(gradients, gradients)
    each = pairs.diagonal(dim1=1, dim2=3)
    wanted = {"full": pairs, "diagonal": each, "mean": each.mean(-1), "sum": pairs.sum((1, 3))}
    for kind, values in wanted.items():
        kernel = ff.empirical_ntk(model, outputs=kind)
        # Rounding of sums of some hundred terms in float64; a wrong term would show at 1e-2.
        assert (kernel(x) - values).norm() <= 1e-12 * values.norm()
        tile = values[:4, :, 2:] if kind == "full" else values[:4, 2:]
        assert (kernel(x[:4], x[2:]) - tile).norm() <= 1e-12 * tile.norm()
        own = kernel.diagonal(x)
        found = kernel(x)
        for i in range(len(x)):
            place = found[i, :, i] if kind == "full" else found[i, i]
            assert torch.equal(place, own[i])
        block = kernel._engine.gradients(x).block
        if layer is not None and kind != "sum":
            factor = block.factor(f"{layer}.weight")
            assert masks_of([Pair(factor, factor)], kernel._engine.mode.kind, True) is not None


def factor_of(mask: Tensor, scales: Tensor) -> Outer:
    n, groups, positions, _ = mask.shape
    signals = mask.unsqueeze(1) * scales.unsqueeze(2)
    return Outer(drawn(n, groups, positions, 30), signals)


@pytest.mark.parametrize("scratch", [1, 10_000, 10**9])
@pytest.mark.parametrize("kind", ["full", "diagonal", "mean"])
def test_parts_of_any_size(kind, scratch) -> None:
    torch.manual_seed(3)
    scales = drawn(4, 2, 5)
    left, right = (
        factor_of((drawn(n, 2, 9, 5) > 0).double(), scales * sign) for n, sign in ((6, 1), (7, -1))
    )
    pair = Pair(left, right, 0.3)
    masks = masks_of([pair], kind, False)
    assert masks is not None
    first, second = left.dense(), right.dense()
    pairs = 0.3 * torch.einsum("iap,jbp->iajb", first, second)
    each = pairs.diagonal(dim1=1, dim2=3)
    wanted = {"full": pairs, "diagonal": each.movedim(-1, 0), "mean": each.sum(-1)}[kind]
    target = torch.ones_like(wanted)
    add_masked(target, kind, pair, masks, scratch)
    assert (target - 1.0 - wanted).norm() <= 1e-13 * wanted.norm()


def test_what_is_nearly_a_mask_is_none() -> None:
    torch.manual_seed(4)
    factor = factor_of((drawn(6, 2, 9, 5) > 0).double(), drawn(4, 2, 5))
    assert masks_of([Pair(factor, factor)], "full", True) is not None
    for place in ((0, 0, 0, 0, 0), (5, 3, 1, 8, 4), (2, 1, 0, 3, 2)):
        value = factor.signals[place].item()
        for other in (value + 1e-15 if value else 1e-300, -value if value else 1.0, float("nan")):
            signals = factor.signals.clone()
            signals[place] = other
            near = Outer(factor.values, signals)
            assert masks_of([Pair(near, near)], "full", True) is None
            assert masks_of([Pair(factor, near)], "full", False) is None
