"""What a model does with its parameters, learnt from a few samples and then checked.

The graph of a batch says which operations use a parameter, not where in them each sample stands.
That is learnt once for every kind of graph, from batches of 3 and of 4 samples: axes whose sizes
differ hold the samples, and the gradients of one sample's outputs, which vanish at all other
samples, tell their order. On the same samples every rule's gradients are compared with
autograd's own, so that a parameter is either accounted for or taken the slow way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from farfield.empirical.block import Block, Plan
from farfield.empirical.factors import Outer, signals_of, size_of
from farfield.empirical.forward import Forward
from farfield.empirical.graph import Graph, Use, convolves, graph_of, order_of, uses_of
from farfield.empirical.inputs import Inputs, all_finite, count, rows_of
from farfield.empirical.layout import Layout, find_layout
from farfield.empirical.rules import find_rule
from farfield.empirical.signals import gradients_at, signals_at
from farfield.errors import RangeError, UnsupportedOperation

_VIEWS = ("View", "UnsafeView", "Transpose", "TBackward", "Permute", "Unsqueeze", "Squeeze")
_MOVES = ("Index", "Gather", "Scatter", "Take", "Masked", "Sort", "Topk", "PackPadded")
SAMPLES = 4  # of the batch that a plan is learnt from


def learn(forward: Forward, parameters: Mapping[str, Tensor], inputs: Inputs) -> Plan:
    """Find out how a model uses its parameters.

    Args:
        forward: The model. If its images have their channels last, the gradients that the rules
            are compared with are still those of images as they come.
        parameters: The parameters that count.
        inputs: Samples of the kind that is to be understood.

    Returns:
        The plan for graphs of this kind.

    Raises:
        UnsupportedOperation: The outputs of one sample depend on others.
    """
    batch = rows_of(inputs, torch.arange(SAMPLES) % count(inputs))
    outputs = forward(batch)
    fewer = forward(rows_of(batch, slice(0, SAMPLES - 1)))
    last = forward(rows_of(batch, torch.full((2,), SAMPLES - 1)))
    _check_alone(outputs[:-1], fewer)
    _check_alone(outputs[-1:], last[:1])
    names = {id(parameter): name for name, parameter in parameters.items()}
    graph, small = graph_of(outputs, names), graph_of(fewer, names)
    if graph.skeleton != small.skeleton:
        reason = "the operations of the model depend on the samples"
        used = dict.fromkeys(set(graph.leaves.values()) | set(small.leaves.values()), reason)
        return Plan(graph.skeleton, (), {}, used)
    fixed, met = _fixed(graph, small)
    uses = uses_of(graph, fixed)
    nodes = sorted({use.node for use in uses})
    weights = _random_like(outputs)
    plain = replace(forward, channels_last=False)
    compared = plain(batch) if forward.channels_last else outputs
    each = [
        (
            signals_at(outputs, graph, nodes, _only(weights, sample)),
            _gradients(compared, parameters, graph.leaves.values(), _only(weights, sample)),
        )
        for sample in range(SAMPLES)
    ]
    _check_finite(each)
    layouts: dict[int, Layout] = {}
    unsure: set[int] = set()
    for place, node in enumerate(nodes):
        shapes = small.shapes(node)[0], graph.shapes(node)[0]
        found = find_layout(*shapes, [signals[place] for signals, _ in each])
        if found.together:
            met = met or graph.names[node]
        if found.layout is not None:
            layouts[node] = found.layout
        if not found.sure:
            unsure.add(node)
    unordered = [graph.names[node] for node in nodes if node not in layouts]
    if met is not None or unordered:
        own = _alone(plain, parameters, batch, weights)
        _check_gradients(met or unordered[0], own, [gradients for _, gradients in each])
    if met is not None:  # some of the samples, taken out of the batch by what they are
        reason = "the operations of the model depend on the samples"
        return Plan(graph.skeleton, (), {}, dict.fromkeys(graph.leaves.values(), reason))
    known, slow = _with_rules(graph, uses, layouts)
    stacked = {
        node: torch.stack([signals[place] for signals, _ in each]).sum(0, keepdim=True)
        for place, node in enumerate(nodes)
    }
    graph_bytes = _bytes(graph, small, outputs)
    moving = _moving(graph, fixed)
    able = convolves(graph, fixed)
    plan = Plan(graph.skeleton, known, layouts, slow, frozenset(unsure), moving, able, graph_bytes)
    return _checked(plan, Block(plan, graph, stacked, SAMPLES), [own for _, own in each])


def telling(
    forward: Forward, parameters: Mapping[str, Tensor], inputs: Inputs, skeleton: object
) -> Inputs | None:
    """Samples that lead a model through the operations that it takes for the whole batch.

    Some models do more as soon as one sample asks for it, such as where a sequence is padded. That
    sample is found by halving.

    Args:
        forward: The model.
        parameters: The parameters that count.
        inputs: The batch.
        skeleton: What the batch's graph looks like.

    Returns:
        A few samples, the one that tells first; ``None`` if no single sample does.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    first, last = 0, count(inputs)
    while last - first > 1:
        middle = (first + last) // 2
        halves = (first, middle), (middle, last)
        for half in halves:
            rows = torch.arange(*half)
            # Alone, a sample may take another path: batches of one need no broadcasting.
            batch = rows_of(inputs, rows if len(rows) > 1 else rows.repeat(2))
            graph = graph_of(forward(batch), names)
            if graph.skeleton == skeleton:
                first, last = half
                break
        else:
            return None
    return rows_of(inputs, torch.tensor([first, *range(min(SAMPLES - 1, count(inputs)))]))


def _fixed(graph: Graph, small: Graph) -> tuple[list[bool], str | None]:
    """Which nodes depend on parameters alone, and the name of one where samples may meet."""
    fixed, met = [False] * len(graph.nodes), None
    for number in order_of(graph):
        alone = all(fixed[below] for below, _ in graph.inputs[number] if below >= 0)
        constant = graph.shapes(number) == small.shapes(number)
        if constant and not alone:
            met = graph.names[number]
        fixed[number] = alone and constant
    return fixed, met


def _moving(graph: Graph, fixed: Sequence[bool]) -> bool:
    """Whether samples may be put in an order that depends on what they are."""
    return any(
        any(below >= 0 and not fixed[below] for below, _ in graph.inputs[number])
        for number, name in enumerate(graph.names)
        if name.startswith(_MOVES) or name.endswith("Backward")  # an operation of the user's
    )


def _check_alone(outputs: Tensor, others: Tensor) -> None:
    """Refuse outputs that are others among other samples."""
    difference = (outputs - others).abs().max().item()
    allowed = 10 * torch.finfo(outputs.dtype).eps ** 0.5 * outputs.abs().max().item()
    if difference > allowed:
        raise _connected(f"they change by {difference:.2g} with the other samples in the batch")


def _check_finite(each: Sequence[tuple[Sequence[Tensor], Mapping[str, Tensor]]]) -> None:
    for signals, gradients in each:
        for tensor in (*signals, *gradients.values()):
            if not all_finite(tensor):
                raise RangeError(
                    "The gradients of the model are not finite at these inputs, or beyond the "
                    f"range of {tensor.dtype}. Scale the inputs, use model.double(), or leave out "
                    "inputs where the model has no derivative (such as the root of 0)."
                )


def _alone(
    forward: Forward, parameters: Mapping[str, Tensor], batch: Inputs, weights: Tensor
) -> list[dict[str, Tensor]]:
    """Gradients of the weighed outputs of each sample, run through the model alone."""
    found = []
    for sample in range(SAMPLES):
        outputs = forward(rows_of(batch, slice(sample, sample + 1)))
        names = {id(parameter): name for name, parameter in parameters.items()}
        leaves = graph_of(outputs, names).leaves.values()
        found.append(_gradients(outputs, parameters, leaves, weights[sample : sample + 1]))
    return found


def _check_gradients(
    where: str, alone: Sequence[Mapping[str, Tensor]], among: Sequence[Mapping[str, Tensor]]
) -> None:
    """Refuse gradients that are others among other samples."""
    for own, gradients in zip(alone, among, strict=True):
        for name, gradient in gradients.items():
            wanted = own[name] if name in own else torch.zeros_like(gradient)
            allowed = torch.finfo(gradient.dtype).eps ** 0.5 * gradient.norm().item()
            if not (gradient - wanted).norm().item() <= allowed:
                raise _connected(where)


def _connected(where: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"The outputs of one input depend on the other inputs of its batch ({where}), so they "
        "have no kernel between single inputs. Leave out what ties a batch together, such as "
        "statistics of a batch or attention over it."
    )


def _random_like(outputs: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)  # the global one stays as it is
    drawn = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    return drawn.to(outputs)


def _only(weights: Tensor, sample: int) -> Tensor:
    """The weights of one sample's outputs, and zeros."""
    cotangent = torch.zeros_like(weights)
    cotangent[sample] = weights[sample]
    return cotangent


def _gradients(
    outputs: Tensor, parameters: Mapping[str, Tensor], leaves: Iterable[str], cotangent: Tensor
) -> dict[str, Tensor]:
    """Autograd's own gradients with respect to the parameters that a graph holds."""
    used = {name: parameters[name] for name in sorted(set(leaves))}
    found = gradients_at(outputs, list(used.values()), cotangent)
    return dict(zip(used, found, strict=True))


def _with_rules(
    graph: Graph, uses: Sequence[Use], layouts: Mapping[int, Layout]
) -> tuple[tuple[Use, ...], dict[str, str]]:
    """The uses that have rules, and the parameters with a use that has none."""
    slow: dict[str, str] = {}
    for use in uses:
        name = graph.names[use.node]
        if use.node not in layouts:
            reason = f"the samples stand in no order at {name}"
        elif find_rule(name) is None:
            reason = f"{name} has no rule"
        else:
            continue
        slow |= dict.fromkeys(use.source.leaves, reason)
    return tuple(uses), slow


def _bytes(graph: Graph, small: Graph, outputs: Tensor) -> float:
    """What the tensors of the graph take, for one sample."""
    each = 0
    for number, name in enumerate(graph.names):
        if name.startswith(_VIEWS):
            continue
        for shape, less in zip(graph.shapes(number), small.shapes(number), strict=True):
            each += prod(shape) - prod(less)
    return float(each * outputs.element_size())


@torch.no_grad()
def _checked(plan: Plan, block: Block, each: Sequence[Mapping[str, Tensor]]) -> Plan:
    """The plan, with the slow way for parameters whose rules disagree with autograd."""
    slow = dict(plan.slow)
    whole = [
        torch.stack([gradient.double().norm() for gradient in own.values()]).norm().item()
        for own in each
    ]
    resolution = torch.finfo(next(iter(each[0].values())).dtype).eps ** 0.5
    values, signals = 0.0, 0.0
    for name in each[0]:
        if name in slow:
            continue
        factor = block.factor(name)
        if factor is None:
            slow[name] = "a rule does not know this case"
            continue
        if isinstance(factor, Outer) and factor.values is not None:
            values = max(values, size_of(factor.values) / SAMPLES)
        signals += size_of(signals_of(factor)) / SAMPLES
        rows = block.leaf_gradients(name)[:, 0]
        for own, row, total in zip(each, rows, whole, strict=True):
            wanted = own[name].flatten()
            scale = max(wanted.double().norm().item(), 1e-3 * total)
            if not (row - wanted).double().norm().item() <= resolution * scale:
                slow[name] = "a rule disagreed with autograd"
                break
    found = replace(plan, slow=slow, value_bytes=values, signal_bytes=signals)
    return replace(found, maps=_maps(found, block))


def _maps(plan: Plan, block: Block) -> dict[int, tuple[int, int, int]]:
    """Positions, rows and columns of the nodes whose uses are linear maps."""
    found: dict[int, tuple[int, int, int]] = {}
    other = set(plan.unsure)
    for use in (use for uses in plan.fast.values() for use in uses):
        factor = block.of_use(use)
        if not isinstance(factor, Outer):
            other.add(use.node)
            continue
        columns = max(factor.columns, found.get(use.node, (0, 0, 0))[2])
        found[use.node] = factor.positions, factor.rows, columns
    return {node: sizes for node, sizes in found.items() if node not in other}
