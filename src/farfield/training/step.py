"""One step of an optimiser for a whole fleet."""

from __future__ import annotations

import torch
from torch import Tensor

from farfield.training.fleet import Fleet
from farfield.training.program import Gradient, trace_gradient


class Step:
    """A step on a batch; keeps a traced gradient for each shape of tile.

    Args:
        fleet: The networks, changed by each step.
        optimizer: Adam or gradient descent on the fleet's parameters.
    """

    def __init__(self, fleet: Fleet, optimizer: torch.optim.Optimizer) -> None:
        self._fleet = fleet
        self._optimizer = optimizer
        self._programs: dict[tuple[object, ...], Gradient] = {}
        for parameter in fleet.parameters.values():
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Take the step.

        Args:
            x: A batch for each network (k, n, *features).
            y: Its targets (k, n, *outputs).

        Returns:
            The squared errors before the step, summed over rows and outputs, of each network.
        """
        fleet = self._fleet
        members, rows = fleet.tile(x.shape[1])
        scale = fleet.size / y.numel()
        errors = x.new_zeros(fleet.size)
        with torch.no_grad():
            for first in range(0, fleet.size, members):
                # An index alone drops the dimension: a single network needs no batched ones.
                chosen = first if members == 1 else slice(first, first + members)
                self._accumulate(chosen, x[chosen], y[chosen], rows, scale, errors)
            self._optimizer.step()
        return errors

    def _accumulate(
        self,
        chosen: int | slice,
        x: Tensor,
        y: Tensor,
        rows: int,
        scale: float,
        errors: Tensor,
    ) -> None:
        """Set the gradients of some networks, tile of rows by tile of rows."""
        fleet = self._fleet
        parameters = [tensor[chosen] for tensor in fleet.parameters.values()]
        buffers = [tensor[chosen] for tensor in fleet.buffers.values()]
        totals = [_gradient_of(tensor)[chosen] for tensor in fleet.parameters.values()]
        across = 0 if isinstance(chosen, int) else 1
        tiles = zip(x.split(rows, across), y.split(rows, across), strict=True)
        for index, (x_tile, y_tile) in enumerate(tiles):
            key = (x_tile.shape, x_tile.stride(), y_tile.shape, y_tile.stride(), scale)
            if key not in self._programs:
                self._programs[key] = trace_gradient(
                    fleet, parameters, buffers, x_tile, y_tile, scale
                )
            gradients, squared = self._programs[key](parameters, buffers, x_tile, y_tile)
            errors[chosen] += squared
            if index == 0:
                torch._foreach_copy_(totals, gradients)
            else:
                torch._foreach_add_(totals, gradients)


def _gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
