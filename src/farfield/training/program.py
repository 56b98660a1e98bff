"""The gradient of a whole fleet as a flat list of batched tensor operations.

``torch.func.vmap`` and autograd describe the gradient for any module, but cost more than the
arithmetic for small networks. Tracing them once with ``make_fx`` leaves the operations alone; a
few rewrites then drop those that change nothing and fuse a product with the sum behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from farfield.training.fleet import Fleet

aten = torch.ops.aten
_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.expand.default)
_VIEWS = (*_RESHAPES, aten.transpose.int, aten.detach.default)

Gradient = Callable[[list[Tensor], list[Tensor], Tensor, Tensor], tuple[list[Tensor], Tensor]]
"""(parameters, buffers, x, y) -> (gradients, squared errors summed over each network's rows)."""


def trace_gradient(
    fleet: Fleet,
    parameters: list[Tensor],
    buffers: list[Tensor],
    x: Tensor,
    y: Tensor,
    scale: float,
) -> Gradient:
    """Trace the gradient of ``scale * sum((f(x) - y)**2)`` for one or several networks.

    Args:
        fleet: Where the networks belong.
        parameters: Their parameters in the fleet's order; with a first dimension for several
            networks, without for one.
        buffers: Their buffers, likewise.
        x: Inputs ([k,] n, *features) of the shape that will be used.
        y: Targets ([k,] n, *outputs).
        scale: The constant before the sum; 1 / (n * outputs) gives the mean squared error.

    Returns:
        A function of parameters, buffers (changed in place, as BatchNorm does), inputs and
        targets that gives the gradients and, unscaled, each network's sum of squared errors.
    """
    names, buffer_names = list(fleet.parameters), list(fleet.buffers)
    several = parameters[0].dim() == fleet.parameters[names[0]].dim()
    forward = fleet.forward if several else fleet.forward_one

    def gradient(
        parameters: list[Tensor], buffers: list[Tensor], x: Tensor, y: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in parameters]
        with torch.enable_grad():
            outputs = forward(
                dict(zip(names, leaves, strict=True)),
                dict(zip(buffer_names, buffers, strict=True)),
                x,
                training=True,
            )
        error = outputs.detach() - y
        gradients = torch.autograd.grad(
            outputs, leaves, 2.0 * scale * error, materialize_grads=True
        )
        squared = error * error
        return list(gradients), squared.flatten(1).sum(1) if several else squared.sum()

    # Fake tensors: tracing must not update running statistics nor draw random numbers.
    traced = make_fx(gradient, tracing_mode="fake")(parameters, buffers, x, y)
    simplify(traced)
    return traced


def simplify(traced: GraphModule) -> None:
    """Drop operations that change nothing, and fuse products with sums, in place.

    Args:
        traced: A graph of ATen operations as ``make_fx`` gives it.
    """
    for node in list(traced.graph.nodes):
        same = _identity_of(node)
        if same is not None:
            node.replace_all_uses_with(same)
            traced.graph.erase_node(node)
    for node in list(traced.graph.nodes):
        if node.target is aten.add.Tensor and len(node.args) == 2 and not node.kwargs:
            _fuse_sum(traced, node)
    for node in reversed(list(traced.graph.nodes)):
        # Views alone: an operation whose result nobody takes may still draw or change something.
        if node.target in _VIEWS and not node.users:
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()


def _identity_of(node: Node) -> Node | None:
    """The argument that a node only hands on, if that is all it does."""
    source = node.args[0] if node.args and isinstance(node.args[0], Node) else None
    if node.op != "call_function" or source is None:
        return None
    if node.target is aten.detach.default:
        return source
    if node.target in _RESHAPES:
        return source if _shape(node) == _shape(source) else None
    if node.target is aten.mul.Scalar and node.args[1] == 1 and _dtype(node) == _dtype(source):
        return source
    if node.target is aten.transpose.int and source.target is aten.transpose.int:
        dimensions = len(_shape(node))
        swapped, before = (
            {dim % dimensions for dim in step.args[1:] if isinstance(dim, int)}
            for step in (node, source)
        )
        original = source.args[0]
        return original if swapped == before and isinstance(original, Node) else None
    return None


def _fuse_sum(traced: GraphModule, node: Node) -> None:
    """Rewrite ``a + b @ c`` as ``baddbmm`` and ``a * b + c`` as ``addcmul``."""
    left, right = node.args
    for addend, product in ((left, right), (right, left)):
        if not (isinstance(addend, Node) and isinstance(product, Node) and len(product.users) == 1):
            continue
        if _dtype(addend) != _dtype(product) or _shape(product) != _shape(node):
            continue
        if len(_shape(addend)) != len(_shape(product)):
            continue
        if product.target is aten.bmm.default:
            fused = aten.baddbmm.default
        elif product.target is aten.mul.Tensor and all(
            isinstance(factor, Node) and _dtype(factor) == _dtype(addend) for factor in product.args
        ):
            fused = aten.addcmul.default
        else:
            continue
        with traced.graph.inserting_after(node):
            replacement = traced.graph.call_function(fused, (addend, *product.args))
        replacement.meta = node.meta
        node.replace_all_uses_with(replacement)
        traced.graph.erase_node(node)
        traced.graph.erase_node(product)
        return


def _shape(node: Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _dtype(node: Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None
