"""Maxima and sorted values: functions that never decrease in any entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.bound_tensor import RULES, BoundTensor
from farfield.growth.dual import refine

_MONOTONE: tuple[Callable[..., Any], ...] = (
    torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, F.max_pool1d, F.max_pool2d,
    F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d,
    torch.adaptive_max_pool1d, torch._C._nn.adaptive_max_pool2d,
    torch._C._nn.adaptive_max_pool3d, torch.amax, torch.Tensor.amax, torch.amin,
    torch.Tensor.amin, torch.logsumexp, torch.Tensor.logsumexp,
)  # fmt: skip


def _register(function: Callable[..., Any]) -> None:
    name = str(function.__name__)

    @RULES.register(function)
    def rule(x: BoundTensor, *args: Any, **options: Any) -> BoundTensor:
        if options.pop("return_indices", False):
            raise RULES.unsupported(f"{name} with indices", "The values alone have a rule.")
        refine(x.node)
        lower, upper = (_first(function(end, *args, **options)) for end in _ends(x))
        margin = 1e-14 * torch.maximum(lower.abs(), upper.abs()) if "log" in name else 0.0
        return x.hull(name, lower - margin, upper + margin, x.highest_degree)


def _ends(x: BoundTensor) -> tuple[Tensor, Tensor]:
    return x.node.lower, x.node.upper


def _first(value: Any) -> Tensor:
    result: Tensor = value[0] if isinstance(value, tuple) else value
    return result


for _function in _MONOTONE:
    _register(_function)


@RULES.register(torch.max, torch.Tensor.max, torch.min, torch.Tensor.min)
def extreme(x: BoundTensor, *args: Any, **options: Any) -> BoundTensor:
    """Refuse the spellings that also return indices; amax and amin have rules.

    Raises:
        UnsupportedOperation: Always.
    """
    raise RULES.unsupported("max or min", "amax and amin, maximum and minimum have rules.")
