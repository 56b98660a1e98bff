"""Losses of a batch of outputs, and how fast gradient flow on them goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import SettingsError

Loss = str | Callable[[Tensor, Tensor], Tensor]

SQUARED: dict[str, Callable[[int, int], float]] = {
    "mse": lambda points, outputs: 2.0 / (points * outputs),
    "half_sum": lambda points, outputs: 1.0,
}
"""Squared losses with a closed form: the factor of ``f - y`` in their gradient."""


def _half_sum(f: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (f - y).square().sum()


_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "half_sum": _half_sum,
    "cross_entropy": F.cross_entropy,
}


def loss_function(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of outputs and targets that a loss is.

    Raises:
        SettingsError: An unknown name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in _FUNCTIONS:
        raise SettingsError(
            f"The loss {loss!r} is unknown; choose one of {', '.join(_FUNCTIONS)}, or give a "
            "function of outputs and targets that returns a number."
        )
    return _FUNCTIONS[loss]


def gradient(function: Callable[[Tensor, Tensor], Tensor], f: Tensor, y: Tensor) -> Tensor:
    """The derivative of a loss in the outputs, (n, outputs)."""
    with torch.enable_grad():
        outputs = f.detach().requires_grad_()
        value = function(outputs, y)
        if value.ndim:
            raise SettingsError(
                f"The loss returns a tensor of shape {tuple(value.shape)}; it must return one "
                "number, such as the mean over the points."
            )
        (result,) = torch.autograd.grad(value, outputs)
    return result
