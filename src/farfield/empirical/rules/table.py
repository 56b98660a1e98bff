"""The table of rules: what the use of a parameter at a node of a graph means for its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.empirical.factors import Factor, Outer
from farfield.empirical.graph import Node
from farfield.empirical.layout import Layout


@dataclass(frozen=True)
class Case:
    """One use of a source, with all that a rule needs.

    Attributes:
        node: The node, with what it saved.
        position: Which input of the node the source is.
        shape: The shape of the source.
        layout: Where the samples stand in what the node computed.
        samples: Their number n.
        signal: The gradients with respect to what the node computed, (directions, *its shape).
        kept: Node -> what a rule has made of what went in, where it will be asked again.
    """

    node: Node
    position: int
    shape: tuple[int, ...]
    layout: Layout
    samples: int
    signal: Tensor
    kept: dict[Node, Tensor] | None = None

    def once(self, make: Callable[[], Tensor]) -> Tensor:
        """What is the same for all directions of this use."""
        if self.kept is None:
            return make()
        if self.node not in self.kept:
            self.kept[self.node] = make()
        return self.kept[self.node]

    def signals(self) -> Tensor:
        """(n, directions, *shape of a sample)."""
        return self.layout.by_sample(self.signal, self.samples, leading=1)

    def values(self, tensor: Tensor) -> Tensor:
        """A tensor laid out like what the node computed, as (n, *shape of a sample)."""
        return self.layout.by_sample(tensor, self.samples)


Rule = Callable[[Case], Factor | None]
"""Gradients of each sample with respect to the source; ``None`` for a case it does not know."""

RULES: dict[str, Rule] = {}
"""Name of a node -> rule."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of these nodes.

    Args:
        names: The nodes' names without ``Backward0`` (other numbers may follow).

    Returns:
        The decorator, which leaves the rule as it is.
    """

    def decorate(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return decorate


def find_rule(node_name: str) -> Rule | None:
    """The rule of a node, such as ``AddmmBackward0``, if there is one."""
    return RULES.get(node_name.rpartition("Backward")[0])


def spread(case: Case, factor: Tensor | float = 1.0) -> Factor:
    """The gradients of a source that was broadcast against the samples and multiplied.

    Args:
        case: The use; the shape of the source is matched from the right.
        factor: What the source was multiplied with, of the shape that the node computed, or one
            that can be broadcast to it.

    Returns:
        Sums over the entries that share an entry of the source. A vector along the last axis is
        left as a sum over positions, since its kernel is that of the layer's signals.
    """
    shape = case.node._input_metadata[0].shape
    missing = len(shape) - len(case.shape)
    source = (1,) * missing + case.shape
    if source[case.layout.axis] != 1:
        raise AssertionError("a source has no samples")
    summed = [axis for axis in range(len(shape)) if source[axis] == 1]
    if isinstance(factor, Tensor):
        return _weighed(case, factor, summed)
    signals = case.signals()
    kept = [axis for axis in range(len(shape)) if axis not in summed]
    if len(kept) <= 1:
        rest = [axis + 2 for axis in summed]
        ordered = signals.permute(0, 1, *rest, *(axis + 2 for axis in kept))
        flat = ordered.flatten(2, 1 + len(rest))
        rows = flat if kept else flat.unsqueeze(-1)
        return Outer(None, rows.unsqueeze(2)).scaled(float(factor))
    total = signals.sum([axis + 2 for axis in summed]).flatten(2)
    return Outer(None, total[:, :, None, None]).scaled(float(factor))


def _weighed(case: Case, factor: Tensor, summed: list[int]) -> Factor:
    shape = case.node._input_metadata[0].shape
    weights = factor.expand(shape) if factor.shape != shape else factor
    parts = []
    for signal in case.signal:  # one direction at a time, to hold one product at a time
        product = case.layout.by_sample(signal * weights, case.samples)
        parts.append(product.sum([axis + 1 for axis in summed]).reshape(case.samples, -1))
    return Outer(None, torch.stack(parts, 1)[:, :, None, None])
