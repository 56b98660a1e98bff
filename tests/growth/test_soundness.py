"""Twenty random networks over all rules, attacked; ``make soundness`` is the large version."""

import pytest
import torch
from torch import nn

from farfield.growth import Effort, certify_model
from random_networks import draw
from soundness import attack, effort, exceeds


@pytest.mark.parametrize("seed", range(1010, 1030))
def test_no_input_exceeds_the_bound(seed: int) -> None:
    case = draw(seed, trained=seed % 3 == 0)
    row = attack(case, 2000)
    assert not row.exceeded
    assert row.inputs >= 2000
    if "with a norm" in case.name or case.name == "two hidden layers":
        assert row.proven


@pytest.mark.parametrize("seed", [1021, 1033, 1048, 1098])
def test_every_layer_of_a_network_stays_in_its_bound(seed: int) -> None:
    case = draw(seed, trained=False)
    layers = list(case.model.children())
    for count in range(1, len(layers)):
        model = nn.Sequential(*layers[:count]).eval()
        assert not exceeds(
            certify_model(model, case.shape, case.domain, Effort(16, 8, 15, cells=200, descent=12))
        )


def test_a_wrong_bound_would_be_noticed() -> None:
    """The attack finds nearly the exact maximum of a network whose maximum is known."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 20), nn.RMSNorm(20), nn.Linear(20, 1)).eval()
    cert = certify_model(model, effort=effort(1, 0, 2000))
    assert cert.worst_found.value > 0.99 * cert.bound.largest
