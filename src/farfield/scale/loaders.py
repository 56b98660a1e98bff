"""Loaders, which are read from their beginning to their end: their rows go into files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from farfield.errors import DataError, SettingsError

_BLOCK = 2**26  # bytes that are copied at once
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def spooled(loader: DataLoader[Any], folder: Path, parts: int) -> list[Path]:
    """Write the rows of a loader to files, one for each part of its batches, in a single pass.

    Args:
        loader: Gives batches: tensors, or tuples of them.
        folder: Where the files shall be.
        parts: How many parts are wanted: 1 for the inputs, 2 for the targets as well.

    Returns:
        The files, which NumPy can map.

    Raises:
        SettingsError: The loader shuffles, or its batches have no such parts.
        DataError: Its batches differ, or there are none.
    """
    for sampler in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        if isinstance(sampler, _SHUFFLING):
            raise SettingsError(
                "The DataLoader shuffles, so its rows have no order; make it with shuffle=False."
            )
    raws = [folder / f"rows{part}" for part in range(parts)]
    count = 0
    firsts: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(raw.open("wb")) for raw in raws]
        for blocks in _batches(loader, parts):
            firsts = firsts or [block[:0] for block in blocks]
            _check(blocks, firsts)
            for block, file in zip(blocks, files, strict=True):
                np.ascontiguousarray(block).tofile(file)
            count += len(blocks[0])
    if not firsts:
        raise DataError("The DataLoader has no batches.")
    return [_as_npy(raw, first, count) for raw, first in zip(raws, firsts, strict=True)]


def _check(blocks: Sequence[np.ndarray], firsts: Sequence[np.ndarray]) -> None:
    """Refuse batches that do not fit each other."""
    for block, first in zip(blocks, firsts, strict=True):
        if block.dtype != first.dtype or block.shape[1:] != first.shape[1:]:
            raise DataError(
                f"Batches of the DataLoader differ in their features: {tuple(first.shape[1:])} of "
                f"{first.dtype} and {tuple(block.shape[1:])} of {block.dtype}."
            )
        if len(block) != len(blocks[0]):
            raise DataError(
                f"A batch of the DataLoader has {len(blocks[0])} inputs and {len(block)} targets."
            )


def _as_npy(raw: Path, first: np.ndarray, count: int) -> Path:
    """A file of numbers with NumPy's header before them."""
    path = raw.with_suffix(".npy")
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


def _batches(loader: Iterable[Any], parts: int) -> Iterator[list[np.ndarray]]:
    for batch in loader:
        held = batch if isinstance(batch, list | tuple) else (batch,)
        blocks = []
        for part in range(parts):
            values = held[part] if part < len(held) else None
            if not isinstance(values, Tensor) or not values.ndim:
                raise SettingsError(
                    f"Part {part} of the DataLoader's batches is of type {type(values).__name__}; "
                    "they must be tensors of inputs, or tuples of inputs and targets."
                )
            blocks.append(values.detach().cpu().numpy())
        yield blocks
