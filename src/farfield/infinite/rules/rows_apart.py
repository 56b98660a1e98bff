"""Whether a function of a batch is a function of each row alone: found out by changing rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_CLOSE = 1e-9  # products of matrices round differently in other rows
_RANDOM_SETS = 4  # rows that stay, beside the first and the last


@dataclass(frozen=True)
class Change:
    """Something that is done to the rows of a batch.

    Attributes:
        apply: Makes the changed batch.
        expected: What a function of single rows then gives at the rows that stay, from all it gave.
        kept: The rows that stay.
        may_fail: Whether the changed numbers may be no input of the function.
    """

    apply: Callable[[Tensor], Tensor]
    expected: Callable[[Tensor], Tensor]
    kept: Tensor
    may_fail: bool


def changes(rows: int) -> Iterator[Change]:
    """What is tried on a batch.

    All rows are rolled; then some are kept, and the others are exchanged, or replaced by numbers
    beyond all that are there.

    Args:
        rows: Size of the batch.

    Yields:
        One change after the other.
    """
    everything = torch.ones(rows, dtype=torch.bool)
    yield Change(_rolled, _rolled, everything, may_fail=False)
    place = torch.arange(rows)
    # NumPy's, because PyTorch's random numbers are refused while a model is read.
    drawn = torch.from_numpy(np.random.default_rng(rows).random((_RANDOM_SETS, rows)) < 0.5)
    for kept in filter(torch.any, (place == 0, place == rows - 1, *drawn)):
        yield Change(_others(kept, _rolled), _same, kept, may_fail=False)
        yield Change(_others(kept, _above), _same, kept, may_fail=True)
        yield Change(_others(kept, _below), _same, kept, may_fail=True)


def agree(expected: Tensor, found: Tensor) -> bool:
    """Whether rows are equal, up to rounding relative to the largest number of each."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, found)
    size = torch.where(expected.isfinite(), expected.abs(), 0.0).reshape(len(expected), -1)
    rounding = _CLOSE * (size.amax(1) if size.numel() else size.new_zeros(len(size)))
    near = (expected - found).abs() <= rounding.reshape(-1, *[1] * (expected.ndim - 1))
    same = (expected == found) | (expected.isnan() & found.isnan())
    return bool((near | same).all())


def _others(kept: Tensor, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        stays = kept.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(stays, x, change(x))

    return apply


def _same(x: Tensor) -> Tensor:
    return x


def _rolled(x: Tensor) -> Tensor:
    return x.roll(1, 0)


def _above(x: Tensor) -> Tensor:
    return _beyond(x, 1)


def _below(x: Tensor) -> Tensor:
    return _beyond(x, -1)


def _beyond(x: Tensor, sign: int) -> Tensor:
    """Numbers beyond all that are there, in one direction."""
    if x.dtype == torch.bool:
        return torch.full_like(x, sign > 0)
    return torch.full_like(x, 1) * sign * (2 * x.abs().max() + 1)
