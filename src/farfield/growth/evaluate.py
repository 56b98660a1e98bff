"""A model as a function of a batch of inputs, in float64 and without a trace on the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.replaced import run_with

Evaluate = Callable[[Tensor], Tensor]


def evaluator(model: nn.Module) -> Evaluate:
    """The model from (n, *shape) to (n, outputs), its outputs flattened one behind the other.

    Args:
        model: The model; it is copied as it is now, in float64.

    Returns:
        The function.
    """
    state = wide_state(model)

    def evaluate(x: Tensor) -> Tensor:
        values = [
            value.flatten(1)
            for _, value in tensors_of(run_with(model, state, x))
            if isinstance(value, Tensor)
        ]
        return torch.cat(values, 1)

    return evaluate


def wide_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers in float64; copies, so that nothing changes the model's own.

    Raises:
        SettingsError: One of them holds NaN or infinity.
    """
    state = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        dtype = torch.float64 if value.is_floating_point() else value.dtype
        state[name] = value.detach().to("cpu", dtype).clone()
        if isinstance(value, nn.Parameter) and not bool(state[name].isfinite().all()):
            raise SettingsError(
                f"The parameter {name!r} holds values that are NaN or infinite; a certificate "
                "needs numbers. Did the training diverge?"
            )
    return state


def tensors_of(result: object) -> list[tuple[str, object]]:
    """What ``forward`` returned, one by one and named; what is ``None`` is left out."""
    if isinstance(result, Mapping):
        return [(f"output {key!r}", value) for key, value in result.items() if value is not None]
    if isinstance(result, tuple | list):
        return [(f"output {i}", value) for i, value in enumerate(result) if value is not None]
    return [("output", result)]
