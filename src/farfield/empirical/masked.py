"""Layers whose signals are one mask for all outputs, such as the last convolution before a head.

Between a layer and a linear head there is often nothing but a ReLU, means and norms with fixed
statistics. Then what comes back from output o to row r of the layer is a number ``s_or``, or zero
where the ReLU of that sample and position is shut: ``D_ntor = s_or M_ntr``. The gradients are
``s_or H_nr`` with ``H_nr = sum_t M_ntr A_nt``, written out once for all outputs, and the kernel of
outputs o and p is ``sum_r s_or s_pr (H_ir . H_jr)``.

Whether it is so is read from the signals, and only if it holds to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.empirical.costs import Pair, costs
from farfield.empirical.factors import Outer
from farfield.empirical.outputs import Kind


@dataclass(frozen=True)
class Masked:
    """Signals that are a mask times a number for each output and row.

    Attributes:
        mask: Zeros and ones, (n, groups, positions, rows).
        scales: (directions, groups, rows).
    """

    mask: Tensor
    scales: Tensor

    def written(self, factor: Outer, rows: slice) -> tuple[Tensor, Tensor]:
        """Gradients without the numbers of the outputs, and these numbers.

        Args:
            factor: A parameter of these signals.
            rows: Some rows of the parameter.

        Returns:
            ``H``, (groups * rows, n, columns), and ``s``, (directions, groups * rows).
        """
        plain = Outer(factor.values, self.mask[..., rows].unsqueeze(1)).dense()
        scales = self.scales[..., rows].flatten(1)
        return plain.view(len(plain), scales.shape[1], -1).transpose(0, 1), scales


def masks_of(cluster: Sequence[Pair], kind: Kind, same: bool) -> tuple[Masked, Masked] | None:
    """The masks of the rows and of the columns, if there are some and there is a gain.

    Args:
        cluster: Parameters of the same signals.
        kind: What becomes of several outputs.
        same: Whether rows and columns are the same samples.

    Returns:
        ``None`` also for a single output or position.
    """
    left, right = cluster[0].left, cluster[0].right
    if not isinstance(left, Outer) or not isinstance(right, Outer):
        return None
    if left.positions == 1 or left.signals.shape[1] == 1:
        return None
    if cost(cluster, kind, same) > min(costs(cluster, kind, same)):
        return None
    first = _mask(left.signals)
    second = first if right is left or first is None else _mask(right.signals)
    return None if first is None or second is None else (first, second)


def _mask(signals: Tensor) -> Masked | None:
    """What signals (n, directions, groups, positions, rows) are made of, if it is a mask."""
    passes = signals[:, 0] != 0
    mask = passes.to(signals.dtype)
    _, groups, positions, rows = mask.shape
    # Some place where the mask of a row is one, if there is any.
    found = passes.transpose(0, 1).flatten(1, 2).to(torch.uint8).argmax(1)
    group = torch.arange(groups, device=signals.device).unsqueeze(1)
    row = torch.arange(rows, device=signals.device)
    scales = signals[found // positions, :, group, found % positions, row].movedim(2, 0)
    for one, scale in zip(signals.unbind(1), scales, strict=True):
        if not torch.equal(one, mask * scale.unsqueeze(1)):
            return None
    return Masked(mask, scales)


def cost(cluster: Sequence[Pair], kind: Kind, same: bool) -> float:
    """Multiplications of this way."""
    left, right = cluster[0].left, cluster[0].right
    if not isinstance(left, Outer) or not isinstance(right, Outer):
        raise AssertionError("only sums of outer products have masks")
    n1, outputs = left.signals.shape[:2]
    n2 = len(right.signals)
    columns = sum(pair.left.columns for pair in cluster if isinstance(pair.left, Outer))
    applied = n1 * left.positions + (0 if same else n2 * right.positions)
    many = {"full": outputs**2, "diagonal": outputs}.get(kind, 1)
    return float(left.groups * left.rows * (columns * applied + n1 * n2 * (columns + many)))


def add_masked(
    target: Tensor, kind: Kind, pair: Pair, masks: tuple[Masked, Masked], scratch: int
) -> None:
    """Add the kernel of a parameter.

    Args:
        target: As of :class:`farfield.empirical.contraction.Contraction`.
        kind: What becomes of several outputs.
        pair: Its gradients.
        masks: Those of the rows and of the columns.
        scratch: Bytes for intermediate arrays.
    """
    left, right = pair.left, pair.right
    if not isinstance(left, Outer) or not isinstance(right, Outer):
        raise AssertionError("only sums of outer products have masks")
    n1, n2, outputs = len(left.signals), len(right.signals), left.signals.shape[1]
    for rows in _parts(left, n1 + n2, scratch // 4):
        first, scales = masks[0].written(left, rows)
        second, others = (first, scales) if right is left else masks[1].written(right, rows)
        if kind == "full":
            weights = (scales.unsqueeze(1) * others).flatten(0, 1)  # (o o, k)
        else:
            weights = scales * others
            weights = weights.sum(0, keepdim=True) if kind == "mean" else weights
        each = n2 * left.signals.element_size() * (len(scales.T) + 2 * len(weights))
        side = max(1, scratch // (2 * each))
        for start in range(0, n1, side):
            some = slice(start, start + side)
            grams = first[:, some] @ second.mT  # (k, n1, n2)
            size = grams.shape[1:]
            added = (pair.weight * weights @ grams.flatten(1)).view(-1, *size)
            if kind == "full":
                both = added.view(outputs, outputs, *size).permute(2, 0, 3, 1)
                target[some] += both
            elif kind == "diagonal":
                target[:, some] += added
            else:
                target[some] += added[0]


def add_masked_own(
    total: Tensor, kind: Kind, factor: Outer, mask: Masked, weight: float, scratch: int
) -> None:
    """Add the kernels of every sample with itself; ``total`` is that of ``Own``."""
    for rows in _parts(factor, len(factor.signals), scratch // 2):
        plain, scales = mask.written(factor, rows)
        squares = weight * torch.linalg.vector_norm(plain, dim=2).square().T  # (n, k)
        if kind == "full":
            total += (squares.unsqueeze(1) * scales) @ scales.T
        elif kind == "diagonal":
            total += squares @ scales.square().T
        else:
            total += squares @ scales.square().sum(0)


def _parts(factor: Outer, samples: int, scratch: int) -> Iterator[slice]:
    """Rows of a parameter whose gradients take so many bytes at most."""
    row = samples * factor.groups * factor.columns * factor.signals.element_size()
    step = max(1, scratch // row)
    for start in range(0, factor.rows, step):
        yield slice(start, start + step)
