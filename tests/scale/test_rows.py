"""Rows come from anywhere, and give the same kernel."""

import pickle
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from farfield.errors import DataError, MissingExtraError, SettingsError
from farfield.infinite.kernel import InfiniteWidth
from farfield.scale import compute
from farfield.scale.rows import Rows, Source, opened


def _sources(x: torch.Tensor, folder: Path) -> dict[str, Source]:
    array = x.numpy()
    np.save(folder / "x.npy", array)
    columns = [f"f{k}" for k in range(array.shape[1])]
    pd.DataFrame(array, columns=columns).to_parquet(folder / "x.parquet", row_group_size=7)
    stored = zarr.create_array(str(folder / "x.zarr"), shape=array.shape, dtype="float64")
    stored[:] = array
    mapped = np.memmap(folder / "raw", dtype="float64", mode="w+", shape=array.shape)
    mapped[:] = array
    address = f"memory://rows/{time.monotonic_ns()}.zarr"
    zarr.create_array(address, data=array)
    return {
        "array": array,
        "zarr": stored,
        "memory map": mapped,
        ".npy": folder / "x.npy",
        "a path as text": str(folder / "x.npy"),
        ".parquet": folder / "x.parquet",
        ".zarr": folder / "x.zarr",
        "an address": address,
        "an address on this disk": f"file://{folder}/x.zarr",
        "the other order of bytes": array.astype(">f8"),
        "loader": DataLoader(TensorDataset(x), batch_size=5),
        "loader of rows": DataLoader(x, batch_size=6),
    }


def test_all_sources_give_the_same_rows(x: torch.Tensor, tmp_path: Path) -> None:
    for name, source in _sources(x, tmp_path).items():
        with opened(source) as rows:
            assert rows.shape == (37, 3), name
            for part in (slice(0, 37), slice(0, 1), slice(6, 8), slice(7, 14), slice(30, 37)):
                assert torch.equal(rows.read(part), x[part]), name
            assert rows.description == Rows(x).description, name


def test_a_memory_map_travels_as_its_place(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).standard_normal((400, 6))
    np.save(tmp_path / "x.npy", numbers)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = (mapped, mapped[7:300], mapped[::3, 1:4], mapped.T, mapped[10:][::-1], mapped.ravel())
    for part in parts:
        with opened(part) as rows:
            travelled = pickle.dumps(rows)
            assert len(travelled) < 1000
            again = pickle.loads(travelled)
            np.testing.assert_array_equal(again.read(slice(2, 5)).numpy(), part[2:5])
            assert again.description == Rows(np.array(part)).description
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    changed[3] = 5.0  # in this process alone
    for part in (changed, mapped + 0.0):
        with opened(part) as rows:
            again = pickle.loads(pickle.dumps(rows))
            np.testing.assert_array_equal(again.read(slice(2, 5)).numpy(), part[2:5])
    with opened(mapped) as rows:
        travelled = pickle.dumps(rows)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(DataError, match="no file"):
        pickle.loads(travelled).read(slice(0, 1))


def test_columns_of_whole_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})
    frame.to_parquet(tmp_path / "x.parquet")
    with opened(tmp_path / "x.parquet", torch.float64) as rows:
        assert rows.read(slice(1, 3)).tolist() == [[2.0, 1.5], [3.0, 2.5]]


def test_a_kernel_from_a_file_and_a_loader(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path
) -> None:
    sources = _sources(x, tmp_path)
    stored = compute(limit.ntk, sources[".parquet"], sources["loader"], tmp_path / "k", tile=10)
    np.testing.assert_allclose(stored.array[:], limit.ntk(x, x.clone()).numpy(), rtol=1e-13)


def test_what_cannot_be_read_is_refused(x: torch.Tensor, tmp_path: Path) -> None:
    for name, text in {
        "nothing.npy": "There is no file",
        "x.csv": "ends with '.csv'",
        "bad.npy": "as a NumPy array",
        "bad.parquet": "as Parquet",
        "bad.zarr": "as a zarr array",
        "words.parquet": "column 'b'",
    }.items():
        path = tmp_path / name
        if name == "words.parquet":
            pd.DataFrame({"a": [1.0], "b": ["x"]}).to_parquet(path)
        elif name != "nothing.npy":
            path.write_text("not at all")
        with pytest.raises(DataError, match=text), opened(path):
            pass
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(DataError, match="as a NumPy array"), opened(tmp_path / "objects.npy"):
        pass
    with pytest.raises(SettingsError, match="of type list"), opened([1.0]):
        pass
    for loader in (
        DataLoader(x, shuffle=True),
        DataLoader(x, sampler=SubsetRandomSampler(range(9))),
        DataLoader(x, batch_sampler=BatchSampler(RandomSampler(x), 4, drop_last=False)),
    ):
        with pytest.raises(SettingsError, match="shuffles"), opened(loader):
            pass
    for array in (np.array(["a"]), np.ones(3, complex), np.ones(3, np.longdouble)):
        with opened(array) as rows, pytest.raises(DataError, match="must be real numbers"):
            rows.read(slice(0, 1))
    with pytest.raises(SettingsError, match="complex"), opened(torch.ones(3, 1) * 1j):
        pass
    for address, text in {
        "memory://rows/nothing.zarr": "cannot be read as a zarr array",
        "nowhere://rows.zarr": "Protocol not known",
    }.items():
        with pytest.raises(DataError, match=text), opened(address):
            pass


def test_an_address_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(zarr, "open_array", missing)
    with pytest.raises(MissingExtraError, match="Install s3fs"), opened("s3://bucket/x.zarr"):
        pass


def test_rows_that_are_not_finite() -> None:
    x = np.ones((5, 2))
    x[3] = np.nan, np.inf
    with opened(x) as rows, pytest.raises(SettingsError, match="2 of the 10 numbers of the inputs"):
        rows.check_finite("inputs", SettingsError)
    with opened(np.arange(4)) as rows:
        rows.check_finite("inputs", SettingsError)
