"""The kernels between blocks of samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.empirical.block import Plan
from farfield.empirical.contraction import Contraction
from farfield.empirical.costs import Pair, clusters
from farfield.empirical.forward import Forward, check_model, full_precision
from farfield.empirical.gradients import Gradients, Passes
from farfield.empirical.inputs import Inputs, all_finite, kind_of
from farfield.empirical.masked import masks_of
from farfield.empirical.memory import Need, scratch_of
from farfield.empirical.outputs import Mode
from farfield.empirical.own import Own
from farfield.empirical.workspace import fresh
from farfield.errors import RangeError, SettingsError

_BLOCK = 256  # side of the blocks that a symmetric matrix is completed in
Groups = Mapping[str, Sequence[str]]
"""Name of a kernel -> the parameters that it is of."""


@dataclass(frozen=True)
class Size:
    """What a kernel is made of.

    Attributes:
        need: Bytes of its blocks.
        outputs: Number of outputs that count.
        like: A tensor of the kernel's dtype and device.
    """

    need: Need
    outputs: int
    like: Tensor


@dataclass
class Engine:
    """Computes blocks and tiles of one kernel.

    Attributes:
        forward: The model.
        parameters: The parameters that count.
        weights: What the kernel of each parameter is multiplied with.
        mode: What becomes of several outputs.
        groups: Which parameters make up which kernel.
        budget: Bytes.
    """

    forward: Forward
    parameters: Mapping[str, Tensor]
    weights: Mapping[str, float]
    mode: Mode
    groups: Groups
    budget: int
    _passes: Passes = field(init=False)
    _sizes: dict[object, Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing of the model is known yet."""
        self._passes = Passes(self.forward, self.parameters, self.mode)

    def gradients(self, inputs: Inputs) -> Gradients:
        """The gradients of a block of samples; see :meth:`Passes.gradients`."""
        return self._passes.gradients(inputs)

    @torch.no_grad()
    @full_precision()
    def tile(self, left: Gradients, right: Gradients) -> dict[str, Tensor]:
        """The kernels between two blocks.

        Args:
            left: The rows.
            right: The columns; the same object on the diagonal.

        Returns:
            Name of a kernel -> (n1, n2), (n1, n2, o) or (n1, o, n2, o).
        """
        same = left is right
        scratch = scratch_of(self.budget)
        found = {}
        for group, members in self.groups.items():
            own = self._own(left) if same else None
            target = self._zeros(left, right)
            contraction = Contraction(target, self.mode.kind, scratch, same, own)
            for unit in _units(left, right, members):
                contraction.add([self._pair(left, right, name) for name in unit])
            values = self._finished(contraction.finish(), same, left.outputs)
            if own is not None:
                self._diagonal(values).copy_(self._averaged(own.total, left.outputs))
            found[group] = values
        _check_finite(found.values())
        return found

    @torch.no_grad()
    @full_precision()
    def own(self, block: Gradients) -> dict[str, Tensor]:
        """The kernel of every sample with itself.

        Args:
            block: The samples.

        Returns:
            Name of a kernel -> (n,), or (n, o) for ``diagonal``, or (n, o, o) for ``full``.

        Raises:
            RangeError: A kernel is not finite.
        """
        found = {}
        for group, members in self.groups.items():
            own = self._own(block)
            for unit in _units(block, block, members):
                for cluster in clusters([self._pair(block, block, name) for name in unit]):
                    masks = masks_of(cluster, self.mode.kind, True)
                    own.add(cluster, masks and masks[0])
            found[group] = self._averaged(own.total, block.outputs)
        _check_finite(found.values())
        return found

    def _own(self, block: Gradients) -> Own:
        shapes = {
            "full": (block.samples, block.outputs, block.outputs),
            "diagonal": (block.samples, block.outputs),
        }
        shape = shapes.get(self.mode.kind, (block.samples,))
        zeros = torch.zeros(shape, dtype=block.like.dtype, device=block.like.device)
        return Own(zeros, self.mode.kind, scratch_of(self.budget))

    def _averaged(self, total: Tensor, outputs: int) -> Tensor:
        if self.mode.kind == "mean":
            return total / outputs
        return total.triu() + total.triu(1).mT if self.mode.kind == "full" else total

    def check(self) -> None:
        """Refuse a model that has changed since its kernel was made.

        Raises:
            SettingsError: It is in training mode now, or has other parameters.
        """
        present = check_model(self.forward.model)
        for name, parameter in self.parameters.items():
            if present.get(name) is not parameter:
                raise SettingsError(
                    f"The parameter {name!r} is not the one that the model had when the kernel was "
                    "made; make a new kernel."
                )

    def size(self, inputs: Inputs) -> Size:
        """What a kernel of such samples is made of.

        Args:
            inputs: A few samples.

        Returns:
            What blocks take, the number of outputs, and a tensor like the kernel.

        Raises:
            SettingsError: As :meth:`check`.
        """
        self.check()
        kind = kind_of(inputs)
        if kind not in self._sizes:
            block = self.gradients(inputs)
            plan = self._passes.plan_of(inputs, block)
            self._sizes[kind] = self._size(block, plan)
        return self._sizes[kind]

    def _size(self, block: Gradients, plan: Plan) -> Size:
        slow = sum(
            self.parameters[name].numel() * self.parameters[name].element_size()
            for name in plan.slow
        )
        each = block.like.element_size()
        pair = each * (block.directions if self.mode.kind == "diagonal" else 1)
        if self.mode.kind == "full":
            pair *= block.directions**2
        signals = block.directions * (plan.signal_bytes + slow)
        if block.directions > 1:
            signals += plan.signal_bytes  # of one direction, until they stand beside the others
        need = Need(plan.graph_bytes, signals, plan.value_bytes, pair * len(self.groups))
        return Size(need, block.outputs, block.like[:0])

    def _pair(self, left: Gradients, right: Gradients, name: str) -> Pair:
        weight = self.weights[name]
        if not left.is_like(right):
            return Pair(left.written_out(name), right.written_out(name), weight)
        first = left.factor(name)
        return Pair(first, first if left is right else right.factor(name), weight)

    def _zeros(self, left: Gradients, right: Gradients) -> Tensor:
        rows, columns = left.samples, right.samples
        shape = self.mode.shape(rows, columns, left.outputs)
        if self.mode.kind == "diagonal":
            shape = (left.outputs, rows, columns)
        return fresh(shape, left.like).zero_()

    def _finished(self, values: Tensor, same: bool, outputs: int) -> Tensor:
        if self.mode.kind == "mean":
            values /= outputs
        if same:
            full = self.mode.kind == "full"
            mirror(values.flatten(2).flatten(0, 1) if full else values)
        return values.permute(1, 2, 0) if self.mode.kind == "diagonal" else values

    def _diagonal(self, values: Tensor) -> Tensor:
        """The entries of pairs of equal samples: (n,), (n, o) or (n, o, o)."""
        if self.mode.kind == "full":
            return values.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        if self.mode.kind == "diagonal":
            return values.diagonal(dim1=0, dim2=1).T
        return values.diagonal()


def mirror(matrices: Tensor) -> None:
    """Copy what is above the diagonal of (..., n, n) below it, block by block."""
    n = matrices.shape[-1]
    order = torch.arange(min(n, _BLOCK), device=matrices.device)
    above = order.unsqueeze(1) <= order
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = matrices[..., rows, rows]
        size = block.shape[-1]
        block.copy_(block.where(above[:size, :size], block.mT))
        matrices[..., start + _BLOCK :, rows] = matrices[..., rows, start + _BLOCK :].mT


def _check_finite(kernels: Iterable[Tensor]) -> None:
    for values in kernels:
        if not all_finite(values):
            raise RangeError(
                f"The kernel grows beyond the range of {values.dtype}, or the model's "
                "gradients are not finite. Scale the inputs, or use model.double()."
            )


def _units(left: Gradients, right: Gradients, members: Sequence[str]) -> list[list[str]]:
    """The parameters that influence both blocks, those with signals in common together."""
    wanted = set(members)
    known = [set(side.block.plan.fast) | set(side.slow) for side in (left, right)]
    wanted &= known[0] & known[1]
    units = [[name for name in unit if name in wanted] for unit in left.block.plan.units]
    grouped = {name for unit in units for name in unit}
    return [unit for unit in units if unit] + [[name] for name in sorted(wanted - grouped)]
