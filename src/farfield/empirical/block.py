"""A batch of samples whose gradients are at hand, parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from farfield.empirical.factors import Dense, Factor, Outer, combined
from farfield.empirical.graph import Graph, Node, Place, Use
from farfield.empirical.layout import Layout
from farfield.empirical.rules import Case, find_rule


@dataclass(frozen=True)
class Plan:
    """What is known of one kind of graph; made by :func:`farfield.empirical.plan.learn`.

    Attributes:
        skeleton: The kind.
        uses: All uses of the parameters that count.
        layouts: Number of a node -> where the samples stand in what it computed.
        slow: Parameters that are taken the slow way, sample by sample, and why.
        unsure: Nodes where nothing came back from the samples that the plan was learnt from, so
            that the order of the samples is not known.
        moving: Whether the model may put samples in an order that depends on what they are.
        convolves: Whether the model convolves images, as of
            :func:`farfield.empirical.graph.convolves`.
        graph_bytes: Bytes of a sample's graph.
        value_bytes: Bytes of what went into a sample's largest layer, as its rule needs it.
        signal_bytes: Bytes of a sample's signals, for each direction.
        maps: Number of a node -> positions, rows and columns of its linear maps, where all of its
            uses are linear maps.
    """

    skeleton: tuple[object, ...]
    uses: tuple[Use, ...]
    layouts: Mapping[int, Layout]
    slow: Mapping[str, str]
    unsure: frozenset[int] = frozenset()
    moving: bool = False
    convolves: bool = False
    graph_bytes: float | int = 0
    value_bytes: float | int = 0
    signal_bytes: float | int = 0
    maps: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    @cached_property
    def fast(self) -> dict[str, list[Use]]:
        """The uses of each parameter that is not taken the slow way."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            for name in use.source.leaves:
                if name not in self.slow:
                    found.setdefault(name, []).append(use)
        return found

    @cached_property
    def nodes(self) -> list[int]:
        """The nodes whose signals are needed."""
        return sorted({use.node for uses in self.fast.values() for use in uses})

    def written_at_once(self, directions: int) -> list[Use]:
        """Uses whose gradients and windows take at most half of what their signals would.

        Then the gradients also take fewer operations than Gram matrices. Where the order of the
        samples is tested, all signals are needed.
        """
        if self.moving:
            return []
        uses = {(use.node, use.position): use for uses in self.fast.values() for use in uses}
        found = []
        for use in uses.values():
            positions, rows, columns = self.maps.get(use.node, (0, 0, 1))
            if directions > 1 and 4 * columns <= min(positions, directions * rows):
                found.append(use)
        return found

    @cached_property
    def units(self) -> list[list[str]]:
        """Parameters that meet the samples at the same nodes, such as a weight and its bias."""
        found: dict[tuple[int, ...], list[str]] = {}
        for name, uses in self.fast.items():
            found.setdefault(tuple(sorted({use.node for use in uses})), []).append(name)
        return list(found.values())


@dataclass(frozen=True)
class Block:
    """The graph of a batch and what came back to the uses of its parameters.

    Attributes:
        plan: What is known of graphs of this kind.
        graph: The graph.
        signals: Number of a node -> gradients with respect to what it computed,
            (directions, *shape).
        samples: Their number n.
        written: Node and position of a use -> its gradients (n, directions, entries), for those
            that were written out as the signals came back.
        kept: As of :class:`farfield.empirical.rules.Case`.
    """

    plan: Plan
    graph: Graph
    signals: Mapping[int, Tensor]
    samples: int
    written: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    kept: dict[Node, Tensor] | None = None

    def factor(self, name: str) -> Factor | None:
        """The gradients of every sample with respect to a parameter.

        Their entries may have other places than those of the parameter, the same for all samples.

        Args:
            name: A parameter that is not taken the slow way.

        Returns:
            The gradients, or ``None`` if a rule does not know the case.
        """
        uses = self.plan.fast[name]
        together: dict[object, list[Use]] = {}
        for use in uses:
            together.setdefault(_kind(use), []).append(use)
        parts: list[Factor] = []
        for same in together.values():
            found = [self.of_use(use) for use in same]
            known = [factor for factor in found if factor is not None]
            if len(known) < len(found):
                return None
            factor = combined(known)
            if len(together) > 1 or same[0].source.steps is None:
                factor = self._at_leaf(factor, same[0], name)
            parts.append(factor)
        return combined(parts)

    @torch.no_grad()
    def leaf_factors(self, name: str) -> list[Factor]:
        """The gradients of each use of a parameter, in the order of its entries."""
        parts = []
        for use in self.plan.fast[name]:
            factor = self.of_use(use)
            if factor is None:
                raise AssertionError("the rules know this parameter")
            parts.append(self._at_leaf(factor, use, name))
        return parts

    @torch.no_grad()
    def leaf_gradients(self, name: str) -> Tensor:
        """Their sum written out, (n, directions, entries)."""
        parts = [factor.dense() for factor in self.leaf_factors(name)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def of_use(self, use: Use) -> Factor | None:
        """The gradients of every sample with respect to the source of a use."""
        written = self.written.get((use.node, use.position))
        if written is not None:
            return Dense(written)
        node = self.graph.nodes[use.node]
        rule = find_rule(self.graph.names[use.node])
        if rule is None:
            raise AssertionError("uses without rules are taken the slow way")
        number, output = use.source.place
        shape = self.graph.shapes(number)[output]
        layout, signal = self.plan.layouts[use.node], self.signals[use.node]
        return rule(Case(node, use.position, shape, layout, self.samples, signal, self.kept))

    def _at_leaf(self, factor: Factor, use: Use, name: str) -> Factor:
        """From gradients with respect to a source to those with respect to a parameter."""
        if use.source.steps == ():
            return factor
        flips = use.source.flips
        if flips is not None and isinstance(factor, Outer):
            return replace(factor, transposed=factor.transposed ^ bool(flips % 2))
        leaf = next(n for n, leaf in self.graph.leaves.items() if leaf == name)
        return Dense(_pulled_back(self.graph, use.source.place, leaf, factor.dense()))


def _kind(use: Use) -> object:
    """Uses of one kind have sources whose entries are the parameter's in the same places."""
    source = use.source
    return source.place if source.steps is None else (source.leaves, source.steps)


def _pulled_back(graph: Graph, place: Place, leaf: int, gradients: Tensor) -> Tensor:
    """Chain rule through the steps that are the same for all samples."""
    number, output = place
    shape = graph.shapes(number)[output]
    n, directions, _ = gradients.shape
    variable = graph.nodes[leaf].variable
    (found,) = torch.autograd.grad(
        [GradientEdge(graph.nodes[number], output)],
        [variable],
        [gradients.reshape(n * directions, *shape)],
        retain_graph=True,
        is_grads_batched=True,
    )
    return found.reshape(n, directions, -1)
