"""What comes back from the outputs to the uses of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from farfield.empirical.block import Block, Plan
from farfield.empirical.graph import Graph, Node, Use
from farfield.empirical.workspace import fresh


def run_back(
    outputs: Tensor, graph: Graph, plan: Plan, cotangents: Sequence[Tensor], samples: int
) -> Block:
    """Propagate every direction back, one at a time.

    Args:
        outputs: Result of the model, (n, o).
        graph: Its graph.
        plan: What is known of it.
        cotangents: What to propagate back, (n, o) each.
        samples: Their number n.

    Returns:
        The gradients of the samples.
    """
    nodes = plan.nodes
    if len(cotangents) == 1:
        found = signals_at(outputs, graph, nodes, cotangents[0])
        alone = {node: signal.unsqueeze(0) for node, signal in zip(nodes, found, strict=True)}
        return Block(plan, graph, alone, samples)
    early = plan.written_at_once(len(cotangents))
    together: dict[int, Tensor] = {}
    written: dict[tuple[int, int], Tensor] = {}
    kept: dict[Node, Tensor] = {}
    for direction, cotangent in enumerate(cotangents):
        found = signals_at(outputs, graph, nodes, cotangent)
        signals = dict(zip(nodes, found, strict=True))
        here = {node: signals.pop(node).unsqueeze(0) for node in {use.node for use in early}}
        block = Block(plan, graph, here, samples, kept=kept)
        for place, gradients in _written_out(block, early):
            if place not in written:
                shape = (samples, len(cotangents), gradients.shape[2])
                written[place] = fresh(shape, gradients)
            written[place][:, direction] = gradients[:, 0]
        for node, signal in signals.items():
            if node not in together:
                together[node] = _stack(len(cotangents), signal)
            together[node][direction] = signal
    return Block(plan, graph, together, samples, written)


def _stack(directions: int, signal: Tensor) -> Tensor:
    """Memory for a node's signals, (directions, *shape), in the order that products want.

    The directions stand directly outside of the channels, so that both together are the rows of a
    product: (n, directions, channels, ...), or (n, ..., directions, channels) of images whose
    channels are last in memory.
    """
    steps = signal.stride()
    axes = sorted(range(signal.ndim), key=lambda axis: (-steps[axis], axis))
    place = axes.index(1) if signal.ndim > 1 else signal.ndim
    sizes = [signal.shape[axis] for axis in axes]
    memory = fresh((*sizes[:place], directions, *sizes[place:]), signal)
    where = [axes.index(axis) + (axes.index(axis) >= place) for axis in range(signal.ndim)]
    return memory.permute(place, *where)


@torch.no_grad()
def _written_out(block: Block, uses: Sequence[Use]) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Node and position of each use with its gradients (n, 1, entries)."""
    for use in uses:
        factor = block.of_use(use)
        if factor is None:
            raise AssertionError("the plan has tried this use")
        yield (use.node, use.position), factor.dense()


def signals_at(
    outputs: Tensor, graph: Graph, nodes: Sequence[int], cotangent: Tensor
) -> list[Tensor]:
    """Gradients with respect to what some nodes computed.

    Args:
        outputs: Result of the model, (n, o).
        graph: Its graph.
        nodes: Numbers of nodes.
        cotangent: What to propagate back, (n, o).

    Returns:
        One gradient for each; zeros where the outputs do not depend on it.
    """
    edges = [GradientEdge(graph.nodes[number], 0) for number in nodes]
    shapes = [graph.shapes(number)[0] for number in nodes]
    return _filled(outputs, edges, shapes, cotangent)


def gradients_at(outputs: Tensor, parameters: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Gradients with respect to parameters, likewise."""
    shapes = [tuple(parameter.shape) for parameter in parameters]
    return _filled(outputs, parameters, shapes, cotangent)


def _filled(
    outputs: Tensor, wanted: Sequence[Any], shapes: Sequence[tuple[int, ...]], cotangent: Tensor
) -> list[Tensor]:
    if not wanted:
        return []
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        [outputs], wanted, [cotangent], retain_graph=True, allow_unused=True
    )
    filled = []
    for gradient, shape in zip(found, shapes, strict=True):
        if gradient is None:
            filled.append(outputs.new_zeros(shape))
        else:
            filled.append(gradient.to_dense() if gradient.is_sparse else gradient)
    return filled
