"""Rows of inputs that need not fit in memory: arrays, memory maps, files, loaders."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from farfield import fingerprint
from farfield.errors import DataError, FarfieldError, SettingsError
from farfield.scale.loaders import spooled
from farfield.scale.sources import Mapped, Readable, open_address, open_file

_BLOCK = 2**26  # bytes of rows that are read at once, about
_WIDEST = 8  # bytes of a number

Source = Any
"""Rows of inputs: a tensor, a NumPy array or memory map, a zarr array, the path of a ``.npy`` or
Parquet file or of a zarr array, the address of a zarr array that fsspec knows, or a DataLoader that
does not shuffle."""


@dataclass(frozen=True)
class Rows:
    """Inputs of which some rows are read at a time.

    Attributes:
        source: What holds them: an array; or the place of a file or of a memory map, which each
            process opens itself.
        dtype: What they are converted to; their own dtype if ``None``.
    """

    source: Readable | Path | Mapped
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def _opened(self) -> Readable:
        if isinstance(self.source, Path):
            return open_file(self.source)
        return self.source.opened() if isinstance(self.source, Mapped) else self.source

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
            if array.dtype.kind not in "fiub" or array.dtype.itemsize > _WIDEST:
                raise DataError(
                    f"The rows hold {array.dtype}; they must be real numbers of at most "
                    f"{8 * _WIDEST} bits. Convert them to float64."
                )
            native = array.dtype.newbyteorder("=")
            block = torch.from_numpy(np.array(array, native, order="C"))
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
        return {"shape": list(self.shape), "dtype": dtype, "sha256": self._scanned[0]}

    def check_finite(self, name: str, error: type[FarfieldError]) -> None:
        """Refuse rows that hold NaN or infinite numbers; reads all of them once.

        Args:
            name: What they are, for the message.
            error: What is raised.
        """
        if bad := self._scanned[1]:
            raise error(
                f"{bad} of the {int(np.prod(self.shape)):,} numbers of the {name} are NaN or "
                "infinite; remove or fill those rows."
            )

    @cached_property
    def _scanned(self) -> tuple[str, int]:
        """The digest of all rows, and how many of their numbers are not finite, in one pass."""
        bad = 0

        def counted() -> Iterator[Tensor]:
            nonlocal bad
            for block in self.blocks():
                bad += int((~block.isfinite()).sum())
                yield block

        digest = fingerprint.of_blocks(counted())
        return digest, bad


@contextlib.contextmanager
def opened(source: Source, dtype: torch.dtype | None = None) -> Iterator[Rows]:
    """The rows of whatever holds them.

    A loader can only be read from its beginning to its end, so its rows go through a temporary
    file.

    Args:
        source: See :data:`Source`.
        dtype: What the rows are converted to.

    Yields:
        The rows.

    Raises:
        SettingsError: Nothing that rows can be read from, or a loader that shuffles.
        DataError: A file that is missing or cannot be read.
        MissingExtraError: What an address needs is not installed.
    """
    if isinstance(source, DataLoader):
        with tempfile.TemporaryDirectory(prefix="farfield-rows-") as folder:
            (path,) = spooled(source, Path(folder), 1)
            yield Rows(path, dtype)
        return
    rows = Rows(_held(source), dtype)
    if not rows.shape:
        raise SettingsError("The inputs are a single number; rows have the shape (n, *features).")
    yield rows


@contextlib.contextmanager
def opened_pair(x: Source, y: Source | None, dtype: torch.dtype) -> Iterator[tuple[Rows, Rows]]:
    """Inputs and their targets.

    Of a loader both are read in a single pass: those of another pass can be in another order.

    Args:
        x: Inputs; see :data:`Source`.
        y: Targets; the second part of the batches of a loader when ``None``.
        dtype: What the inputs are converted to; targets become float64.

    Yields:
        Both.

    Raises:
        SettingsError: As :func:`opened`, or no targets.
        DataError: As :func:`opened`.
        MissingExtraError: As :func:`opened`.
    """
    if isinstance(y, DataLoader):
        raise SettingsError(
            "The targets are in a DataLoader; give one whose batches hold inputs and targets as "
            "x, and leave y out."
        )
    if y is None and not isinstance(x, DataLoader):
        raise SettingsError("There are no targets; give y, or a DataLoader of inputs and targets.")
    if y is None:
        with tempfile.TemporaryDirectory(prefix="farfield-rows-") as folder:
            first, second = spooled(x, Path(folder), 2)
            yield Rows(first, dtype), Rows(second, torch.float64)
        return
    with opened(x, dtype) as rows, opened(y, torch.float64) as targets:
        yield rows, targets


def _held(source: Source) -> Readable | Path | Mapped:
    """What holds the rows, none of which are read yet."""
    if isinstance(source, str | Path):
        text = str(source).removeprefix("file://")
        if "://" in text:
            return open_address(text)
        path = Path(text).absolute()  # which processes in other folders understand as well
        open_file(path)
        return path
    if isinstance(source, Tensor):
        if source.is_complex():
            raise SettingsError("The inputs are complex; they must be real numbers.")
        return source.detach()
    if not all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        raise SettingsError(
            f"The inputs are of type {type(source).__name__}; rows are read from a tensor, a NumPy "
            "array or memory map, a zarr array, the path of a .npy, .parquet or .zarr file, or a "
            "DataLoader."
        )
    held: Readable = source
    return (Mapped.of(source) or held) if isinstance(source, np.memmap) else held
