"""Where a kernel matrix is written: memory that was given, checked, or new memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from farfield.errors import SettingsError

_LARGE = 2**25  # bytes from which the system allocator takes fresh pages for every matrix

Output = Tensor | np.ndarray


def destination(out: object, x1: Tensor, columns: int) -> Tensor:
    """The tensor that a matrix of ``len(x1)`` rows is written to: ``out`` or a new one.

    Raises:
        SettingsError: An ``out`` of another shape, dtype or device, or without memory of its own.
    """
    if out is None:
        return _new_matrix(len(x1), columns, x1)
    target = _writable(out) if isinstance(out, np.ndarray) else out
    if not isinstance(target, Tensor):
        raise SettingsError(
            f"out is {kind_of(out)}; it must be a tensor or a NumPy array, such as a memory map."
        )
    if target.shape != (len(x1), columns) or target.dtype != x1.dtype:
        raise SettingsError(
            f"out has shape {tuple(target.shape)} and dtype {target.dtype}; it must have "
            f"{(len(x1), columns)} and {x1.dtype}, as the kernel has."
        )
    if target.device != x1.device:
        raise SettingsError(
            f"out is on {target.device} and the inputs are on {x1.device}; they must be on the "
            "same device."
        )
    if target.requires_grad:
        raise SettingsError(
            "out requires gradients, so it cannot be overwritten; out.detach() can."
        )
    if any(
        step == 0 and size > 1 for step, size in zip(target.stride(), target.shape, strict=True)
    ):
        raise SettingsError(
            "out is expanded: several of its entries share one place in memory. Give a tensor "
            "with a place for each, such as out.clone()."
        )
    return target


def _writable(out: np.ndarray) -> Tensor:
    """The memory of an array as a tensor."""
    if not out.flags.writeable:
        raise SettingsError(
            "out is a read-only array, so nothing can be written to it; open a memory map with "
            "mode='r+', or give a copy of the array."
        )
    try:
        return torch.from_numpy(out)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"out is an array that PyTorch cannot write to: {error} Give a plain array of the "
            "kernel's dtype."
        ) from error


def check_apart(targets: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """Refuse places to write whose memory belongs to something else that is still needed.

    Raises:
        SettingsError: Memory is shared with the inputs, or by two places.
    """
    if any(target.device.type != "cpu" for target in targets):
        return
    arrays = [_as_array(x) for x in (*inputs, *targets)]
    for number in range(len(inputs), len(arrays)):
        if any(np.shares_memory(arrays[number], other) for other in arrays[:number]):
            raise SettingsError(
                "out shares memory with the inputs or with another out, so that one would "
                "overwrite the other; give a tensor or an array of its own."
            )


def _as_array(x: Tensor) -> np.ndarray:
    """The memory of a CPU tensor, whatever its numbers are (NumPy does not know all of them)."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.detach().view(whole[x.element_size()]).numpy()


def kind_of(value: object) -> str:
    """The type of a value, in words."""
    return f"of type {type(value).__module__}.{type(value).__name__}".replace("builtins.", "")


def _new_matrix(rows: int, columns: int, like: Tensor) -> Tensor:
    """An empty matrix. Large ones ask for large pages: Linux hands out small ones at half speed.

    Filling 72 MB for the first time takes 10 ms in pages of 2 MB, and 50 ms in pages of 4 KB.
    """
    size = rows * columns * like.element_size()
    if like.device.type != "cpu" or size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return like.new_empty((rows, columns))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype).view(rows, columns)
