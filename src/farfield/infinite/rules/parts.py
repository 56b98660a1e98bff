"""Some of the units, or of the features of the raw input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from farfield.infinite.limit_tensor import RULES, LimitTensor
from farfield.infinite.rules.arithmetic import mul


@RULES.register(torch.Tensor.__getitem__)
def getitem(x: LimitTensor, index: Any) -> LimitTensor:
    """A range of units, or one of them; never a part of the batch.

    Units of one layer are independent and have the same law, so that disjoint ranges of them are
    independent of each other.
    """
    spelled = index if isinstance(index, tuple) else (index,)
    # On a batch of a size that no other dimension has, to see what happens to the batch.
    rows, size = int(x.shape[0]), 1 + sum(int(length) for length in x.shape)
    try:
        shape = torch.empty((size, *x.shape[1:]), device="meta")[index].shape
    except (IndexError, TypeError) as error:
        raise RULES.unsupported(f"indexing with {index!r}", f"{error}.") from error
    if not shape or shape[0] != size or not all(map(_is_plain, spelled)):
        raise RULES.unsupported(
            f"indexing with {index!r}", "Rows must stay apart: the first index is a full slice."
        )
    last = _of_last_dimension(spelled, x.ndim)
    if tuple(shape[1 : x.ndim - 1]) != tuple(x.shape[1:-1]) or last is None:
        raise RULES.unsupported(
            f"indexing with {index!r}", "Of units, a range along the last dimension has a rule."
        )
    width = int(x.shape[-1])
    start, stop, step = (
        last.indices(width) if isinstance(last, slice) else (last % width, last % width + 1, 1)
    )
    if step != 1:
        raise RULES.unsupported(f"indexing with {index!r}", "Only steps of 1 have a rule.")
    return x.view_of(x.reading.part(x.law, start, stop, width), (rows, *shape[1:]))


def _is_plain(index: object) -> bool:
    return index is Ellipsis or isinstance(index, int | slice)


def _of_last_dimension(index: tuple[Any, ...], ndim: int) -> slice | int | None:
    """The index of the last dimension, if all others are full slices."""
    if Ellipsis in index:
        at = index.index(Ellipsis)
        missing = ndim - len(index) + 1
        index = (*index[:at], *[slice(None)] * missing, *index[at + 1 :])
    full = [*index, *[slice(None)] * (ndim - len(index))]
    if any(part != slice(None) for part in full[:-1]):
        return None
    last: slice | int = full[-1]
    return last


@RULES.register(torch.split, torch.Tensor.split)
def split(
    x: LimitTensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[LimitTensor, ...]:
    """Ranges of the last dimension."""
    _check_last(x, dim, "split")
    width, sizes = int(x.shape[-1]), split_size_or_sections
    if isinstance(sizes, int):
        starts = range(0, width, sizes)
        sizes = [min(sizes, width - start) for start in starts]
    parts, start = [], 0
    for size in sizes:
        parts.append(getitem(x, (Ellipsis, slice(start, start + size))))
        start += size
    return tuple(parts)


@RULES.register(torch.chunk, torch.Tensor.chunk)
def chunk(x: LimitTensor, chunks: int, dim: int = 0) -> tuple[LimitTensor, ...]:
    """So many ranges of the last dimension."""
    _check_last(x, dim, "chunk")
    return split(x, -(-int(x.shape[-1]) // chunks), -1)


@RULES.register(F.glu)
def glu(x: LimitTensor, dim: int = -1) -> LimitTensor:
    """The gated linear unit: one half of the units times the sigmoid of the other half."""
    first, second = chunk(x, 2, dim)
    return mul(first, torch.sigmoid(second))


def _check_last(x: LimitTensor, dim: int, what: str) -> None:
    if dim % x.ndim != x.ndim - 1 or x.ndim < 2:
        raise RULES.unsupported(what, "Only the last dimension, the one of units, has a rule.")


@RULES.register(torch.squeeze, torch.Tensor.squeeze)
def squeeze(x: LimitTensor, dim: int = -1) -> LimitTensor:
    """Leave out the last dimension where it has one entry, as for the only output of a network."""
    _check_last(x, dim, "squeeze")
    return x if x.shape[-1] != 1 else getitem(x, (Ellipsis, 0))
