"""Convolutions, as linear maps of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from torch import Tensor
from torch.nn import functional as F

from farfield.empirical.factors import Factor, Outer
from farfield.empirical.rules.table import Case, rule, spread
from farfield.empirical.workspace import fresh


@rule("Convolution")
def convolution(case: Case) -> Factor | None:
    """A convolution of any dimension, plain or transposed, with groups."""
    if case.layout.axis != 0:
        return None
    node = case.node
    kernel = case.shape[2:]
    if case.position == 2:
        dimensions = case.signal.ndim - 3
        return spread(replace(case, shape=(*case.shape, *(1,) * dimensions)))
    groups = int(node._saved_groups)
    settings = (kernel, node._saved_stride, node._saved_padding, node._saved_dilation)
    signals = case.signals()  # (n, directions, repeats, channels, *places)
    inputs = case.values(node._saved_input)  # (n, repeats, channels, *places)
    if node._saved_transposed:
        windows = _windows(signals, *settings, inputs.shape[3:])
        return Outer(_positions(inputs.flatten(3), groups), _positions(windows, groups), True)
    windows = case.once(lambda: _windows(inputs, *settings, signals.shape[4:]))
    return Outer(_positions(windows, groups), _positions(signals.flatten(4), groups))


def _positions(tensor: Tensor, groups: int) -> Tensor:
    """(..., repeats, channels, places) -> (..., groups, repeats * places, channels / groups)."""
    *lead, repeats, channels, places = tensor.shape
    split = tensor.reshape(*lead, repeats, groups, channels // groups, places)
    return split.movedim(-4, -2).flatten(-2).mT


def _windows(
    tensor: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    count: Sequence[int],
) -> Tensor:
    """All windows of a convolution.

    Args:
        tensor: (..., channels, *places).
        kernel: Size of a window along each dimension.
        stride: Steps between windows.
        padding: Zeros around the tensor.
        dilation: Steps within a window.
        count: Number of windows along each dimension.

    Returns:
        (..., channels * kernel, windows).
    """
    dimensions = len(kernel)
    lead = tensor.shape[: -dimensions - 1]
    images = tensor.reshape(-1, *tensor.shape[-dimensions - 1 :])
    # Copied from a view in a single pass, for any number of dimensions.
    view = F.pad(images, [side for p in reversed(padding) for side in (p, p)])
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        view = view.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
        # A transposed convolution may have left out the last ones.
        view = view.narrow(2 + axis, 0, count[axis])
    inner = range(2 + dimensions, 2 + 2 * dimensions)
    ordered = view.permute(0, 1, *inner, *range(2, 2 + dimensions))
    windows = fresh(tuple(ordered.shape), ordered).copy_(ordered)
    return windows.view(*lead, tensor.shape[-dimensions - 1] * prod(kernel), prod(count))
