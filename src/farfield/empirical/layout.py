"""Where the samples of a batch stand in a tensor inside of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """One axis of a tensor runs over (outer, samples, inner).

    ``outer = inner = 1`` is a plain batch axis. A batch of sequences flattened for a linear layer
    has ``inner`` positions (or ``outer``, if the positions stood first); two batches one
    behind the other have ``outer = 2``.

    Attributes:
        axis: The axis.
        outer: How many times the samples are repeated.
        inner: Entries of the axis that each repetition has of a sample.
    """

    axis: int
    outer: int
    inner: int

    def by_sample(self, tensor: Tensor, samples: int, leading: int = 0) -> Tensor:
        """Bring the samples to the front.

        Args:
            tensor: (*leading, *shape), where the axis of ``shape`` holds the samples.
            samples: Their number n.
            leading: Number of leading dimensions.

        Returns:
            (n, *leading, *shape), where the axis has ``outer * inner`` entries left.
        """
        axis = self.axis + leading
        if self.outer == 1 and self.inner == 1:
            return tensor.movedim(axis, 0).unsqueeze(axis + 1)
        shape = tensor.shape
        parts = (*shape[:axis], self.outer, samples, self.inner, *shape[axis + 1 :])
        split = tensor.reshape(parts)
        return split.movedim(axis + 1, 0).flatten(axis + 1, axis + 2)


@dataclass(frozen=True)
class Found:
    """What is known of a tensor's layout.

    Attributes:
        layout: The layout, or ``None`` if none fits.
        sure: Whether the gradients left no choice: nothing can be learnt from zeros.
        together: Whether entries depend on more than one sample.
    """

    layout: Layout | None
    sure: bool
    together: bool


def find_layout(fewer: Sequence[int], shape: Sequence[int], signals: Sequence[Tensor]) -> Found:
    """Find the layout of a tensor from what it is for batches of 3 and of 4 samples.

    Args:
        fewer: Its shape for one sample less.
        shape: Its shape.
        signals: For each sample, the gradient of that sample's outputs with respect to the tensor:
            it vanishes at the entries of all other samples.

    Returns:
        The layout that the shapes and all gradients agree with; that of a batch-first tensor, if
        there are several.
    """
    samples = len(signals)
    met = torch.stack([signal != 0 for signal in signals])
    if bool((met.sum(0) > 1).any()):
        return Found(None, True, True)
    changing = [axis for axis in range(len(shape)) if shape[axis] != fewer[axis]]
    if len(fewer) != len(shape) or len(changing) != 1:
        return Found(None, True, False)
    (axis,) = changing
    each, rest = divmod(shape[axis], samples)
    if rest or fewer[axis] != each * (samples - 1):
        return Found(None, True, False)
    divisors = [outer for outer in range(1, each + 1) if each % outer == 0]
    layouts = [Layout(axis, outer, each // outer) for outer in divisors]
    fitting = [layout for layout in layouts if _fits(layout, signals)]
    # If the order were another, a batch-first one could fit only where all gradients vanish.
    told = fitting[:1] == layouts[:1] and all(bool(signal.any()) for signal in signals)
    return Found(fitting[0] if fitting else None, len(fitting) == 1 or told, False)


def _fits(layout: Layout, signals: Sequence[Tensor]) -> bool:
    for sample, signal in enumerate(signals):
        rows = layout.by_sample(signal, len(signals))
        if bool(rows[:sample].any()) or bool(rows[sample + 1 :].any()):
            return False
    return True
