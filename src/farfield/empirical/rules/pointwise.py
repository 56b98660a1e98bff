"""Sums, products and choices of samples and a parameter, entry by entry."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from farfield.empirical.factors import Factor, Outer
from farfield.empirical.rules.table import Case, rule, spread


@rule("Add")
def add(case: Case) -> Factor | None:
    """``left + alpha right``."""
    return spread(case, 1.0 if case.position == 0 else float(case.node._saved_alpha))


@rule("Sub")
def sub(case: Case) -> Factor | None:
    """``left - alpha right``."""
    return spread(case, 1.0 if case.position == 0 else -float(case.node._saved_alpha))


@rule("Mul")
def mul(case: Case) -> Factor | None:
    """``left * right``."""
    node = case.node
    return _times(case, node._saved_other if case.position == 0 else node._saved_self)


@rule("Div")
def div(case: Case) -> Factor | None:
    """``left / right``."""
    node = case.node
    if case.position == 0:
        return _times(case, 1.0 / node._saved_other)
    return _times(case, -node._saved_self / node._saved_other.square())


@rule("Where")
def where(case: Case) -> Factor | None:
    """``left where condition, else right``."""
    condition: Tensor = case.node._saved_condition
    chosen = condition if case.position == 0 else ~condition  # it is no input of the node
    return _times(case, chosen.to(case.signal.dtype))


@rule("PreluKernel")
def prelu(case: Case) -> Factor | None:
    """``x where x > 0, else slope x``."""
    return _times(case, case.node._saved_self.clamp(max=0)) if case.position == 1 else None


@rule("Expand")
def expand(case: Case) -> Factor | None:
    """The same for every sample, such as a class token."""
    return spread(case)


@rule("Repeat")
def repeat(case: Case) -> Factor | None:
    """Copies one behind the other along some axes."""
    signals = case.signals()  # (n, directions, *shape of a sample)
    sizes = (1,) * (signals.ndim - 2 - len(case.shape)) + case.shape
    for axis, size in enumerate(sizes):
        split = signals.unflatten(2 + axis, (signals.shape[2 + axis] // size, size))
        signals = split.sum(2 + axis)
    return Outer(None, signals.flatten(2)[:, :, None, None])


def _times(case: Case, factor: Tensor | None) -> Factor | None:
    if factor is None or factor.dtype != case.signal.dtype:
        return None
    if factor.ndim == 0:
        return spread(case, factor)
    shape = case.node._input_metadata[0].shape
    return spread(replace(case, shape=(1,) * (len(shape) - len(case.shape)) + case.shape), factor)
