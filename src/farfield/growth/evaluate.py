"""A model as a function of a batch of inputs, in float64 and without a trace on the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.replaced import run_with

Evaluate = Callable[[Tensor], Tensor]


def evaluator(model: nn.Module, dtype: torch.dtype = torch.float64) -> Evaluate:
    """The model from (n, *shape) to (n, outputs), its outputs flattened one behind the other.

    Args:
        model: The model; it is copied as it is now.
        dtype: The precision of the copy and of what it is called with.

    Returns:
        The function.
    """
    state = wide_state(model, dtype)

    def evaluate(x: Tensor) -> Tensor:
        values = [
            value.reshape(len(value), -1)
            for _, value in tensors_of(run_with(model, state, x))
            if isinstance(value, Tensor)
        ]
        return torch.cat(values, 1)

    return evaluate


def wide_state(model: nn.Module, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Parameters and buffers in one precision; copies, so that nothing changes the model's own.

    Raises:
        SettingsError: One of them holds NaN or infinity.
    """
    state = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        kept = dtype if value.is_floating_point() else value.dtype
        state[name] = value.detach().to("cpu", kept).clone()
        is_parameter = isinstance(value, nn.Parameter)  # a buffer may be a mask of infinities
        if bool(state[name].isnan().any()) or (is_parameter and bool(state[name].isinf().any())):
            raise SettingsError(
                f"The {'parameter' if is_parameter else 'buffer'} {name!r} holds values that are "
                "NaN or infinite; a certificate needs numbers. Did the training diverge?"
            )
    return state


def tensors_of(result: object) -> list[tuple[str, object]]:
    """What ``forward`` returned, one by one and named; what is ``None`` is left out."""
    if isinstance(result, Mapping):
        return [(f"output {key!r}", value) for key, value in result.items() if value is not None]
    if isinstance(result, tuple | list):
        return [(f"output {i}", value) for i, value in enumerate(result) if value is not None]
    return [("output", result)]
