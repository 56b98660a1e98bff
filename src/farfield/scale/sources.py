"""Files of rows: opened without being read, and told to other processes by their place."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from farfield.errors import DataError, MissingExtraError
from farfield.scale.extra import needs


@runtime_checkable
class Readable(Protocol):
    """What gives rows by a slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *features)."""

    def __getitem__(self, rows: slice) -> Any:
        """Some of the rows."""


@dataclass(frozen=True)
class Mapped:
    """Where a memory map is: other processes map the file themselves.

    Attributes:
        path: The file.
        offset: Of the first number, in bytes.
        shape: Of the array.
        strides: Bytes from one number to the next, along each axis.
        dtype: Of the numbers, in NumPy's words.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.memmap[Any, Any]) -> Mapped | None:
        """The place of a map or a part of one; nothing if its numbers are not in a file."""
        whole: Any = array
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        if not isinstance(whole, np.memmap) or whole.filename is None or whole.mode == "c":
            return None
        if not isinstance(whole.base, mmap.mmap):
            return None
        ahead = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        return cls(
            Path(whole.filename).absolute(), whole.offset + ahead, array.shape, array.strides,
            array.dtype.str,
        )  # fmt: skip

    def opened(self) -> np.ndarray:
        """The array, none of which is read yet."""
        if not self.path.exists():
            raise DataError(f"There is no file {self.path}.")
        numbers = np.memmap(self.path, dtype=np.uint8, mode="r")
        return np.ndarray(self.shape, self.dtype, numbers.data, self.offset, self.strides)


def open_address(address: str) -> Readable:
    """The zarr array at an address that fsspec knows.

    Raises:
        DataError: There is none.
        MissingExtraError: zarr, or what the address needs, is not installed.
    """
    with needs("zarr"):
        import zarr
    try:
        opened: Readable = zarr.open_array(address, mode="r")
    except (ValueError, OSError, KeyError) as error:
        raise DataError(
            f"{address} cannot be read as a zarr array, the only rows that are read from "
            f"addresses: {error}"
        ) from error
    except ImportError as error:  # of the library that fsspec takes for such addresses
        raise MissingExtraError(f"{address} cannot be reached: {error}.") from error
    return opened


def open_file(path: Path) -> Readable:
    """A file's rows, of which none are read yet.

    Raises:
        DataError: It is missing, or cannot be read.
        MissingExtraError: zarr is not installed.
    """
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
