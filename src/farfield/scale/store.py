"""A kernel matrix in a zarr array, each tile of it complete or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from farfield.errors import DataError, OutputError, SettingsError
from farfield.kernel import Kernel
from farfield.scale.job import KEY, SAME, Job, differences
from farfield.scale.rows import opened


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
        found: Mapping[str, object] = self.array.attrs[KEY]
        return found

    @property
    def symmetric(self) -> bool:
        """Whether it is the kernel of inputs with themselves."""
        return bool(self._job["x2"] == SAME)

    @property
    def _job(self) -> Mapping[str, Any]:
        job: Mapping[str, Any] = self.array.attrs[KEY]["job"]
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
            SettingsError: Vectors of another shape.
            DataError: A tile is absent or damaged.
        """
        if np.ndim(vectors) != 2 or len(vectors) != self.shape[1]:
            raise SettingsError(
                f"The vectors have shape {np.shape(vectors)}; for a kernel of shape {self.shape} "
                f"it must be ({self.shape[1]}, k), a column for each vector."
            )
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
