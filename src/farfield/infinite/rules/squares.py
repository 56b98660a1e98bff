"""Squares of units that are not Gaussian, of which a norm written by hand wants the mean."""

from __future__ import annotations

import torch

from farfield.infinite.laws import Mixed, Squares, mixed
from farfield.infinite.limit_tensor import RULES, LimitTensor
from farfield.infinite.pairs import Rows


def squared(x: LimitTensor, law: Mixed) -> LimitTensor:
    """The squares of units with these moments."""
    error = RULES.unsupported(
        "the square of units that are not Gaussian",
        "Only its mean or sum over the units has a rule, as in a norm that is written out by hand.",
    )
    return x.with_law(Squares(law.gram.root.map(torch.square), error))


def mean_of(x: LimitTensor) -> Rows:
    """Means over the units."""
    return x.law.mean if isinstance(x.law, Squares) else mixed(x.law).mean


def may_vanish(x: LimitTensor) -> bool:
    """Whether a mean over the units may be zero but for rounding."""
    if isinstance(x.law, Squares):
        return False
    moments = mixed(x.law)
    sides = [(moments.mean.left, moments.gram.root.left)]
    sides += [(moments.mean.right, moments.gram.root.right)]
    return any(bool(((mean.abs() <= 1e-6 * root) & (root > 0)).any()) for mean, root in sides)
