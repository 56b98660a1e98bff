"""What is known of a layer's units in the limit of infinite width.

A layer's units are independent and identically distributed (along the last dimension), so one
unit at a pair of inputs says it all. There are three kinds of law:

- :class:`Data`: not random; the raw input, or something computed from it alone.
- :class:`Pointwise`: an elementwise function of a Gaussian with mean zero. A Gaussian itself is
  the identity of one.
- :class:`Mixed`: anything else; only its moments are known, which is all that a linear map needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.gram import Gram, Scaled, of_vectors, product

_DATA = -1  # the source that the raw input counts as
_fresh = itertools.count()


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent Gaussian units with mean zero.

    Attributes:
        gram: Their second moments.
        tangent: Inner products of the gradients of one unit with respect to all parameters
            below; ``None`` when there are none.
        gains: How many trained gains multiply the unit itself (LayerNorm's): each adds u v to
            the tangent, for the very u and v of the unit. It is kept apart because behind a
            function it is E[u v phi'(u) phi'(v)], not K E[phi'(u) phi'(v)].
        sources: The random maps it comes from.
    """

    gram: Gram
    tangent: Scaled | None
    gains: int = 0
    sources: frozenset[int] = field(default_factory=lambda: frozenset({next(_fresh)}))

    def scaled(self, left: Tensor | float, right: Tensor | float) -> Gaussian:
        """The same units, multiplied by non-negative rows."""
        tangent = None if self.tangent is None else self.tangent.scaled(left, right)
        return Gaussian(self.gram.scaled(left, right), tangent, self.gains, self.sources)


@dataclass(frozen=True, eq=False)
class Data:
    """Known numbers.

    Attributes:
        x1: Values for the first batch, (n1, *positions, d).
        x2: Values for the second batch, (n2, *positions, d).
        tangent: Mean over the features of what parameters of the features themselves add (the
            gain and bias of a norm on the raw input).
    """

    x1: Tensor
    x2: Tensor
    tangent: Scaled | None = None


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of a Gaussian, entry by entry.

    Attributes:
        base: The Gaussian.
        function: The function.
    """

    base: Gaussian
    function: Activation


@dataclass(frozen=True, eq=False)
class Mixed:
    """Units of which the moments are known.

    Attributes:
        gram: Second moments, means included.
        left_mean: (*positions, n1).
        right_mean: (*positions, n2).
        tangent: As of :class:`Gaussian`; the gains are included.
        sources: As of :class:`Gaussian`.
    """

    gram: Gram
    left_mean: Tensor
    right_mean: Tensor
    tangent: Scaled | None
    sources: frozenset[int]


Law = Data | Pointwise | Mixed

IDENTITY = Rectified(1.0, 1.0)


def gaussian_of(law: Law) -> Gaussian | None:
    """The Gaussian that a law is, if it is one: a base times a number."""
    if not (isinstance(law, Pointwise) and isinstance(law.function, Rectified)):
        return None
    if not law.function.is_linear:
        return None
    factor = abs(law.function.positive)
    return law.base if factor == 1.0 else law.base.scaled(factor, factor)


def mixed(law: Law) -> Mixed:
    """The moments of any law."""
    if isinstance(law, Mixed):
        return law
    if isinstance(law, Data):
        x1, x2 = rows_last(law.x1), rows_last(law.x2)
        return Mixed(of_vectors(x1, x2), x1.mean(-1), x2.mean(-1), law.tangent, frozenset({_DATA}))
    base, function = law.base, law.function
    tangent = None if base.tangent is None else base.tangent.times(function.slopes(base.gram))
    if base.gains:
        gains = function.gains(base.gram).scaled(float(base.gains) ** 0.5)
        tangent = gains if tangent is None else tangent.plus(gains)
    gram = base.gram
    return Mixed(
        function.moments(gram),
        function.mean(gram.left),
        function.mean(gram.right),
        tangent,
        base.sources,
    )


def moved(law: Mixed, left_mean: Tensor, right_mean: Tensor) -> Mixed:
    """The same units around other means."""
    spread = law.gram.minus_product(law.left_mean, law.right_mean)
    gram = spread.plus_gram(product(left_mean, right_mean))
    return Mixed(gram, left_mean, right_mean, law.tangent, law.sources)


def blend(parts: Sequence[Mixed], widths: Sequence[int]) -> Mixed:
    """The moments of a unit picked at random from groups of these widths.

    That is all that a linear map or a norm sees of units side by side.
    """
    total = float(sum(widths))
    share = widths[0] / total
    gram = parts[0].gram.scaled(share**0.5)
    left, right = parts[0].left_mean * share, parts[0].right_mean * share
    tangents = [None if parts[0].tangent is None else parts[0].tangent.scaled(share**0.5)]
    for part, width in zip(parts[1:], widths[1:], strict=True):
        share = width / total
        gram = gram.plus_gram(part.gram.scaled(share**0.5))
        left, right = left + part.left_mean * share, right + part.right_mean * share
        tangents.append(None if part.tangent is None else part.tangent.scaled(share**0.5))
    sources = frozenset[int]().union(*(part.sources for part in parts))
    return Mixed(gram, left, right, sum_of_tangents(*tangents), sources)


def positions(law: Mixed) -> list[Mixed]:
    """The law at each position, one by one."""
    gram, tangent = law.gram, law.tangent
    parts = []
    for at in itertools.product(*(range(size) for size in gram.left.shape[:-1])):
        part = Gram(
            gram.left[at], gram.right[at], gram.cosine[at], gram.apart[at], gram.together[at]
        )
        below = (
            None
            if tangent is None
            else Scaled(tangent.left[at], tangent.right[at], tangent.cosine[at])
        )
        parts.append(Mixed(part, law.left_mean[at], law.right_mean[at], below, law.sources))
    return parts


def sum_of_tangents(*tangents: Scaled | None) -> Scaled | None:
    """The sum of those that are there."""
    total: Scaled | None = None
    for tangent in tangents:
        if tangent is not None:
            total = tangent if total is None else total.plus(tangent)
    return total


def rows_last(x: Tensor) -> Tensor:
    """(n, *positions, d) as (*positions, n, d)."""
    return torch.movedim(x, 0, -2)
