"""Which vectors of parameters a model adds to its units, as biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from farfield.replaced import run_with

# Names of the functions that add a vector to units; in place they end with an underscore.
_SUMS = {
    *("add", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__rsub__", "__isub__", "rsub"),
    *("subtract", "linear", "addmm", "bilinear", "conv1d", "conv2d", "conv3d"),
}


class _Recorder(TorchFunctionMode):
    """Notes the parameters that a sum meets, while everything runs as usual."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.added: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func``, and look at what it was given."""
        options = kwargs or {}
        result = func(*args, **options)
        name = str(getattr(func, "__name__", ""))
        if (name if name.endswith("__") else name.rstrip("_")) in _SUMS:
            for value in (*args, *options.values()):
                if id(value) in self.names and _is_one_for_each_unit(value, result, name):
                    self.added.add(self.names[id(value)])
        return result


def added_vectors(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> set[str]:
    """The names of the vectors that ``forward`` adds to units, one entry for each.

    This is what the rules of the limit take for a bias (``rules/linear.py``); here ``forward``
    runs on numbers, so that it is known of models that have no limit, too.

    Args:
        model: The model.
        parameters: Its parameters and buffers, in the dtype of the inputs.
        x: A batch of inputs.

    Returns:
        Names of parameters.
    """
    recorder = _Recorder({id(parameter): name for name, parameter in parameters.items()})
    with torch.no_grad(), recorder:
        run_with(model, parameters, x)
    return recorder.added


def _is_one_for_each_unit(value: Tensor, result: object, name: str) -> bool:
    if value.ndim != 1 or not isinstance(result, Tensor) or result.ndim < 2:
        return False
    units = result.shape[1] if name.startswith("conv") else result.shape[-1]
    return len(value) == units
