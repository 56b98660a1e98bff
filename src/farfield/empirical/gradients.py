"""The gradients of blocks of samples: one run of the model forwards, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from farfield.empirical.block import Block, Plan
from farfield.empirical.channels import learn_with_channels_last
from farfield.empirical.factors import Dense, Factor
from farfield.empirical.forward import Forward, full_precision
from farfield.empirical.graph import graph_of
from farfield.empirical.inputs import Inputs, count, kind_of
from farfield.empirical.outputs import Mode
from farfield.empirical.plan import SAMPLES, learn, telling
from farfield.empirical.signals import run_back, signals_at
from farfield.empirical.slow import slow_gradients
from farfield.errors import RangeError, SettingsError


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


@dataclass
class Passes:
    """Runs blocks of samples through a model, by plans that are learnt once.

    Attributes:
        forward: The model.
        parameters: The parameters that count.
        mode: What becomes of several outputs.
    """

    forward: Forward
    parameters: Mapping[str, Tensor]
    mode: Mode
    _plans: dict[object, Plan] = field(default_factory=dict)
    _channels_last: dict[object, Plan] = field(default_factory=dict)

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

    def plan_of(self, inputs: Inputs, found: Gradients) -> Plan:
        """The plan of larger blocks of such samples.

        Args:
            inputs: A few samples.
            found: Their gradients.

        Returns:
            The plan.
        """
        return self._channels_last.get(kind_of(inputs), found.block.plan)

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
