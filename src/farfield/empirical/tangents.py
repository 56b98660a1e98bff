"""How outputs change when parameters move: forward-mode derivatives of a module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

Run = Callable[[Sequence[Tensor]], Tensor]
"""Outputs of a model whose parameters have other values."""


@lru_cache
def load() -> None:
    """Let PyTorch load what forward mode needs, without a word of what it will do differently."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def moved(run: Run, parameters: Sequence[Tensor], directions: Sequence[Tensor]) -> Tensor:
    """The derivative of outputs along a direction of the parameters, ``J d``.

    Forward-mode differentiation where every operation has it. Else the transpose of the
    transpose: ``w -> J^T w`` is linear, and its own transpose is ``J``.

    Args:
        run: The model.
        parameters: Where to differentiate.
        directions: How each parameter moves; the result can be differentiated by it.

    Returns:
        A tensor like the outputs.
    """
    load()
    # Unlike forward_ad's own levels these can be nested, for expansions of expansions.
    before = tuple(parameter.detach() for parameter in parameters)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            pair: tuple[Tensor, Tensor] = torch.func.jvp(
                lambda *values: run(values), before, tuple(directions)
            )[:2]
            return pair[1]
    except NotImplementedError:
        return _transposed_twice(run, parameters, directions)


def _transposed_twice(
    run: Run, parameters: Sequence[Tensor], directions: Sequence[Tensor]
) -> Tensor:
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        outputs = run(leaves)
        cotangent = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, leaves, cotangent, create_graph=True, allow_unused=True
        )
        products = [
            (gradient * direction).sum()
            for gradient, direction in zip(pulled, directions, strict=True)
            if gradient is not None
        ]
        differentiable = any(direction.requires_grad for direction in directions)
        (result,) = torch.autograd.grad(
            torch.stack(products).sum(), cotangent, create_graph=differentiable
        )
    return result


class NormsWrittenOut(TorchFunctionMode):
    """LayerNorm and InstanceNorm from sums and products.

    PyTorch's own forward-mode derivatives of them are right once; differentiated again they take
    the statistics for constants, silently.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, or what stands for it."""
        own = {
            F.layer_norm: _layer_norm,
            torch.layer_norm: _layer_norm,
            F.instance_norm: _instance_norm,
        }
        return own.get(func, func)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,  # noqa: A002 - as PyTorch calls it
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    normed = _normed(input, input.ndim - len(normalized_shape), eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _instance_norm(
    input: Tensor,  # noqa: A002 - as PyTorch calls it
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return F.instance_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps
        )  # fmt: skip
    shape = (-1, *(1,) * (input.ndim - 2))
    normed = _normed(input, 2, eps)
    normed = normed if weight is None else normed * weight.view(shape)
    return normed if bias is None else normed + bias.view(shape)


def _normed(values: Tensor, first: int, eps: float) -> Tensor:
    """Over the dimensions from ``first`` on: mean 0, variance 1."""
    over = tuple(range(first, values.ndim))
    centred = values - values.mean(over, keepdim=True)
    return centred * (centred.square().mean(over, keepdim=True) + eps).rsqrt()
