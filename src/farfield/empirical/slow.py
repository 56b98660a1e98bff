"""Gradients of parameters whose use no rule knows: one backward pass for each sample and output."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from farfield.empirical.factors import Dense
from farfield.empirical.forward import Forward
from farfield.empirical.inputs import Inputs, count, rows_of
from farfield.empirical.outputs import Mode


def slow_gradients(
    forward: Forward, parameters: Mapping[str, Tensor], mode: Mode, inputs: Inputs
) -> dict[str, Dense]:
    """Gradients of every sample, each run through the model alone.

    Args:
        forward: The model.
        parameters: The parameters.
        mode: Which outputs.
        inputs: The samples.

    Returns:
        Name of a parameter -> its gradients.
    """
    n = count(inputs)
    found: dict[str, Tensor] = {}
    for sample in range(n):
        outputs = mode.chosen(forward(rows_of(inputs, slice(sample, sample + 1))))
        cotangents = mode.cotangents(outputs)
        for direction, cotangent in enumerate(cotangents):
            gradients = _gradients(outputs, list(parameters.values()), cotangent)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                if name not in found:
                    shape = (n, len(cotangents), parameter.numel())
                    found[name] = torch.zeros(shape, dtype=parameter.dtype, device=outputs.device)
                if gradient is not None:
                    plain = gradient.to_dense() if gradient.is_sparse else gradient
                    found[name][sample, direction] = plain.flatten()
    return {name: Dense(values) for name, values in found.items()}


def _gradients(
    outputs: Tensor, parameters: list[Tensor], cotangent: Tensor
) -> tuple[Tensor | None, ...]:
    if not outputs.requires_grad:  # this sample takes a path without parameters
        return (None,) * len(parameters)
    return torch.autograd.grad(
        [outputs], parameters, [cotangent], retain_graph=True, allow_unused=True
    )
