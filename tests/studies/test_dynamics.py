"""The training study, and the digits it learns."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import farfield as ff
from farfield import report
from farfield.data.digits import balanced, load_digits
from farfield.errors import DataError, SettingsError
from farfield.studies import dynamics
from oracles import jacobians

SMALL = dynamics.Settings(
    width=12, depth=2, weight_vars=(1.0, 2.0), epochs=12, rows=20, per_class=2, device="cpu"
)


@pytest.fixture
def mnist(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder in the format of MNIST: 40 random images of 5 x 4 pixels."""
    images = rng.integers(0, 256, (40, 5, 4), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    np.savez(folder / "mnist.npz", x_train=images, y_train=labels)
    return folder


def test_kernel_and_scores_at_the_start_are_those_of_the_networks() -> None:
    result = dynamics.run(SMALL)
    digits = load_digits()
    rows = balanced(digits.labels, 2, np.random.default_rng(0))
    network = ff.mlp(64, [12, 12], 10)
    ff.gaussian_init_(network, 2.0, 0.0, torch.Generator().manual_seed(0))
    x = torch.from_numpy(digits.images[rows])
    gradients = torch.cat(list(jacobians(network, x).values()), 2)
    kernel = torch.einsum("iop,jop->ij", gradients, gradients)
    found = result.predictions.query("weight_var == 2 and epoch == 0")["value"].to_numpy()
    # Sums of some 1000 products in single precision.
    np.testing.assert_allclose(found, kernel.flatten().numpy(), rtol=1e-3, atol=1e-3)
    row = result.metrics.query("weight_var == 2 and epoch == 0").iloc[0]
    targets = nn.functional.one_hot(torch.from_numpy(digits.labels[rows]), 10).float()
    with torch.no_grad():
        loss = nn.functional.mse_loss(network(x), targets)
    assert row["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert row["change"] == 0.0
    same = np.kron(np.eye(10), np.ones((2, 2))).astype(bool)
    matrix = kernel.numpy()
    assert row["same_class"] == pytest.approx(
        matrix[same].mean() / matrix.diagonal().mean(), rel=1e-3
    )


def test_training_changes_the_kernel_and_lowers_the_loss() -> None:
    result = dynamics.run(dataclasses.replace(SMALL, learning_rate=1e-2))
    assert sorted(result.metrics["epoch"].unique()) == [0, 1, 10, 12]
    by_epoch = result.metrics.query("weight_var == 2").set_index("epoch")
    assert by_epoch["loss"][12] < by_epoch["loss"][0]
    assert by_epoch["change"][12] > by_epoch["change"][1] > 0.0
    assert {claim.item for claim in result.claims()} >= {"Block structure", "Trainability"}


def test_dynamics_resumed_to_the_same_bits_and_drawn(tmp_path: Path, mnist: Path) -> None:
    first = dynamics.run(SMALL, data=mnist, out=tmp_path / "run")
    again = dynamics.run(SMALL, data=mnist / "mnist.npz", out=tmp_path / "other")
    pd.testing.assert_frame_equal(first.metrics, again.metrics, check_exact=True)
    resumed = dynamics.run(SMALL, data=mnist, out=tmp_path / "run", resume=True)
    pd.testing.assert_frame_equal(first.metrics, resumed.metrics, check_exact=True)
    page = report.write_report(resumed, tmp_path / "run").read_text()
    assert page.count("<figure>") == 3
    (tmp_path / "run" / "checkpoints" / "epoch-1.parquet").unlink()
    with pytest.raises(DataError, match="no longer in the folder"):
        dynamics.run(SMALL, data=mnist, out=tmp_path / "run", resume=True)


def test_bundled_digits() -> None:
    digits = load_digits()
    assert digits.images.shape == (1797, 64)
    assert digits.images.min() == 0.0
    assert digits.images.max() == 1.0
    chosen = balanced(digits.labels, 3, np.random.default_rng(1))
    assert digits.labels[chosen].tolist() == [digit for digit in range(10) for _ in range(3)]
    with pytest.raises(DataError, match="are needed, but there are"):
        balanced(digits.labels, 500, np.random.default_rng(1))


def test_data_that_are_not_digits_are_refused(tmp_path: Path, mnist: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        load_digits(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no train-images"):
        load_digits(tmp_path)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        load_digits(bad)
    np.savez(bad, x_train=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match="must hold the arrays"):
        load_digits(bad)
    np.savez(bad, x_train=np.zeros((2, 2, 2)), y_train=np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="both must be bytes"):
        load_digits(bad)
    np.savez(bad, x_train=np.array([{}]), y_train=np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="objects other than numbers"):
        load_digits(bad)
    np.savez(bad, x_train=np.zeros((2, 2, 2), np.uint8), y_train=np.full(2, 12, np.uint8))
    with pytest.raises(DataError, match="the label 12"):
        load_digits(bad)
    np.savez(bad, x_train=np.zeros((2, 2), np.uint8), y_train=np.zeros(2, np.uint8))
    with pytest.raises(DataError, match=r"must be \(n, height, width\)"):
        load_digits(bad)
    labels = mnist / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        load_digits(mnist)
    labels.unlink()
    (mnist / "train-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x09abc")
    with pytest.raises(DataError, match="not a file of bytes"):
        load_digits(mnist)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"weight_vars": ()}, "increasing numbers"),
        ({"rows": 101}, "a multiple of 10"),
        ({"rows": 50}, "from 100 on"),
    ],
)
def test_settings_of_dynamics_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        dynamics.Settings(**values)  # type: ignore[arg-type]
