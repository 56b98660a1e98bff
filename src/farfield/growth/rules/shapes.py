"""Functions that are linear with coefficients of at least 0: moving, summing and averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.bound_tensor import RULES, BoundTensor, constant

WHOLE = "whole numbers"  # what they are called in the graph

# Each takes one tensor first, moves its entries or sums them with weights of at least 0, and
# neither repeats nor mixes them by anything that depends on their values.
_MOVING: tuple[Callable[..., Any], ...] = (
    torch.reshape, torch.Tensor.reshape, torch.Tensor.view, torch.flatten, torch.Tensor.flatten,
    torch.unflatten, torch.Tensor.unflatten, torch.squeeze, torch.Tensor.squeeze,
    torch.unsqueeze, torch.Tensor.unsqueeze, torch.permute, torch.Tensor.permute,
    torch.transpose, torch.Tensor.transpose, torch.movedim, torch.Tensor.movedim,
    torch.swapaxes, torch.Tensor.swapaxes, torch.swapdims, torch.Tensor.swapdims,
    torch.t, torch.Tensor.t, *(getattr(torch.Tensor, name).__get__ for name in ("T", "mT")),
    torch.Tensor.expand, torch.broadcast_to, torch.Tensor.broadcast_to, torch.Tensor.expand_as,
    torch.Tensor.repeat, torch.tile, torch.Tensor.tile, torch.repeat_interleave,
    torch.Tensor.repeat_interleave, torch.Tensor.__getitem__, torch.narrow, torch.Tensor.narrow,
    torch.select, torch.Tensor.select, torch.index_select, torch.Tensor.index_select,
    torch.roll, torch.Tensor.roll, torch.flip, torch.Tensor.flip, torch.diagonal,
    torch.Tensor.diagonal, torch.tril, torch.Tensor.tril, torch.triu, torch.Tensor.triu,
    F.pixel_shuffle, F.pixel_unshuffle, F.unfold, torch.Tensor.unfold, torch.gather,
    torch.Tensor.gather,
)  # fmt: skip

_SUMMING: tuple[Callable[..., Any], ...] = (
    torch.sum, torch.Tensor.sum, torch.mean, torch.Tensor.mean, torch.cumsum,
    torch.Tensor.cumsum, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
)  # fmt: skip

_VIEWS = {
    "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose",
    "movedim", "swapaxes", "swapdims", "t", "T", "mT", "expand", "broadcast_to", "expand_as",
    "__getitem__", "narrow", "select", "diagonal", "__get__", "unfold", "pixel_shuffle",
    "pixel_unshuffle",
}  # fmt: skip


def _register(function: Callable[..., Any], *, summing: bool) -> None:
    name = str(getattr(function, "__name__", function))
    # A view of other strides than the model's own would be refused.
    apply = torch.Tensor.reshape if function is torch.Tensor.view else function

    @RULES.register(function)
    def rule(x: BoundTensor, *args: Any, **options: Any) -> BoundTensor:
        if not isinstance(x, BoundTensor) or _depends(args) or _depends(options.values()):
            raise RULES.unsupported(
                f"{name} with an index or option that depends on the input", "Constants are fine."
            )
        dtype = options.pop("dtype", None)
        if dtype is not None and not dtype.is_floating_point:
            raise RULES.unsupported(f"{name} with dtype={dtype}", "Sum first, then cut off.")
        if (options.get("divisor_override") or 1) < 0:
            raise RULES.unsupported(f"{name} with a negative divisor", "A positive one has a rule.")
        plain = tuple(_shape_of(argument) for argument in args)

        def move(u: Tensor) -> Tensor:
            moved: Tensor = apply(u, *plain, **options)
            return moved

        terms = x.node.lower.numel() if summing else 1
        kept = torch.float64 if summing else x.dtype
        return x.affine(name, move, terms=terms, is_view=name in _VIEWS, dtype=kept)


def _depends(values: Any) -> bool:
    """Whether a bound tensor is among the values, at any depth."""
    return any(
        isinstance(value, BoundTensor) or (isinstance(value, list | tuple) and _depends(value))
        for value in values
    )


def _shape_of(argument: Any) -> Any:
    return argument.cpu() if isinstance(argument, Tensor) else argument


for _function in _MOVING:
    _register(_function, summing=False)
for _function in _SUMMING:
    _register(_function, summing=True)


@RULES.register(torch.Tensor.contiguous, torch.Tensor.detach, torch.detach, torch.Tensor.cpu)
def same(x: BoundTensor, *args: object, **options: object) -> BoundTensor:
    """The same values, which count as a view: whether it is a copy is not known here."""
    x.reading.viewed.add(x.node.index)
    return BoundTensor(x.node, x.reading, x.dtype, is_view=True)


@RULES.register(
    torch.Tensor.to, torch.Tensor.type, torch.Tensor.type_as, torch.Tensor.float,
    torch.Tensor.double, torch.Tensor.half, torch.Tensor.bfloat16,
)  # fmt: skip
def converted(x: BoundTensor, *args: object, **options: object) -> BoundTensor:
    """The same values in another precision: certificates are about real numbers.

    What is converted to whole numbers is cut off, and to truth values compared with 0.
    """
    asked = next((d for v in (*args, *options.values()) if (d := _dtype_of(v)) is not None), None)
    if asked is None and len(args) + len(options) == 0:  # x.float() and so on
        asked = torch.float64
    if asked is None:  # x.to(device)
        return same(x)
    if asked == torch.bool:
        zero = torch.zeros_like(x.node.lower)
        return x.hull("comparison", zero, zero + 1, 0.0, dtype=torch.bool)
    if asked.is_floating_point:
        x.reading.viewed.add(x.node.index)
        return BoundTensor(x.node, x.reading, is_view=True)
    if asked.is_complex:
        raise RULES.unsupported("complex numbers", "Their parts may be kept as real numbers.")
    return whole(x, asked)


@RULES.register(torch.Tensor.long)
def long(x: BoundTensor) -> BoundTensor:
    """Cut off to whole numbers."""
    return whole(x, torch.int64)


@RULES.register(torch.Tensor.int)
def integer(x: BoundTensor) -> BoundTensor:
    """Cut off to whole numbers."""
    return whole(x, torch.int32)


@RULES.register(torch.Tensor.bool)
def truth(x: BoundTensor) -> BoundTensor:
    """Whether a value is not 0."""
    return converted(x, torch.bool)


def whole(x: BoundTensor, dtype: torch.dtype) -> BoundTensor:
    """Values cut off to whole numbers; what does not fit the type can become any number."""
    least, most = float(torch.iinfo(dtype).min), float(torch.iinfo(dtype).max)
    fits = (x.node.lower >= least) & (x.node.upper <= most)
    lower = torch.where(fits, x.node.lower.trunc(), -torch.inf)
    upper = torch.where(fits, x.node.upper.trunc(), torch.inf)
    return x.hull(WHOLE, lower, upper, x.highest_degree)


def _dtype_of(value: object) -> torch.dtype | None:
    """The type of number that an argument asks for, if it does."""
    if isinstance(value, str) and value.startswith("torch."):  # x.type("torch.LongTensor")
        raise RULES.unsupported(f"a conversion to {value!r}", "x.to(torch.int64) has a rule.")
    if isinstance(value, Tensor):
        return value.dtype
    return value if isinstance(value, torch.dtype) else None


@RULES.register(torch.Tensor.clone, torch.clone)
def clone(x: BoundTensor, **options: object) -> BoundTensor:
    """The same values in a tensor of its own."""
    return BoundTensor(x.node, x.reading)


@RULES.register(
    F.dropout, torch.dropout, F.alpha_dropout, F.feature_alpha_dropout, F.dropout1d,
    F.dropout2d, F.dropout3d, torch.alpha_dropout, torch.feature_dropout,
)  # fmt: skip
def dropout(x: BoundTensor, p: float | int = 0.5, training: bool = False) -> BoundTensor:
    """Nothing in eval mode.

    Raises:
        UnsupportedOperation: In training mode.
    """
    if training and p > 0:
        raise RULES.unsupported(
            "dropout in training mode",
            "Call model.eval() first: a certificate is of the eval mode.",
        )
    return x


@RULES.register(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> BoundTensor:
    """Values side by side; some may be constants."""
    return _together(tensors, dim if axis is None else axis, torch.cat, "cat")


@RULES.register(torch.stack)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> BoundTensor:
    """Values side by side in a new dimension."""
    return _together(tensors, dim, torch.stack, "stack")


def _together(
    tensors: Sequence[Tensor], dim: int, function: Callable[..., Tensor], name: str
) -> BoundTensor:
    bound = [x for x in tensors if isinstance(x, BoundTensor)]
    fixed = [None if isinstance(x, BoundTensor) else constant(x) for x in tensors]

    def join(*values: Tensor) -> Tensor:
        rest = iter(values)
        parts = [next(rest) if x is None else torch.zeros_like(x) for x in fixed]
        return function(parts, dim)

    offset = function(
        [
            torch.zeros(tuple(x.shape), dtype=torch.float64) if value is None else value
            for x, value in zip(tensors, fixed, strict=True)
        ],
        dim,
    )
    truth = all(x.dtype == torch.bool for x in tensors)
    dtype = torch.bool if truth else torch.float64
    return bound[0].affine(name, join, offset=offset, others=bound[1:], terms=1, dtype=dtype)


def _register_parts(function: Callable[..., Any]) -> None:
    name = str(function.__name__)

    @RULES.register(function)
    def rule(x: BoundTensor, *args: Any, **options: Any) -> tuple[BoundTensor, ...]:
        count = len(function(x.node.lower, *args, **options))

        def part(index: int) -> Callable[[Tensor], Tensor]:
            return lambda u: function(u, *args, **options)[index]

        return tuple(
            x.affine(name, part(i), terms=1, is_view=True, dtype=x.dtype) for i in range(count)
        )


for _function in (
    torch.chunk, torch.Tensor.chunk, torch.split, torch.Tensor.split, torch.unbind,
    torch.Tensor.unbind, torch.tensor_split, torch.Tensor.tensor_split,
):  # fmt: skip
    _register_parts(_function)


@RULES.register(torch.Tensor.__iter__)
def iterate(x: BoundTensor) -> Any:
    """The parts along the first dimension."""

    def part(index: int) -> Callable[[Tensor], Tensor]:
        return lambda u: u[index]

    return iter(
        [
            x.affine("iteration", part(i), terms=1, is_view=True, dtype=x.dtype)
            for i in range(int(x.shape[0]))
        ]
    )


@RULES.register(F.pad)
def pad(
    x: BoundTensor, pad: Sequence[int], mode: str = "constant", value: float | int | None = None
) -> BoundTensor:
    """More entries around: copies, or a constant."""
    if mode != "constant":
        return x.affine("pad", lambda u: F.pad(u, list(pad), mode=mode), terms=1)
    filled = torch.zeros_like(x.node.lower)
    offset = F.pad(filled, list(pad), value=float(value or 0.0))
    return x.affine("pad", lambda u: F.pad(u, list(pad)), offset=offset, terms=1)


@RULES.register(F.interpolate)
def interpolate(
    x: BoundTensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    **options: Any,
) -> BoundTensor:  # fmt: skip
    """Upsampling and downsampling with weights of at least 0."""
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "area"):
        raise RULES.unsupported(f"interpolate with mode {mode!r}", "Its weights may be negative.")
    return x.affine("interpolate", lambda u: F.interpolate(u, size, scale_factor, mode, **options))


@RULES.register(torch.zeros_like, torch.ones_like)
def blank_like(x: BoundTensor, **options: object) -> Tensor:
    """Refuse what would lose its value without a word.

    Raises:
        UnsupportedOperation: Always.
    """
    raise RULES.unsupported("zeros_like or ones_like", "torch.zeros(x.shape) is a constant.")
