"""The toy study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import farfield as ff
from farfield.errors import SettingsError
from farfield.studies import toy
from oracles import train_alone

SMALL = toy.Settings(overlays=False, seeds=2, epochs=30, hidden=(16, 16), points=20)


def test_numbers_are_those_of_networks_trained_alone() -> None:
    result = toy.run(SMALL)
    x = torch.linspace(-3, 3, 20)[:, None]
    far = torch.tensor([[25.0]])
    at_far = result.metrics.set_index(["function", "variant", "seed"])["at_far"]
    for name, target in (("sine", torch.sin(x)), ("linear", x), ("quadratic", x**2)):
        for variant, norm, norm_at in (
            ("standard", None, "every"),
            ("first", "layer", "first"),
            ("last", "layer", "last"),
            ("every", "layer", "every"),
        ):
            network = ff.mlp(1, [16, 16], 1, norm=norm, norm_at=norm_at)
            ff.gaussian_init_(network, generator=torch.Generator().manual_seed(1))
            alone = train_alone(network, x, target, [[torch.arange(20)]] * 30, 1e-3)
            own = at_far[name, variant, 1]
            # float32, 30 steps of Adam: rounding grows to some 1e-5 of the output.
            assert own == pytest.approx(alone(far).item(), rel=1e-3, abs=1e-3)


def test_tables_have_every_network_once() -> None:
    result = toy.run(SMALL)
    assert len(result.metrics) == 3 * 4 * 2
    assert not result.metrics.duplicated(["function", "variant", "seed"]).any()
    per_network = result.predictions.groupby(["function", "variant", "seed"]).size()
    assert (per_network == 501).all()
    assert list(result.summary().index) == ["sine", "linear", "quadratic"]
    assert list(result.summary().columns) == [
        "Standard",
        "LayerNorm first",
        "LayerNorm second",
        "LayerNorm every",
    ]
    on_grid = result.predictions.query("x == 25.0").set_index(["function", "variant", "seed"])
    at_far = result.metrics.set_index(["function", "variant", "seed"])["at_far"]
    assert np.allclose(on_grid["prediction"].loc[at_far.index], at_far, rtol=1e-5, atol=1e-5)


def test_without_norm_grows_and_with_layer_norm_settles() -> None:
    """The claim itself, on a training long enough to show it."""
    result = toy.run(toy.Settings(overlays=False, seeds=2, epochs=400, hidden=(64, 64)))
    growth = result.growth()
    # Far from the data a ReLU network goes on like a line: 12.5 over the interval's length of 6;
    # with LayerNorm it approaches a constant.
    assert growth.loc["linear", "Standard"] == pytest.approx(12.5 / 6, rel=0.1)
    assert (growth["Standard"] > 1.0).all()
    assert (growth.drop(columns="Standard") < 0.1).all(axis=None)
    assert result.story().answer.startswith("Yes: one LayerNorm stops the growth")


def test_batch_norm_does_not_prevent_the_growth() -> None:
    result = toy.run(
        toy.Settings(overlays=False, seeds=1, epochs=400, hidden=(64, 64), norm="batch")
    )
    assert (result.growth() > 0.1).all(axis=None)
    assert (result.growth().loc[["linear", "quadratic"]] > 1.0).all(axis=None)
    assert result.story().answer.startswith("No: BatchNorm does not prevent the growth")


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_other_activations_run(activation: str) -> None:
    settings = toy.Settings(overlays=False, seeds=1, epochs=2, hidden=(8, 8), activation=activation)
    assert activation in toy.run(settings).story().title


def test_noise_is_drawn_from_the_seed() -> None:
    settings = toy.Settings(overlays=False, seeds=2, epochs=1, hidden=(8,), noise_std=0.5)
    first, second = toy.run(settings), toy.run(settings)
    pd.testing.assert_frame_equal(first.metrics, second.metrics)
    quiet = toy.run(toy.Settings(overlays=False, seeds=2, epochs=1, hidden=(8,)))
    assert not np.allclose(first.metrics["train_mse"], quiet.metrics["train_mse"])


def test_a_run_can_be_resumed_when_finished(tmp_path: Path) -> None:
    first = toy.run(SMALL, out=tmp_path)
    again = toy.run(SMALL, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(first.metrics, again.metrics, check_exact=True)
    kept = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(kept, first.predictions, check_exact=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"norm": "group"}, "'group' is unknown"),
        ({"points": 1}, "points is 1"),
        ({"interval": (3.0, -3.0)}, "must be increasing"),
        ({"far": float("inf")}, "far is inf"),
        ({"far": 1.0}, "within the range"),
        ({"noise_std": -1.0}, "noise_std is -1"),
        ({"hidden": ()}, "hidden is empty"),
        ({"hidden": (0,)}, "a hidden width is 0"),
        ({"activation": "rely"}, "'rely' is unknown"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        toy.Settings(**values)  # type: ignore[arg-type]


def test_an_unknown_device_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'abacus' cannot be used"):
        toy.run(toy.Settings(device="abacus"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
