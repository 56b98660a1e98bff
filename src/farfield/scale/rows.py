"""Rows of inputs that need not fit in memory: arrays, memory maps, files, loaders."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from farfield import fingerprint
from farfield.errors import DataError, SettingsError
from farfield.scale.extra import needs

_BLOCK = 2**26  # bytes of rows that are read at once, about

Source = Any
"""Rows of inputs: a tensor, a NumPy array or memory map, a zarr array, the path of a ``.npy`` or
Parquet file or of a zarr array, or a DataLoader that does not shuffle."""


@runtime_checkable
class Readable(Protocol):
    """What gives rows by a slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *features)."""

    def __getitem__(self, rows: slice) -> Any:
        """Some of the rows."""


@dataclass(frozen=True)
class Rows:
    """Inputs of which some rows are read at a time.

    Attributes:
        source: What holds them: an array, or the path of a file, which each process opens itself.
        dtype: What they are converted to; their own dtype if ``None``.
    """

    source: Readable | Path
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def _opened(self) -> Readable:
        return _open(self.source) if isinstance(self.source, Path) else self.source

    def __getstate__(self) -> dict[str, object]:
        """Only what says where the rows are: open files do not travel to other processes."""
        return {"source": self.source, "dtype": self.dtype}

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *features)."""
        return tuple(self._opened.shape)

    def read(self, rows: slice) -> Tensor:
        """Some of the rows.

        Args:
            rows: Which, without a step.

        Returns:
            (m, *features).
        """
        block = self._opened[rows]
        if not isinstance(block, Tensor):
            array = np.asarray(block)
            if array.dtype.kind not in "fiub":
                raise DataError(
                    f"The rows hold {array.dtype} and not numbers; convert them to float64."
                )
            block = torch.from_numpy(np.array(array, order="C"))
        return block if self.dtype is None else block.to(self.dtype)

    def blocks(self) -> Iterator[Tensor]:
        """All rows, as many at a time as are read well at once."""
        if not len(self):
            return
        first = self.read(slice(0, 1))
        count = max(1, _BLOCK // max(first.numel() * first.element_size(), 1))
        for start in range(0, len(self), count):
            yield self.read(slice(start, min(start + count, len(self))))

    @cached_property
    def description(self) -> dict[str, object]:
        """Shape, dtype and digest of the rows as they are read; reads all of them once."""
        dtype = str(self.read(slice(0, 1)).dtype).removeprefix("torch.")
        digest = fingerprint.of_blocks(self.blocks())
        return {"shape": list(self.shape), "dtype": dtype, "sha256": digest}


@contextlib.contextmanager
def opened(source: Source, dtype: torch.dtype | None = None, part: int = 0) -> Iterator[Rows]:
    """The rows of whatever holds them.

    A loader can only be read from its beginning to its end, so its rows go through a temporary
    file.

    Args:
        source: See :data:`Source`.
        dtype: What the rows are converted to.
        part: Which part of a loader's batches: 0 for inputs, 1 for targets.

    Yields:
        The rows.

    Raises:
        SettingsError: Nothing that rows can be read from, or a loader that shuffles.
        DataError: A file that is missing or cannot be read.
    """
    if isinstance(source, DataLoader):
        with tempfile.TemporaryDirectory(prefix="farfield-rows-") as folder:
            yield Rows(_spooled(source, Path(folder), part), dtype)
        return
    if isinstance(source, str | Path):
        source = Path(source)
        _open(source)
    elif isinstance(source, Tensor):
        source = source.detach()
    elif not all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        raise SettingsError(
            f"The inputs are of type {type(source).__name__}; rows are read from a tensor, a NumPy "
            "array or memory map, a zarr array, the path of a .npy, .parquet or .zarr file, or a "
            "DataLoader."
        )
    rows = Rows(source, dtype)
    if not rows.shape:
        raise SettingsError("The inputs are a single number; rows have the shape (n, *features).")
    yield rows


def _open(path: Path) -> Readable:
    """A file's rows, of which none are read yet."""
    if not path.exists():
        raise DataError(f"There is no file {path}.")
    if path.suffix == ".npy":
        try:
            array: Readable = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read as a NumPy array: {error}") from error
        return array
    if path.suffix == ".parquet":
        return _Parquet(path)
    if path.suffix == ".zarr":
        with needs("zarr"):
            import zarr
        try:
            opened: Readable = zarr.open_array(path, mode="r")
        except (ValueError, OSError, KeyError) as error:
            raise DataError(f"{path} cannot be read as a zarr array: {error}") from error
        return opened
    raise DataError(
        f"{path} ends with {path.suffix or 'nothing'!r}; rows are read from .npy, .parquet and "
        ".zarr files."
    )


class _Parquet:
    """The numeric columns of a Parquet file, read group by group.

    The groups of the last reading are kept: the rows that are read next are often in them.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
        schema = self._file.schema_arrow
        strange = [
            field.name
            for field in schema
            if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        ]
        if strange:
            raise DataError(
                f"The column {strange[0]!r} of {path} is of type {schema.field(strange[0]).type}; "
                "all columns must be numbers."
            )
        metadata = self._file.metadata
        self.shape = (metadata.num_rows, metadata.num_columns)
        groups = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        self._ends = np.cumsum([0, *groups])
        self._last = (range(0), np.empty((0, self.shape[1])))

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        if start >= stop:
            return np.empty((0, self.shape[1]))
        first = int(np.searchsorted(self._ends, start, side="right")) - 1
        last = int(np.searchsorted(self._ends, stop, side="left"))
        groups = range(first, last)
        held, block = self._last  # both at once: other threads read too
        if held != groups:
            columns = self._file.read_row_groups(list(groups)).columns
            block = np.stack([column.to_numpy() for column in columns], axis=1)
            self._last = (groups, block)
        return block[start - self._ends[first] : stop - self._ends[first]]


def _spooled(loader: DataLoader[Any], folder: Path, wanted: int) -> Path:
    """The rows of a loader in a file: its samples, or one of each sample's parts."""
    if isinstance(loader.sampler, RandomSampler):
        raise SettingsError(
            "The DataLoader shuffles, so its rows have no order; make it with shuffle=False."
        )
    raw, count, first = folder / "rows", 0, None
    with raw.open("wb") as file:
        for block in _batches(loader, wanted):
            if first is None:
                first = block[:0]
            if block.dtype != first.dtype or block.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"Batches of the DataLoader differ in their features: "
                    f"{tuple(first.shape[1:])} and {tuple(block.shape[1:])}."
                )
            np.ascontiguousarray(block).tofile(file)
            count += len(block)
    if first is None:
        raise DataError("The DataLoader has no batches.")
    path = folder / "rows.npy"
    with path.open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(first.dtype),
            "fortran_order": False,
            "shape": (count, *first.shape[1:]),
        }
        np.lib.format.write_array_header_1_0(file, header)
        with raw.open("rb") as numbers:
            while piece := numbers.read(_BLOCK):
                file.write(piece)
    raw.unlink()
    return path


def _batches(loader: Iterable[Any], wanted: int) -> Iterator[np.ndarray]:
    for batch in loader:
        parts = batch if isinstance(batch, list | tuple) else (batch,)
        part = parts[wanted] if wanted < len(parts) else None
        if not isinstance(part, Tensor):
            raise SettingsError(
                f"Part {wanted} of the DataLoader's batches is of type {type(part).__name__}; they "
                "must be tensors of inputs, or tuples of inputs and targets."
            )
        yield part.detach().cpu().numpy()
