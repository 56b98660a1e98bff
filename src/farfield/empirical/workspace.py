"""Memory for large intermediate arrays that is used again and again.

The first touch of a fresh page costs more than the arithmetic on its numbers, and PyTorch gives
large arrays back to the system as soon as they are freed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor

Take = Callable[[tuple[int, ...], Tensor], Tensor]
"""An array of a shape, of the dtype and device of a tensor; its numbers are any."""

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def fresh(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An array whose numbers are any.

    Args:
        shape: Its shape.
        like: Has its dtype and device.

    Returns:
        The array. NumPy asks Linux for large pages, whose first touch costs a tenth.
    """
    if like.device.type == "cpu" and like.dtype in _NUMPY:
        return torch.from_numpy(np.empty(shape, _NUMPY[like.dtype]))
    return like.new_empty(shape)


class Workspace:
    """Arrays by name; one of a name is used again when the next of that name is taken."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def of(self, name: str) -> Take:
        """What gives the arrays of a name."""

        def take(shape: tuple[int, ...], like: Tensor) -> Tensor:
            size = prod(shape)
            held = self._held.get(name)
            if held is None or held.numel() < size:
                self._held.pop(name, None)  # before the larger one is made
                del held
                held = self._held[name] = fresh((size,), like)
            return held[:size].view(shape)

        return take
