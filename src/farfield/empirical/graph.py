"""The graph of a model's gradients: where each parameter meets the samples.

Autograd keeps a node for every operation that a parameter influences. Those that take samples and
a parameter (or a tensor made of parameters alone, such as a transposed or normalised weight) are
the parameter's uses; that the graph is complete is what makes ``backward`` right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

Node = Any  # torch.autograd.graph.Node, whose saved tensors are known to no type checker
_TRANSPOSED = {"TBackward0", "TransposeBackward0"}
_REARRANGED = _TRANSPOSED | {
    "PermuteBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "CloneBackward0",
}

Place = tuple[int, int]  # a node's number, and which of its outputs; -1 where there is no gradient


@dataclass(frozen=True)
class Graph:
    """All nodes that outputs depend on, in a fixed order.

    Attributes:
        nodes: The nodes; equal computations have them in equal order.
        names: What they are called.
        inputs: Where the inputs of each node come from.
        leaves: Number of a node -> name of the parameter that it stands for.
    """

    nodes: list[Node]
    names: tuple[str, ...]
    inputs: tuple[tuple[Place, ...], ...]
    leaves: Mapping[int, str]

    @cached_property
    def skeleton(self) -> tuple[object, ...]:
        """What graphs of the same computation have in common, whatever the number of samples."""
        return self.names, self.inputs, tuple(sorted(self.leaves.items()))

    def shapes(self, number: int) -> list[tuple[int, ...]]:
        """The shapes of what a node computed."""
        return [tuple(meta.shape) for meta in self.nodes[number]._input_metadata]


@dataclass(frozen=True)
class Step:
    """An operation that only gives the entries of a parameter other places.

    Attributes:
        name: Of the node.
        shape: Of what it makes.
        settings: The numbers it was called with, such as dimensions.
    """

    name: str
    shape: tuple[int, ...]
    settings: tuple[object, ...]


@dataclass(frozen=True)
class Source:
    """A tensor made of parameters alone, as the samples meet it.

    Attributes:
        place: Where it comes from.
        leaves: The parameters that it is made of.
        steps: What rearranges a single parameter: empty for a parameter itself, ``None`` if
            anything else happens on the way.
    """

    place: Place
    leaves: tuple[str, ...]
    steps: tuple[Step, ...] | None

    @property
    def flips(self) -> int | None:
        """How often a matrix is transposed; ``None`` if anything else happens on the way."""
        steps = self.steps
        if steps is None or any(s.name not in _TRANSPOSED or len(s.shape) != 2 for s in steps):
            return None
        return len(steps)


@dataclass(frozen=True)
class Use:
    """An operation that takes a source and samples.

    Attributes:
        node: Its number in the graph.
        position: Which of its inputs the source is.
        source: The source.
    """

    node: int
    position: int
    source: Source


def graph_of(outputs: Tensor, names: Mapping[int, str]) -> Graph:
    """Walk from outputs to the parameters.

    Args:
        outputs: Result of a model.
        names: ``id`` of a parameter -> its name, for the parameters that count.

    Returns:
        The graph; empty when nothing needs a gradient.
    """
    root = outputs.grad_fn
    if root is None:
        return Graph([], (), (), {})
    numbers: dict[Node, int] = {root: 0}
    nodes: list[Node] = [root]
    inputs: list[tuple[Place, ...]] = []
    for node in nodes:  # grows while it is walked
        places = []
        for below, output in node.next_functions:
            if below is None:
                places.append((-1, 0))
                continue
            if below not in numbers:
                numbers[below] = len(nodes)
                nodes.append(below)
            places.append((numbers[below], output))
        inputs.append(tuple(places))
    leaves = {
        number: names[id(node.variable)]
        for number, node in enumerate(nodes)
        if hasattr(node, "variable") and id(node.variable) in names
    }
    return Graph(nodes, tuple(node.name() for node in nodes), tuple(inputs), leaves)


def order_of(graph: Graph) -> list[int]:
    """The numbers of the nodes, each behind all of its inputs."""
    order: list[int] = []
    done = [False] * len(graph.nodes)
    for start in range(len(graph.nodes)):
        stack = [(start, False)]
        while stack:
            number, ready = stack.pop()
            if ready:
                order.append(number)
            elif not done[number]:
                done[number] = True
                stack.append((number, True))
                stack += [(n, False) for n, _ in graph.inputs[number] if n >= 0 and not done[n]]
    return order


def convolves(graph: Graph, fixed: Sequence[bool]) -> bool:
    """Whether a model convolves images, and nothing it does depends on where numbers stand.

    Args:
        graph: The graph of its outputs.
        fixed: For each node, whether it depends on parameters alone.

    Returns:
        Also no where samples make the weights of a convolution, so that signals come back through
        gradients with respect to weights (see :mod:`farfield.empirical.channels`).
    """
    found = False
    for number, name in enumerate(graph.names):
        if name.startswith("AsStrided"):
            return False
        if name.startswith("Convolution"):
            weight = graph.inputs[number][1][0]
            if weight >= 0 and not fixed[weight]:
                return False
            found = found or len(graph.shapes(number)[0]) == 4
    return found


def uses_of(graph: Graph, fixed: Sequence[bool]) -> list[Use]:
    """All uses of the parameters that count.

    Args:
        graph: The graph.
        fixed: For each node, whether it depends on parameters alone.

    Returns:
        The uses, in the order of the nodes.
    """
    made_of: dict[int, set[str]] = {}
    steps: dict[int, tuple[Step, ...] | None] = {}
    for number in order_of(graph):
        if not fixed[number]:
            continue
        if number in graph.leaves:
            made_of[number], steps[number] = {graph.leaves[number]}, ()
            continue
        below = [n for n, _ in graph.inputs[number] if n >= 0]
        made_of[number] = set().union(*(made_of[n] for n in below))
        before = steps[below[0]] if below else None
        steps[number] = None
        if graph.names[number] in _REARRANGED and before is not None:
            shape, settings = graph.shapes(number)[0], _settings(graph.nodes[number])
            steps[number] = (*before, Step(graph.names[number], shape, settings))
    uses = []
    for number, places in enumerate(graph.inputs):
        if fixed[number]:
            continue
        for position, place in enumerate(places):
            if place[0] >= 0 and fixed[place[0]] and made_of[place[0]]:
                leaves = tuple(sorted(made_of[place[0]]))
                uses.append(Use(number, position, Source(place, leaves, steps[place[0]])))
    return uses


def _settings(node: Node) -> tuple[object, ...]:
    """The numbers a node was called with, such as the dimensions of a transposition."""
    names = (name for name in sorted(dir(node)) if name.startswith("_saved_"))
    return tuple((name, getattr(node, name)) for name in names)
