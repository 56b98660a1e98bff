"""Fits of rows from anywhere are those of rows in memory, also after a kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff
from farfield.errors import DataError, OutputError, SettingsError
from farfield.infinite.kernel import InfiniteWidth
from farfield.regression import sums
from farfield.scale import fit
from farfield.scale.rows import Source


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 20 rows for 5 centres."""
    monkeypatch.setattr(sums, "_TILE_BYTES", 20 * 8 * 5)
    monkeypatch.setattr(sums, "_FEWEST_ROWS", 1)


def _into(counted: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda done, total: counted.append((done, total))


def test_rows_from_anywhere(limit: InfiniteWidth, tmp_path: Path, small_tiles: None) -> None:
    x = torch.randn(110, 3, dtype=torch.float64)
    y = x[:, :2].sin()
    regression = ff.KernelRegression(limit.ntk, 0.1, solver=ff.Nystrom(5))
    expected = regression.fit(x, y)
    names = ["a", "b", "c"]
    np.save(tmp_path / "x.npy", x.numpy())
    pd.DataFrame(x.numpy(), columns=names).to_parquet(tmp_path / "x.parquet", row_group_size=33)
    pd.DataFrame(y.numpy(), columns=names[:2]).to_parquet(tmp_path / "y.parquet")
    stored = zarr.create_array(str(tmp_path / "y.zarr"), shape=(110, 2), dtype="float64")
    stored[:] = y.numpy()
    pairs: list[tuple[Source, Source | None]] = [
        (tmp_path / "x.npy", y),
        (tmp_path / "x.parquet", tmp_path / "y.parquet"),
        (x.numpy(), stored),
        (DataLoader(TensorDataset(x, y), batch_size=7), None),
    ]
    for first, second in pairs:
        counted: list[tuple[int, int]] = []
        found = fit(regression, first, second, progress=_into(counted))
        assert (found.coefficients == expected.coefficients).all()
        assert counted == [(k, 110) for k in (0, 20, 40, 60, 80, 100, 110)]
    one = fit(regression, x, y[:, 0])
    assert one.predict(x).shape == (110,)
    torch.testing.assert_close(one.predict(x), expected.predict(x)[:, 0])


def test_a_finished_checkpoint_gives_other_ridges_at_once(
    limit: InfiniteWidth, tmp_path: Path
) -> None:
    x = torch.randn(60, 3, dtype=torch.float64)
    y = x[:, 0].sin()
    kept = tmp_path / "folder" / "sums.npz"
    solver = ff.Nystrom(10)
    fit(ff.KernelRegression(limit.ntk, 0.1, solver=solver), x, y, checkpoint=kept)
    counted: list[tuple[int, int]] = []
    other = ff.KernelRegression(limit.ntk, 3.0, solver=solver)
    found = fit(other, x, y, checkpoint=kept, progress=_into(counted))
    assert counted == [(60, 60)]
    assert (found.coefficients == other.fit(x, y).coefficients).all()
    with pytest.raises(OutputError, match=r"another job: y\.sha256"):
        fit(other, x, y + 1e-12, checkpoint=kept)
    with pytest.raises(OutputError, match="kernel is nngp and was ntk"):
        fit(ff.KernelRegression(limit.nngp, 0.1, solver=solver), x, y, checkpoint=kept)
    seeded = ff.KernelRegression(limit.ntk, 0.1, solver=ff.Nystrom(10, seed=1))
    with pytest.raises(OutputError, match=r"x2\.sha256"):
        fit(seeded, x, y, checkpoint=kept)
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(OutputError, match="cannot be read"):
        fit(other, x, y, checkpoint=kept)


_SCRIPT = """
import sys, torch, farfield as ff
from farfield.regression import sums
sums._TILE_BYTES, sums._FEWEST_ROWS = 8 * 20 * 10, 1
torch.manual_seed(0)
x = torch.randn(2000, 3, dtype=torch.float64)
limit = ff.infinite_width(ff.mlp(3, [8, 8], 1, norm="layer"), 2.0, 0.1)
regression = ff.KernelRegression(limit.ntk, 0.1, solver=ff.Nystrom(10))
def told(done, total):
    print(done, flush=True)
fitted = ff.scale.fit(
    regression, x, x.sin(), checkpoint=sys.argv[1], every_seconds=0.0, progress=told
)
print(fitted.coefficients.tobytes().hex())
"""


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _SCRIPT]
    whole = subprocess.run(
        [*words, tmp_path / "whole.npz"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert whole[:3] == ["0", "20", "40"]
    killed = tmp_path / "killed.npz"
    process = subprocess.Popen([*words, killed], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 500:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = subprocess.run(
        [*words, killed], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(again[0]) >= 500
    assert again[-1] == whole[-1]


def test_bad_input_is_refused_before_any_work(x: torch.Tensor, tmp_path: Path) -> None:
    def kernel(*args: object) -> torch.Tensor:
        raise AssertionError("the kernel was computed")

    untouched = ff.Kernel(kernel, kernel)
    with pytest.raises(SettingsError, match=r"solver is 'auto'.*ff\.Nystrom"):
        fit(ff.KernelRegression(untouched, 1.0), x, x)
    nystrom = ff.KernelRegression(untouched, 1.0, solver="nystrom")
    with pytest.raises(SettingsError, match="no rows"):
        fit(nystrom, x[:0], x[:0])
    with pytest.raises(SettingsError, match=r"targets have shape \(36, 3\) for 37 inputs"):
        fit(nystrom, x, x[1:])
    with pytest.raises(SettingsError, match=r"must have shape \(n, features\)"):
        fit(nystrom, x[:, 0], x[:, 0])
    with pytest.raises(DataError, match="no file"):
        fit(nystrom, tmp_path / "x.npy", x)
    with pytest.raises(SettingsError, match="Part 1 of the DataLoader"):
        fit(nystrom, DataLoader(TensorDataset(x)))
    with pytest.raises(SettingsError, match="inputs are of type list"):
        fit(nystrom, x, [1.0])
    with pytest.raises(SettingsError, match="There are no targets"):
        fit(nystrom, x)
    with pytest.raises(SettingsError, match="targets are in a DataLoader"):
        fit(nystrom, x, DataLoader(TensorDataset(x, x)))
    bad = x.clone()
    bad[-1, 0] = torch.nan
    with pytest.raises(SettingsError, match=r"1 of the .* numbers of the inputs are NaN"):
        fit(nystrom, bad, x[:, 0], checkpoint=tmp_path / "kept.npz")
    assert not (tmp_path / "kept.npz").exists()


class AnyOrder:
    """Batches of rows, in an order of its own each time."""

    def __init__(self, size: int) -> None:
        self.generator = np.random.default_rng(0)
        self.size = size

    def __iter__(self) -> Iterator[list[int]]:
        order = self.generator.permutation(self.size).tolist()
        return iter([order[k : k + 8] for k in range(0, self.size, 8)])


def test_targets_stay_with_their_inputs(limit: InfiniteWidth, x: torch.Tensor) -> None:
    y = x[:, 0].sin()
    regression = ff.KernelRegression(limit.ntk, 0.1, solver=ff.Nystrom(x[:10]))
    loader = DataLoader(TensorDataset(x, y), batch_sampler=AnyOrder(len(x)))
    found, expected = fit(regression, loader), regression.fit(x, y)
    torch.testing.assert_close(found.predict(x), expected.predict(x))
    uneven = DataLoader([(x[:3], y[:2])], batch_size=None)
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        fit(regression, uneven)


def test_targets_that_are_not_finite(limit: InfiniteWidth, x: torch.Tensor) -> None:
    y = x[:, 0].clone()
    y[20] = torch.nan
    regression = ff.KernelRegression(limit.ntk, 1.0, solver=ff.Nystrom(5))
    with pytest.raises(DataError, match="1 of the 37 numbers of the targets are NaN"):
        fit(regression, x, y)
    with pytest.raises(SettingsError, match="NaN or infinite"):
        fit(regression, x.log(), x[:, 0])
