"""mlp and gaussian_init_."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import stats
from torch import nn

import farfield as ff
from farfield.errors import SettingsError


def _kinds(model: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model]


@pytest.mark.parametrize(
    ("norm_at", "places"),
    [
        ("first", {0}),
        ("last", {2}),
        ("every", {0, 1, 2}),
        (1, {1}),
        ([0, -1], {0, 2}),
        ((0, 1), {0, 1}),
        (-3, {0}),
    ],
)
def test_norm_stands_where_asked(norm_at: object, places: set[int]) -> None:
    model = ff.mlp(3, [4, 5, 6], 2, norm="layer", norm_at=norm_at)  # type: ignore[arg-type]
    expected: list[str] = []
    for layer in range(3):
        expected += ["Linear", *(["LayerNorm"] if layer in places else []), "ReLU"]
    assert _kinds(model) == [*expected, "Linear"]
    assert model(torch.zeros(7, 3)).shape == (7, 2)


def test_norm_after_the_activation() -> None:
    model = ff.mlp(3, [4], 2, norm="rms", norm_before_activation=False, activation="gelu")
    assert _kinds(model) == ["Linear", "GELU", "RMSNorm", "Linear"]


def test_a_norm_without_gain_has_nothing_to_train() -> None:
    linear = {name for name, _ in ff.mlp(3, [4, 4], 2).named_parameters()}
    for norm in ("layer", "rms", "batch"):
        model = ff.mlp(3, [4, 4], 2, norm=norm, norm_at=1, norm_affine=False)
        assert len(list(model.parameters())) == len(linear)
        assert len(list(ff.gaussian_init_(model).parameters())) == len(linear)
        assert len(list(ff.mlp(3, [4, 4], 2, norm=norm, norm_at=1).parameters())) > len(linear)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_without_gain_is_read_as_one_whose_gain_is_frozen(norm: str, before: bool) -> None:
    def model(affine: bool) -> nn.Module:
        keywords = {"norm": norm, "norm_before_activation": before, "norm_affine": affine}
        made = ff.mlp(2, [16, 16], 1, **keywords)  # type: ignore[arg-type]
        return ff.gaussian_init_(made, generator=torch.Generator().manual_seed(3)).double()

    x = torch.tensor([[1.0, 2.0], [-300.0, 5.0], [0.1, -0.2]], dtype=torch.float64)
    frozen = model(True)
    for module in frozen.modules():
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            module.requires_grad_(False)
    bare = ff.infinite_width(model(False)).ntk(x)
    # The same numbers; sums may come in another order.
    torch.testing.assert_close(bare, ff.infinite_width(frozen).ntk(x), rtol=1e-12, atol=0.0)
    assert bool((ff.infinite_width(model(True)).ntk.diagonal(x) > bare.diagonal()).all())
    certificate = ff.certify(model(False).eval())
    assert certificate.bounded
    generator = torch.Generator().manual_seed(1)
    far = 1e6 * torch.randn(200, 2, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        assert model(False)(far).abs().max().item() <= certificate.bound.largest


def test_kinds_of_norm_and_no_hidden_layer() -> None:
    assert _kinds(ff.mlp(3, [4], 2, norm="batch")) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert _kinds(ff.mlp(3, [], 2)) == ["Linear"]
    assert type(ff.mlp(3, [], 2)) is nn.Sequential


def test_activation_may_be_a_callable_and_is_made_anew() -> None:
    model = ff.mlp(3, [4, 4], 1, activation=nn.PReLU)
    assert model[1] is not model[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rely"}, "'rely' is unknown; choose one of relu"),
        ({"norm": "group"}, "'group' is unknown; choose one of layer"),
        ({"norm": "layer", "norm_at": "middle"}, "choose 'first'"),
        ({"norm": "layer", "norm_at": 2}, "indices go from 0 to 1"),
        ({"norm": "layer", "norm_at": []}, "names no layer"),
        ({"hidden": [4, 0]}, "a hidden width is 0"),
        ({"hidden": [], "norm": "layer"}, "no place for a norm"),
        ({"in_features": 0}, "in_features is 0"),
        ({"out_features": -1}, "out_features is -1"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    values = {"in_features": 3, "hidden": [4, 4], "out_features": 1, **arguments}
    with pytest.raises(SettingsError, match=message):
        ff.mlp(
            values.pop("in_features"),  # type: ignore[arg-type]
            values.pop("hidden"),  # type: ignore[arg-type]
            values.pop("out_features"),  # type: ignore[arg-type]
            **values,  # type: ignore[arg-type]
        )


def test_draw_has_the_variances_asked() -> None:
    model = ff.mlp(300, [400], 200, norm="layer")
    generator = torch.Generator().manual_seed(3)
    ff.gaussian_init_(model, weight_var=1.7, bias_var=0.3, generator=generator)
    for layer, fan_in in ((model[0], 300), (model[3], 400)):
        for tensor, variance in ((layer.weight, 1.7 / fan_in), (layer.bias, 0.3)):
            # The p-value of a right draw is uniform; this seed's was not chosen for its own.
            standardised = (tensor.detach().double().flatten() / variance**0.5).numpy()
            assert stats.kstest(standardised, "norm").pvalue > 1e-4
        assert ff.init_variance(layer) == ff.networks.InitVariance(1.7, 0.3)
    assert ff.init_variance(model[1]) is None


def test_fan_in_of_a_convolution_counts_the_kernel_and_groups() -> None:
    layer = nn.Conv2d(64, 512, 3, groups=2)
    ff.gaussian_init_(layer, weight_var=2.0, generator=torch.Generator().manual_seed(0))
    fan_in = 32 * 9
    standardised = (layer.weight.detach().double().flatten() * (fan_in / 2) ** 0.5).numpy()
    assert stats.kstest(standardised, "norm").pvalue > 1e-4


def test_norms_are_reset_and_slopes_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.PReLU(init=0.7), nn.Linear(4, 1))
    model(torch.randn(50, 3))
    with torch.no_grad():
        model[1].weight.fill_(5.0)
    ff.gaussian_init_(model)
    assert torch.equal(model[1].weight, torch.ones(4))
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert model[2].weight.item() == pytest.approx(0.7)


def test_same_seed_same_linear_layers_whatever_the_norm() -> None:
    def drawn(norm: str | None) -> list[torch.Tensor]:
        model = ff.mlp(3, [8, 8], 1, norm=norm)  # type: ignore[arg-type]
        ff.gaussian_init_(model, generator=torch.Generator().manual_seed(5))
        return [layer.weight for layer in model if isinstance(layer, nn.Linear)]

    for one, other in zip(drawn(None), drawn("layer"), strict=True):
        assert torch.equal(one, other)


def test_mappings_by_name_and_memory_in_copies() -> None:
    model = ff.mlp(3, [8], 1)
    ff.gaussian_init_(model, weight_var={"0": 1.0}, bias_var={"2": 0.5})
    again = copy.deepcopy(model)
    assert ff.init_variance(again[0]) == ff.networks.InitVariance(1.0, 0.01)
    assert ff.init_variance(again[2]) == ff.networks.InitVariance(2.0, 0.5)


def test_zero_variance_gives_zeros() -> None:
    model = ff.gaussian_init_(ff.mlp(3, [8], 1), bias_var=0.0)
    assert torch.equal(model[0].bias, torch.zeros(8))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (ff.mlp(2, [3], 1), {"weight_var": -1.0}, "weight_var is -1"),
        (ff.mlp(2, [3], 1), {"bias_var": float("inf")}, "bias_var is inf"),
        (ff.mlp(2, [3], 1), {"weight_var": float("nan")}, "weight_var is nan"),
        (ff.mlp(2, [3], 1), {"weight_var": {"1": 2.0}}, "names '1', which is not"),
        (nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)), {}, r"module 1 \(LSTM\)"),
        (nn.Bilinear(2, 2, 2), {}, r"at the top \(Bilinear\)"),
    ],
)
def test_refused_draws_leave_the_model(
    model: nn.Module, arguments: dict[str, object], message: str
) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SettingsError, match=message):
        ff.gaussian_init_(model, **arguments)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
