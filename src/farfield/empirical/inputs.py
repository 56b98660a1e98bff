"""What a model is given: one tensor, several, or named ones; always with the samples first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from farfield.errors import SettingsError

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""A tensor, a tuple or list of tensors (positional), or a mapping (keyword arguments)."""

Rows = slice | Tensor


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors of an input, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)


def as_arguments(inputs: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and keyword arguments of ``forward``."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return tuple(tensors_of(inputs)), {}


def mapped(inputs: Inputs, function: Any) -> Inputs:
    """The same structure, with a function applied to every tensor."""
    if isinstance(inputs, Tensor):
        result: Inputs = function(inputs)
        return result
    if isinstance(inputs, Mapping):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return tuple(function(tensor) for tensor in inputs)


def rows_of(inputs: Inputs, rows: Rows) -> Inputs:
    """Some of the samples."""
    return mapped(inputs, lambda tensor: tensor[rows])


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Several batches, one behind the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    columns = zip(*(tensors_of(part) for part in parts), strict=True)
    tensors = [torch.cat(column) for column in columns]
    return dict(zip(first, tensors, strict=True)) if isinstance(first, Mapping) else tuple(tensors)


def count(inputs: Inputs) -> int:
    """The number of samples."""
    return len(tensors_of(inputs)[0])


def kind_of(inputs: Inputs) -> tuple[object, ...]:
    """What batches of the same kind have in common, whatever the number of samples."""
    return tuple((tuple(tensor.shape[1:]), tensor.dtype) for tensor in tensors_of(inputs))


def is_image(tensor: Tensor) -> bool:
    """Whether a tensor may hold images, (n, channels, height, width)."""
    return tensor.ndim == 4 and tensor.is_floating_point()


def with_channels_last(tensor: Tensor) -> Tensor:
    """A copy of images with their channels last in memory; other tensors as they are."""
    if not is_image(tensor):
        return tensor
    # Of a single channel, only the strides of a new tensor say that it is the last.
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor.detach())


def all_finite(tensor: Tensor) -> bool:
    """Whether all real numbers of a tensor are finite."""
    # A sum is finite only if all numbers are, and takes a single pass.
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def check_inputs(inputs: object) -> None:
    """Refuse what is not a batch of finite real numbers or integers.

    Args:
        inputs: What the user gave.

    Raises:
        SettingsError: No tensor, no samples dimension, different numbers of samples, complex
            numbers, NaN or infinity, or no numbers at all.
    """
    given: list[object] = []
    if isinstance(inputs, Tensor):
        given = [inputs]
    elif isinstance(inputs, Mapping):
        given = list(inputs.values())
    elif isinstance(inputs, Sequence):
        given = list(inputs)
    tensors = [tensor for tensor in given if isinstance(tensor, Tensor)]
    if not tensors or len(tensors) < len(given):
        raise SettingsError(
            f"The inputs are of type {type(inputs).__name__}; give a tensor (n, *features), a "
            "tuple of tensors, a mapping from the names of forward's arguments to tensors, or a "
            "DataLoader of such batches."
        )
    sizes = [tensor.shape[0] if tensor.ndim else None for tensor in tensors]
    if None in sizes or len(set(sizes)) > 1:
        raise SettingsError(
            f"The shapes of the inputs are {', '.join(str(tuple(t.shape)) for t in tensors)}; all "
            "must begin with the same number of samples."
        )
    for tensor in tensors:
        if tensor.is_meta:
            raise SettingsError(
                "An input is on the meta device, where it has no values; give one that has."
            )
        if tensor.is_complex():
            raise SettingsError(
                "An input is complex; only real and integer inputs are allowed. Give its real "
                "and imaginary parts, such as with torch.view_as_real(x)."
            )
        if tensor.is_floating_point() and not all_finite(tensor):
            wrong = int((~tensor.isfinite()).sum())
            raise SettingsError(
                f"{wrong} of the {tensor.numel()} numbers of the inputs are NaN or infinite; a "
                "kernel needs finite inputs. Remove or fill those rows."
            )
