"""Blocks of samples, and the kernels between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from farfield.empirical.block import Block, Plan
from farfield.empirical.channels import learn_with_channels_last
from farfield.empirical.contraction import Contraction
from farfield.empirical.costs import Pair, clusters
from farfield.empirical.factors import Dense, Factor
from farfield.empirical.forward import Forward, check_model, full_precision
from farfield.empirical.graph import graph_of
from farfield.empirical.inputs import Inputs, count, kind_of
from farfield.empirical.masked import masks_of
from farfield.empirical.memory import Need, scratch_of
from farfield.empirical.outputs import Mode
from farfield.empirical.own import Own
from farfield.empirical.plan import SAMPLES, learn, telling
from farfield.empirical.signals import run_back, signals_at
from farfield.empirical.slow import slow_gradients
from farfield.empirical.workspace import fresh
from farfield.errors import RangeError, SettingsError

_BLOCK = 256  # side of the blocks that a symmetric matrix is completed in
Groups = Mapping[str, Sequence[str]]
"""Name of a kernel -> the parameters that it is of."""


@dataclass(frozen=True)
class Gradients:
    """The gradients of a block of samples, each parameter's when it is asked for.

    Attributes:
        block: Those that rules know.
        slow: Those that were computed sample by sample.
        samples: Number of samples.
        outputs: Number of outputs that count.
        directions: Number of gradients of each sample.
        like: A tensor of the kernel's dtype and device.
    """

    block: Block
    slow: Mapping[str, Dense]
    samples: int
    outputs: int
    directions: int
    like: Tensor

    def factor(self, name: str) -> Factor:
        """The gradients with respect to one parameter.

        Args:
            name: A parameter that influences the outputs.

        Returns:
            The gradients.
        """
        if name in self.slow:
            return self.slow[name]
        found = self.block.factor(name)
        if found is None:
            raise AssertionError("the plan has tried this parameter")
        return found

    def written_out(self, name: str) -> Dense:
        """The same, with every entry in the place that it has in the parameter."""
        return self.slow[name] if name in self.slow else Dense(self.block.leaf_gradients(name))

    def is_like(self, other: Gradients) -> bool:
        """Whether another block's gradients have the same form."""
        left, right = self.block.plan, other.block.plan
        return left.skeleton == right.skeleton and left.slow.keys() == right.slow.keys()


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
    _plans: dict[object, Plan] = field(default_factory=dict)
    _channels_last: dict[object, Plan] = field(default_factory=dict)
    _sizes: dict[object, Size] = field(default_factory=dict)

    @torch.inference_mode(False)
    @torch.enable_grad()
    @full_precision()
    def gradients(self, inputs: Inputs) -> Gradients:
        """Run a block of samples forwards and backwards.

        Args:
            inputs: The samples.

        Returns:
            Their gradients.

        Raises:
            SettingsError: No parameter that counts influences the outputs.
            RangeError: A gradient is not finite.
            UnsupportedOperation: The outputs of one sample depend on others.
        """
        if kind_of(inputs) in self._channels_last and count(inputs) >= SAMPLES:
            try:
                found = self._gradients(inputs, replace(self.forward, channels_last=True))
            except RuntimeError:  # a view that wants the channels first in batches of this size
                found = None
            if found is not None:
                return found
        found = self._gradients(inputs, self.forward)
        if found is None:
            raise AssertionError("images as they come have a plan, if only the slow one")
        return found

    def _gradients(self, inputs: Inputs, forward: Forward) -> Gradients | None:
        """The gradients; ``None`` where these images should not have their channels last."""
        everything = forward(inputs)
        outputs = self.mode.chosen(everything)
        if bool(outputs.isnan().any()):
            raise RangeError(
                f"Outputs of {int(outputs.isnan().flatten(1).any(1).sum())} of {len(outputs)} "
                "inputs are NaN, where the model has no derivatives. Leave these inputs out, scale "
                "them, or use model.double()."
            )
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        graph = graph_of(everything, names)
        if not graph.leaves:
            raise SettingsError(
                "No parameter that counts influences the outputs: those with "
                "requires_grad=False do not, nor those that parameters=... leaves out."
            )
        if forward.channels_last:
            plan = self._channels_last[kind_of(inputs)]
        else:
            plan = self._plan(graph.skeleton, inputs)
        if plan.skeleton != graph.skeleton:  # these samples take other paths through the model
            if forward.channels_last:
                return None
            reason = "the operations of the model depend on the samples"
            plan = Plan(graph.skeleton, (), {}, dict.fromkeys(graph.leaves.values(), reason))
        cotangents = self.mode.cotangents(outputs.detach())
        block = _without_unsure(run_back(outputs, graph, plan, cotangents, count(inputs)))
        if plan.moving:
            block = _without_moved(block, outputs)
        directions = self.mode.directions(outputs.shape[1])
        slow = {name: self.parameters[name] for name in block.plan.slow}
        return Gradients(
            block,
            slow_gradients(self.forward, slow, self.mode, inputs) if slow else {},
            count(inputs),
            outputs.shape[1],
            directions,
            outputs.detach(),
        )

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
        check_model(self.forward.model)
        present = dict(self.forward.model.named_parameters())
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
            plan = self._channels_last.get(kind, block.block.plan)
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

    def _plan(self, skeleton: object, inputs: Inputs) -> Plan:
        kind = skeleton, kind_of(inputs)
        if kind not in self._plans:
            plan = learn(self.forward, self.parameters, inputs)
            if plan.skeleton != skeleton:
                some = telling(self.forward, self.parameters, inputs, skeleton)
                if some is not None:
                    plan = learn(self.forward, self.parameters, some)
            if count(inputs) < SAMPLES:
                return plan  # learnt from copies of the samples, which tell less
            self._plans[kind] = plan
            other = learn_with_channels_last(self.forward, self.parameters, inputs, plan)
            if other is not None:
                self._channels_last[kind[1]] = other
        return self._plans[kind]

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
        # A sum is finite only if all numbers are, and takes a single pass.
        if not math.isfinite(values.sum().item()) and not bool(values.isfinite().all()):
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


def _without_unsure(block: Block) -> Block:
    """Take the slow way where signals come back that the plan has not learnt to order."""
    plan = block.plan
    unsure = plan.unsure & set(block.signals)
    wrong = {node for node in unsure if bool(block.signals[node].any())}
    if not wrong:
        return block
    names = {name for use in plan.uses if use.node in wrong for name in use.source.leaves}
    reason = "the samples that the plan was learnt from told nothing of their order"
    return _slower(block, names, reason)


def _without_moved(block: Block, outputs: Tensor) -> Block:
    """Take the slow way where samples stand in another order than those the plan was learnt from.

    The outputs of each sample are weighed differently: what comes back must be weighed as the
    layouts say.
    """
    plan, n = block.plan, block.samples
    number = torch.arange(n, device=outputs.device)
    weights = (2.0 ** (number % 16) * (1 + (number // 16) / (n // 16 + 1))).to(outputs)
    cotangent = weights.unsqueeze(1).expand_as(outputs).contiguous()
    weighed = signals_at(outputs, block.graph, plan.nodes, cotangent)
    wrong = set()
    for node, signal in zip(plan.nodes, weighed, strict=True):
        layout = plan.layouts[node]
        if signal.shape[layout.axis] != layout.outer * n * layout.inner:
            wrong.add(node)
            continue
        found = layout.by_sample(signal, n).flatten(1)
        wanted = layout.by_sample(block.signals[node].sum(0), n).flatten(1) * weights.unsqueeze(1)
        allowed = torch.finfo(signal.dtype).eps ** 0.5 * wanted.norm(dim=1)
        if not bool(((found - wanted).norm(dim=1) <= allowed).all()):
            wrong.add(node)
    names = {name for use in plan.uses if use.node in wrong for name in use.source.leaves}
    reason = "the order of the samples inside of the model depends on what they are"
    return _slower(block, names, reason) if wrong else block


def _slower(block: Block, names: set[str], reason: str) -> Block:
    """The block with some parameters taken the slow way."""
    slow = {**dict.fromkeys(names, reason), **block.plan.slow}
    return replace(block, plan=replace(block.plan, slow=slow))
