"""Tables of which samples read rows."""

from __future__ import annotations

from math import prod

from torch import Tensor

from farfield.empirical.factors import Factor, Lookup
from farfield.empirical.rules.table import Case, rule


@rule("Embedding")
def embedding(case: Case) -> Factor | None:
    """``table[indices]``."""
    node = case.node
    if node._saved_scale_grad_by_freq:
        return None  # gradients that depend on the whole batch
    indices: Tensor = node._saved_indices
    padding = int(node._saved_padding_idx)
    # PyTorch gives the saved -1 (no padding) as the largest number there is.
    if 0 <= padding < case.shape[0]:
        indices = indices.where(indices != padding, -1)
    return _read(case, indices)


@rule("Index")
def index(case: Case) -> Factor | None:
    """``table[indices]`` with one tensor of indices."""
    indices = case.node._saved_indices
    if len(indices) != 1 or indices[0] is None or indices[0].is_floating_point():
        return None
    return _read(case, indices[0] % case.shape[0]) if indices[0].dtype.is_signed else None


@rule("IndexSelect")
def index_select(case: Case) -> Factor | None:
    """``torch.index_select(table, 0, indices)``."""
    return _read(case, case.node._saved_index) if case.node._saved_dim == 0 else None


def _read(case: Case, indices: Tensor) -> Factor | None:
    if case.layout.axis >= indices.ndim:
        return None
    tokens = case.values(indices).flatten(1)
    signals = case.signals()
    flat = signals.reshape(*signals.shape[:2], tokens.shape[1], prod(case.shape[1:]))
    return Lookup(tokens, flat, case.shape[0])
