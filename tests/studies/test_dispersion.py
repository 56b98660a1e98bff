"""The dispersion study: its kernels against the library's, its statistics against formulas."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import farfield as ff
from farfield import report
from farfield.errors import SettingsError
from farfield.studies import dispersion as study
from farfield.studies.dispersion import draws
from farfield.studies.dispersion.bootstrap import dispersion
from farfield.studies.dispersion.kernels import PLACES, products

WIDTH, DEPTH = 9, 5


def drawn(seed: int, networks: int = 1, inputs: int = 3) -> tuple[Tensor, list[Tensor], Tensor]:
    """Inputs, weights and readouts of variance 2 / fan_in."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    fan_ins = (4, *(WIDTH,) * (DEPTH - 1))
    weights = [normal(networks, WIDTH, fan_in) * (2.0 / fan_in) ** 0.5 for fan_in in fan_ins]
    readouts = normal(networks, DEPTH, WIDTH) * (2.0 / WIDTH) ** 0.5
    return normal(networks, inputs, 4), weights, readouts


def module(
    weights: list[Tensor], readout: Tensor, activation: str, norm_at: str, scale: float
) -> nn.Sequential:
    """One of the networks, as everybody writes it."""
    depth, layers = len(weights), []
    normed = {"none": (), "first": (0,), "last": (depth - 1,), "every": range(depth)}[norm_at]
    for index, weight in enumerate([*weights, readout[None]]):
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(scale * weight)
            linear.bias.zero_()
        layers.append(linear)
        if index < depth:
            if index in normed:
                layers.append(nn.LayerNorm(WIDTH, eps=0.0, elementwise_affine=False))
            layers.append(nn.ReLU() if activation == "relu" else nn.Sigmoid())
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm_at", PLACES)
@pytest.mark.parametrize(("activation", "scale"), [("relu", 1.0), ("relu", 1.3), ("sigmoid", 1.0)])
def test_kernels_of_every_depth_are_those_of_the_library(
    norm_at: str, activation: str, scale: float
) -> None:
    x, weights, readouts = drawn(1)
    found = sum(products(x, weights, readouts, activation, norm_at).kernels([scale**2]))
    for network in range(len(x)):
        for depth in (1, 2, DEPTH):
            own = [weight[network] for weight in weights[:depth]]
            model = module(own, readouts[network, depth - 1], activation, norm_at, scale)
            kernel = ff.empirical_ntk(model)(x[network, :1], x[network])[0]
            # Sums of some 100 numbers in float64, in another order.
            torch.testing.assert_close(
                found[0, network, depth - 1], kernel.detach(), rtol=1e-10, atol=1e-10
            )


def test_statistics_of_a_known_law() -> None:
    """The dispersion of a log-normal law of deviation s is exp(s^2)."""
    generator = np.random.default_rng(3)
    logs = generator.normal(0.7, 0.5, (4000, 2))
    found = dispersion(np.exp(logs) * np.array([1.0, 1e200]), 200)
    # 3 standard deviations of 4000 draws; the bootstrap's own is near that of repeated samples.
    again = np.exp(generator.normal(0.7, 0.5, (200, 4000)))
    repeated = ((again**2).mean(1) / again.mean(1) ** 2).std()
    assert found.ratio == pytest.approx(np.exp(0.25), abs=3 * repeated)
    assert found.error == pytest.approx(repeated, rel=0.3)
    assert (found.low < found.ratio).all()
    assert (found.ratio < found.high).all()
    assert found.median_log[0] == pytest.approx(0.7, abs=0.05)
    assert (found.largest < 0.1).all()
    one = np.array([[1.0]] * 999 + [[1000.0]])
    assert dispersion(one, 10).largest[0] > 0.99


SMALL = study.Settings(
    width=10,
    depths=4,
    weight_vars=(1.0, 2.0, 2.5),
    draws=1000,
    further_draws=40,
    cosines=(1.0, 0.0),
    shown_depths=(2, 4),
    sigmoid_vars=(16.0,),
    resamples=200,
)


def test_measured_dispersion_is_the_exact_one() -> None:
    """Seeds are fixed; z-scores of correlated cells, none of which may be far out."""
    result = study.run(SMALL)
    own = result.metrics.query("network == 'relu'")
    scores = (own["dispersion"] - own["exact"]) / own["error"]
    assert scores.abs().max() < 3.5
    assert (own["dispersion"] > 1.0).all()
    normed = result.metrics.query("network == 'every' and depth == 4 and counted == 'weights'")
    assert normed["mean"].iloc[0] > 0.0
    angles = result.metrics.query("network == 'angles' and weight_var == 2.0 and depth == 4")
    assert angles["mean"].iloc[1] < angles["mean"].iloc[0]
    # At width 10 the limit of infinite width is not yet there, and the claim says so.
    assert not {claim.item: claim for claim in result.claims()}["Edge of chaos formula"].agrees


def test_draws_do_not_depend_on_how_many_are_asked_for() -> None:
    """The networks with norm are the first of those without: with no norm in effect, the same."""
    fewer = draws.networks_of_relu(dataclasses.replace(SMALL, draws=40), 0)
    more = draws.networks_of_relu(SMALL, 0)
    pd.testing.assert_frame_equal(fewer, more.iloc[: len(fewer)])
    angles = draws.networks_at_angles(SMALL, 0)
    # Rows: network, shown depth (2, 4), cosine (1, 0). Sums in single precision in another order.
    same = angles.iloc[2::4]["2"].to_numpy()
    np.testing.assert_allclose(same, fewer.iloc[3::4]["2"].to_numpy(), rtol=1e-4)


def test_dispersion_resumed_to_the_same_bits_and_drawn(tmp_path: Path) -> None:
    small = dataclasses.replace(SMALL, draws=40, resamples=20)
    first = study.run(small, out=tmp_path)
    (tmp_path / "checkpoints" / "last-0.parquet").unlink()
    again = study.run(small, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(first.metrics, again.metrics, check_exact=True)
    page = report.write_report(again, tmp_path).read_text()
    assert page.count("<figure>") == 6


def test_a_formula_that_is_off_is_told() -> None:
    result = study.run(dataclasses.replace(SMALL, draws=40, resamples=20))
    for factor, holds in ((1.0, True), (3.0, False)):
        result.metrics["published"] = factor * result.metrics["dispersion"]
        claims = {claim.item: claim.agrees for claim in result.claims()}
        assert claims["Edge of chaos formula"] == holds
        assert claims["Chaotic formula"] == holds


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 1}, "width is 1"),
        ({"draws": 10}, "at least as many draws"),
        ({"weight_vars": (2.0, 1.0)}, "increasing numbers"),
        ({"sigmoid_vars": (0.0,)}, "above 0"),
        ({"cosines": (0.5,)}, "the first one 1"),
        ({"shown_depths": (50,)}, "depths from 1 to 49"),
    ],
)
def test_settings_of_dispersion_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        study.Settings(**values)  # type: ignore[arg-type]


def test_unknown_activations_and_places_are_refused() -> None:
    x, weights, readouts = drawn(1)
    with pytest.raises(SettingsError, match="'tanh'; choose 'relu'"):
        products(x, weights, readouts, "tanh")
    with pytest.raises(SettingsError, match="choose one of none, first"):
        products(x, weights, readouts, "relu", "second")
