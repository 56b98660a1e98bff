"""A kernel matrix in a zarr array, each tile of it complete or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from farfield.errors import DataError, OutputError, SettingsError
from farfield.kernel import Kernel
from farfield.scale.extra import needs
from farfield.scale.job import SAME, Job, differences
from farfield.scale.rows import opened

_KEY = "farfield"  # under which a store's attributes hold the description of its job
_UNFINISHED = "*.partial"  # zarr's files that a kill leaves behind
_UNDESCRIBED = "zarr.*.partial"  # the first of them


@dataclass(frozen=True, eq=False)
class StoredKernel:
    """A kernel matrix on a disk or in an object store, read tile by tile.

    Every tile carries a checksum (CRC-32C, zarr's own codec), which each reading tests.

    Attributes:
        address: Where it is: a folder, or an address that fsspec knows.
        array: The zarr array, (n1, n2), which other programs can open too.
    """

    address: str
    array: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(n1, n2)."""
        high, wide = self.array.shape
        return int(high), int(wide)

    @property
    def side(self) -> int:
        """Rows and columns of a tile."""
        return int(self._job["tile"])

    @property
    def description(self) -> Mapping[str, object]:
        """The job that made it: the kernel, digests of the inputs, versions."""
        found: Mapping[str, object] = self.array.attrs[_KEY]
        return found

    @property
    def symmetric(self) -> bool:
        """Whether it is the kernel of inputs with themselves."""
        return bool(self._job["x2"] == SAME)

    @property
    def _job(self) -> Mapping[str, Any]:
        job: Mapping[str, Any] = self.array.attrs[_KEY]["job"]
        return job

    @property
    def complete(self) -> bool:
        """Whether all tiles are there; their checksums are tested when they are read."""
        return bool(self.array.nchunks_initialized == self.array.nchunks)

    def spans(self) -> Iterator[tuple[slice, slice]]:
        """The rows and columns of each tile; for a symmetric matrix of those on one side."""
        high, wide = self.shape
        for top in range(0, high, self.side):
            for left in range(top if self.symmetric else 0, wide, self.side):
                yield (
                    slice(top, min(top + self.side, high)),
                    slice(left, min(left + self.side, wide)),
                )

    def tile(self, rows: slice, columns: slice) -> Float[np.ndarray, "m k"] | None:
        """The values of one tile, or nothing if it is absent or damaged."""
        try:
            values: np.ndarray = self.array[rows, columns]
        except (ValueError, OSError):  # the checksum is another, or the file is cut off
            return None
        return values if np.isfinite(values).all() else None

    def read(self, rows: slice, columns: slice) -> Float[np.ndarray, "m k"]:
        """The values of one tile.

        Raises:
            DataError: It is absent or damaged.
        """
        values = self.tile(rows, columns)
        if values is None:
            raise DataError(
                f"The tile of rows {rows.start} to {rows.stop} and columns {columns.start} to "
                f"{columns.stop} in {self.address} is absent or damaged; compute the kernel again "
                "into the same store, which computes what is missing."
            )
        return values

    def multiply(self, vectors: Float[np.ndarray, "n2 k"]) -> Float[np.ndarray, "n1 k"]:
        """The product of the matrix and some vectors; each tile is read once.

        Args:
            vectors: (n2, k).

        Returns:
            (n1, k), in float64.

        Raises:
            DataError: A tile is absent or damaged.
        """
        product = np.zeros((self.shape[0], vectors.shape[1]))
        for rows, columns in self.spans():
            values = self.read(rows, columns)
            product[rows] += values @ vectors[columns]
            if self.symmetric and rows != columns:
                product[columns] += values.T @ vectors[rows]
        return product

    def check_made_of(self, kernel: Kernel, x: Tensor) -> None:
        """Refuse to stand for another matrix than ``kernel(x, x)``.

        Args:
            kernel: The kernel that is meant.
            x: Its inputs, in the dtype in which it is computed.

        Raises:
            SettingsError: The store belongs to other inputs or another kernel.
            DataError: It is not finished.
        """
        if not self.complete:
            raise DataError(
                f"The kernel in {self.address} is not finished; compute it again into the same "
                "store to go on."
            )
        with opened(x) as rows:
            meant = Job(kernel, rows, rows, self.side).description()
        # Of other versions the values count, which are compared as well.
        meant["job"]["versions"] = self._job["versions"]
        found = differences(self.description, meant)
        if found:
            raise SettingsError(
                f"The kernel in {self.address} is of another job: {'; '.join(found)}. Compute one "
                "of these inputs, in the regression's kernel_dtype, with this kernel."
            )

    def write(self, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Write one tile, in one piece: a kill leaves it complete or as it was.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            self.array[rows, columns] = values
        except OSError as error:
            raise OutputError(
                f"Cannot write to {self.address}: {error.strerror or error}. All tiles written "
                "before are complete; free some space and run the same again to go on."
            ) from error


def open_kernel(store: str | Path) -> StoredKernel:
    """Open a kernel that :func:`farfield.scale.compute` has finished.

    Args:
        store: Its folder or address.

    Returns:
        The kernel.

    Raises:
        DataError: There is none, or it is not finished.
        MissingExtraError: zarr is not installed.
    """
    stored = _opened(store, "r")
    if stored is None:
        raise DataError(f"There is no kernel in {store}.")
    if not stored.complete:
        raise DataError(
            f"The kernel in {store} is not finished: {stored.array.nchunks_initialized} of "
            f"{stored.array.nchunks} tiles are there. Compute it again into the same store to go on"
        )
    return stored


def prepare(job: Job, store: str | Path, *, resume: bool) -> StoredKernel:
    """The store of a job: a new one, or that of an earlier run of the same job.

    Args:
        job: What is to be computed.
        store: A folder or an address that fsspec knows.
        resume: Whether an earlier run may go on.

    Returns:
        The store.

    Raises:
        OutputError: The store belongs to another job, to another program, or to an earlier run
            that may not go on; or it cannot be written.
        MissingExtraError: zarr is not installed.
    """
    description = job.description()
    before = _opened(store, "r+")
    if before is None:
        _remove_unfinished(store)
        return _created(job, store, description)
    if not resume:
        raise OutputError(
            f"There is a kernel in {store} already; resume that run, or choose another store."
        )
    if found := differences(before.description, description):
        raise OutputError(
            f"The kernel in {store} is of another job: {'; '.join(found)}. Choose another store, "
            "or remove this one."
        )
    _remove_unfinished(store)
    return before


def _remove_unfinished(store: str | Path) -> None:
    if "://" not in str(store):
        for leftover in Path(store).rglob(_UNFINISHED):
            leftover.unlink(missing_ok=True)


def _created(job: Job, store: str | Path, description: dict[str, Any]) -> StoredKernel:
    import zarr
    from zarr.codecs import Crc32cCodec

    try:
        array = zarr.create_array(
            str(store),
            shape=job.shape,
            chunks=tuple(min(job.side, size) for size in job.shape),
            dtype=description["job"]["dtype"],
            fill_value=float("nan"),
            filters=None,
            compressors=[Crc32cCodec()],
            attributes={_KEY: description},
            config={"write_empty_chunks": True},
        )
    except OSError as error:
        raise OutputError(
            f"Cannot make the store {store}: {error.strerror or error}. Choose another place."
        ) from error
    return StoredKernel(str(store), array)


def _opened(store: str | Path, mode: str) -> StoredKernel | None:
    """The kernel in a store, if there is anything."""
    with needs("zarr"):
        import zarr
        from zarr.errors import NodeNotFoundError
    local = "://" not in str(store)
    if local and Path(store).is_file():
        raise OutputError(f"{store} is a file; a store is a folder.")
    try:
        array = zarr.open_array(str(store), mode=mode)
    except (FileNotFoundError, NodeNotFoundError):
        array = None
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{store} cannot be read as a zarr array: {error}") from error
    if array is None:
        # A kill while a store is made leaves nothing but its unfinished description.
        if local and any(not path.match(_UNDESCRIBED) for path in Path(store).glob("*")):
            raise OutputError(
                f"The folder {store} holds something else than a kernel; choose another one."
            )
        return None
    if _KEY not in array.attrs:
        raise OutputError(
            f"The zarr array in {store} is not a kernel of farfield's; choose another store."
        )
    return StoredKernel(str(store), array)
