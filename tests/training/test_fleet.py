"""Fleets: stacking, predicting, unstacking."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.errors import SettingsError
from farfield.training import Fleet, fleet


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_predictions_are_those_of_each_network(
    norm: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_TILE_NUMBERS", 200)
    networks = [ff.mlp(3, [8, 8], 2, norm=norm).double() for _ in range(4)]
    for network in networks:
        network(torch.randn(30, 3, dtype=torch.float64))  # running statistics that differ
        network.eval()
    together = Fleet(networks)
    x = torch.randn(57, 3, dtype=torch.float64)
    expected = torch.stack([network(x) for network in networks])
    torch.testing.assert_close(together.predict(x), expected.detach(), rtol=1e-12, atol=1e-12)
    each = torch.randn(4, 9, 3, dtype=torch.float64)
    expected = torch.stack([network(part) for network, part in zip(networks, each, strict=True)])
    torch.testing.assert_close(
        together.predict_each(each), expected.detach(), rtol=1e-12, atol=1e-12
    )


def test_networks_come_back_as_they_went_in() -> None:
    networks = [ff.mlp(3, [8], 2, norm="batch") for _ in range(3)]
    for network, back in zip(networks, Fleet(networks).networks(), strict=True):
        assert str(network) == str(back)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, back.state_dict()[name])


@pytest.mark.parametrize(
    "other",
    [
        ff.mlp(3, [9], 2),
        ff.mlp(3, [8], 2, norm="layer"),
        ff.mlp(3, [8], 2, activation="gelu"),
        ff.mlp(3, [8], 2).double(),
        nn.Linear(3, 2),
    ],
)
def test_networks_that_differ_are_refused(other: nn.Module) -> None:
    with pytest.raises(SettingsError, match="Network 1 of the fleet differs"):
        Fleet([ff.mlp(3, [8], 2), other])


def test_no_network_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one"):
        Fleet([])


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(SettingsError, match="no parameters"):
        Fleet([nn.ReLU()])


def test_frozen_parameters_stay() -> None:
    network = ff.mlp(2, [8], 1)
    network[0].weight.requires_grad_(False)
    together = Fleet([network])
    x = torch.randn(1, 20, 2)
    ff.training.train(together, x, x.sum(-1, keepdim=True), ff.training.TrainingSettings(epochs=5))
    assert torch.equal(together.networks()[0][0].weight, network[0].weight)
    assert not torch.equal(together.networks()[0][2].weight, network[2].weight)


def test_tiles_hold_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_TILE_NUMBERS", 1000)
    together = Fleet([ff.mlp(2, [10], 1) for _ in range(20)])
    assert together.tile(5) == (20, 5)
    assert together.tile(20) == (5, 20)
    assert together.tile(10_000) == (1, 100)
    coupled = Fleet([ff.mlp(2, [10], 1, norm="batch") for _ in range(20)])
    assert coupled.tile(10_000) == (1, 10_000)
