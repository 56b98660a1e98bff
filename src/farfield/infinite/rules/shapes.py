"""Functions that move units around without changing them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from farfield.infinite.laws import Data, blend, mixed, positions
from farfield.infinite.limit_tensor import COPY, RULES, LimitTensor
from farfield.infinite.rules.parts import squeeze
from farfield.reading import ASK


@RULES.register(torch.Tensor.contiguous)
def contiguous(x: LimitTensor, **options: object) -> LimitTensor:
    """The same tensor."""
    return x


@RULES.register(torch.Tensor.clone, torch.clone, mark=COPY)
def clone(x: LimitTensor, **options: object) -> LimitTensor:
    """The same units in a tensor of its own."""
    return x.with_law(x.law)


@RULES.register(
    torch.Tensor.to, torch.Tensor.float, torch.Tensor.double, torch.Tensor.type_as, mark=COPY
)
def cast(x: LimitTensor, *args: object, **options: object) -> LimitTensor:
    """The same units, perhaps in the same memory: the laws have a precision of their own."""
    return x.view_of(x.law, tuple(x.shape))


@RULES.register(F.dropout, torch.dropout, F.alpha_dropout, F.feature_alpha_dropout, mark=ASK)
def dropout(x: LimitTensor, p: float | int = 0.5, training: bool = False) -> LimitTensor:
    """Nothing in eval mode.

    Raises:
        UnsupportedOperation: In training mode.
    """
    if training and p > 0:
        raise RULES.unsupported(
            "dropout in training mode", "Call model.eval() first: the limit is of the eval mode."
        )
    return x


@RULES.register(torch.flatten, torch.Tensor.flatten, mark=ASK)
def flatten(x: LimitTensor, start_dim: int = 0, end_dim: int = -1) -> LimitTensor:
    """Merge dimensions: of the raw input any, of units the positions with the units.

    A linear map sees the merged units as the average over the positions.
    """
    first, last = start_dim % x.ndim, end_dim % x.ndim
    if first == 0 and x.ndim > 1:
        raise RULES.unsupported("flatten of the batch dimension", "Rows must stay apart.")
    shape = (*x.shape[:first], -1, *x.shape[last + 1 :]) if last > first else tuple(x.shape)
    return reshape(x, shape)


@RULES.register(torch.reshape, torch.Tensor.reshape, torch.Tensor.view, mark=ASK)
def reshape(x: LimitTensor, *shape: int | torch.Size | tuple[int, ...]) -> LimitTensor:
    """Another shape: of the raw input any, of units the one they have."""
    first = shape[0]
    wanted = tuple(first) if isinstance(first, tuple) else tuple(int(str(s)) for s in shape)
    rows = int(x.shape[0])
    if wanted in ((-1,), (rows,)) and x.shape[1:].numel() == 1:
        return squeeze(reshape(x, (rows, 1)))  # the only output, without its dimension
    if wanted[0] not in (rows, -1) or len(wanted) < 2:
        raise RULES.unsupported(f"reshape to {wanted}", "The batch must stay the first dimension.")
    full = tuple(torch.empty(tuple(x.shape), device="meta").reshape(wanted).shape)
    if full == tuple(x.shape):
        return x
    if full[0] != rows:
        raise RULES.unsupported(f"reshape to {wanted}", "Rows must stay apart.")
    if not isinstance(x.law, Data):
        if len(full) != 2:
            raise RULES.unsupported(
                f"reshape of units from {tuple(x.shape)} to {full}",
                "Units may be merged with all positions, as Flatten does, or stay as they are.",
            )
        parts = positions(mixed(x.law))
        return x.view_of(blend(parts, [1] * len(parts)), full)
    rows_of = x.law.x.map(lambda values: values.reshape(len(values), *full[1:]))
    return x.view_of(replace(x.law, x=rows_of), full)
