"""A tensor that stands for what can be said of a value for every input of a domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from farfield.growth.graph import (
    Affine,
    Free,
    LinearMap,
    Node,
    Place,
    Step,
    affine_degree,
    affine_interval,
)
from farfield.reading import AbstractTensor, RuleTable
from farfield.trail import running_module

RULES = RuleTable(
    "certificates",
    "What to do instead: certify the part of the model before it, or write it with functions "
    "that have a rule; a certificate is never a guess.",
)


@dataclass
class Reading:
    """What one reading of a model has met.

    Attributes:
        nodes: All values, in the order in which they were made.
        notes: What the user should know beside the verdict.
        vocabulary: How many tokens there are, where the input is looked up in a table.
        viewed: Indices of the values of which there are views.
    """

    nodes: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    vocabulary: int | None = None
    viewed: set[int] = field(default_factory=set)

    def add(
        self,
        operation: str,
        lower: Tensor,
        upper: Tensor,
        degree: Tensor,
        step: Step,
        parents: Sequence[Node] = (),
        *,
        simplex: bool = False,
    ) -> Node:
        """A new value; a bounded unit has degree 0."""
        place = Place(*running_module(), operation)
        degree = torch.where(lower.isfinite() & upper.isfinite(), 0.0, degree)
        node = Node(
            len(self.nodes), lower, upper, degree, step, tuple(parents), place, simplex=simplex
        )
        self.nodes.append(node)
        return node

    def note(self, text: str) -> None:
        """Tell the user something, once."""
        if text not in self.notes:
            self.notes.append(text)


class BoundTensor(AbstractTensor):
    """A value of the model, for a batch of one input.

    Attributes:
        node: What is known of it.
        reading: The reading it belongs to.
        is_view: Whether it is a part of another one, or the same in another shape.
    """

    rules: ClassVar[RuleTable] = RULES
    node: Node
    reading: Reading
    is_view: bool

    @staticmethod
    def __new__(
        cls,
        node: Node,
        reading: Reading,
        dtype: torch.dtype = torch.float64,
        is_view: bool = False,
    ) -> BoundTensor:
        """A tensor of the shape of the node."""
        like = torch.empty(0, dtype=dtype)
        tensor: BoundTensor = AbstractTensor.blank(cls, node.shape, like)
        tensor.node = node
        tensor.reading = reading
        tensor.is_view = is_view
        return tensor

    def __init__(
        self,
        node: Node,
        reading: Reading,
        dtype: torch.dtype = torch.float64,
        is_view: bool = False,
    ) -> None:
        pass

    def replace_(self, other: AbstractTensor) -> BoundTensor:
        """Stand for what ``other`` stands for.

        Raises:
            UnsupportedOperation: This is a view, or there are views of it: they would have to
                change too.
        """
        if self.is_view or self.node.index in self.reading.viewed:
            raise RULES.unsupported(
                "an in-place function of a view, or of a value with views",
                "Use the function that returns a new tensor.",
            )
        if isinstance(other, BoundTensor):
            self.node = other.node
        return self

    def affine(
        self,
        operation: str,
        plus: LinearMap | None,
        minus: LinearMap | None = None,
        offset: Tensor | float | int = 0.0,
        *,
        others: Sequence[BoundTensor] = (),
        terms: int | None = None,
        kind: str = "",
        is_view: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> BoundTensor:
        """``plus(x) - minus(x) + offset`` of this and other tensors.

        Args:
            operation: What it is called.
            plus: A linear function of all tensors with coefficients of at least 0.
            minus: Likewise.
            offset: What is added.
            others: Further arguments of ``plus`` and ``minus``.
            terms: An upper bound on the products summed in a unit.
            kind: See :class:`farfield.growth.graph.Affine`.
            is_view: Whether PyTorch's result shares memory with this tensor.
            dtype: ``torch.bool`` for truth values, whose sums are none.

        Returns:
            The result.
        """
        parents = [self.node, *(other.node for other in others)]
        part = plus or minus
        assert part is not None
        shape = part(*(parent.lower for parent in parents)).shape
        full = constant(offset).expand(torch.broadcast_shapes(shape, constant(offset).shape))
        if full.shape != shape:  # the offset broadcasts the linear part
            plus, minus = _expanded(plus, full.shape), _expanded(minus, full.shape)
        most = sum(parent.lower.numel() for parent in parents) if terms is None else terms
        step = Affine(plus, minus, full, most, kind)
        lower, upper = affine_interval(step, parents)
        degree = affine_degree(step, parents)
        node = self.reading.add(operation, lower, upper, degree, step, parents)
        if is_view:
            self.reading.viewed.add(self.node.index)
        return BoundTensor(node, self.reading, dtype, is_view)

    def hull(
        self,
        operation: str,
        lower: Tensor,
        upper: Tensor,
        degree: Tensor | float | int,
        others: Sequence[BoundTensor] = (),
        *,
        simplex: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> BoundTensor:
        """A value of which only the interval is kept; ``degree`` counts where that is infinite."""
        parents = [self.node, *(other.node for other in others)]
        full = constant(degree).expand(lower.shape)
        node = self.reading.add(operation, lower, upper, full, Free(), parents, simplex=simplex)
        return BoundTensor(node, self.reading, dtype)

    @property
    def highest_degree(self) -> float:
        """The largest degree of any unit."""
        return float(self.node.degree.max()) if self.node.degree.numel() else 0.0


def _expanded(part: LinearMap | None, shape: torch.Size) -> LinearMap | None:
    if part is None:
        return None
    return lambda *values: part(*values).expand(shape)


def constant(value: Tensor | float | int) -> Tensor:
    """A number or tensor of the model, as float64 without its history."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", torch.float64)
    return torch.tensor(float(value), dtype=torch.float64)
