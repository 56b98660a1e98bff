"""What is known of a layer's units in the limit of infinite width.

A layer's units are independent and identically distributed (along the last dimension), so one
unit at a pair of inputs says it all. There are four kinds of law:

- :class:`Data`: not random; the raw input, or something computed from it alone.
- :class:`Pointwise`: an elementwise function of a Gaussian with mean zero. A Gaussian itself is
  the identity of one.
- :class:`Mixed`: anything else; only its moments are known, which is all that a linear map needs.
- :class:`Squares`: squares of such units, of which not even those are known, but the mean is.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from farfield.errors import RangeError
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.centred import cancels, centred
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.duals.summands import summand_gain
from farfield.infinite.gram import Gram, Scaled, Tangent, Unknown, of_vectors, product, total
from farfield.infinite.pairs import Deferred, Rows, Vectors

_fresh = itertools.count(1)


@dataclass(frozen=True)
class Source:
    """A range of the units that a random map makes.

    Attributes:
        map: The number of the map; 0 for the raw input.
        start: The first unit.
        stop: The unit after the last one.
    """

    map: int
    start: int = 0
    stop: int = sys.maxsize

    def part(self, start: int, stop: int) -> Source:
        """A range within this one."""
        return Source(self.map, self.start + start, self.start + stop)

    def overlaps(self, other: Source) -> bool:
        """Whether units are in both."""
        same = self.map == other.map
        return same and self.start < other.stop and other.start < self.stop


Sources = frozenset[Source]


def fresh_source() -> Sources:
    """All units of a map that was not met before."""
    return frozenset({Source(next(_fresh))})


@dataclass(frozen=True, eq=False)
class Gain:
    """A trained gain (LayerNorm's): each unit has a number of its own that multiplies a summand.

    Attributes:
        summand: Second moments of what it multiplies, the gain included.
        weight: 1 / gain^2.
    """

    summand: Gram
    weight: float

    def tangent(self) -> Scaled:
        """What it adds to the tangent of the unit itself: ``weight E[u v]``."""
        return self.summand.plain().scaled(self.weight**0.5)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent Gaussian units with mean zero.

    Attributes:
        gram: Their second moments.
        tangent: Inner products of the gradients of one unit with respect to all parameters
            below; ``None`` when there are none.
        gains: Trained gains of independent summands of the unit, or of the whole of it. What they
            add to the tangent is kept apart, because behind a function it is
            ``E[u v phi'(z) phi'(z')]``, with the summands u, v of the very units z, z'.
        sources: The random maps it comes from.
    """

    gram: Gram
    tangent: Tangent | None
    gains: tuple[Gain, ...] = ()
    sources: Sources = field(default_factory=fresh_source)

    def map(self, function: Callable[[Gram], Gram]) -> Gaussian:
        """The same units times something known: a function of all their kernels."""
        gram = function(self.gram)
        gains = tuple(
            replace(gain, summand=gram if gain.summand is self.gram else function(gain.summand))
            for gain in self.gains
        )
        return replace(self, gram=gram, gains=gains)

    def scaled(self, factor: Rows | float) -> Gaussian:
        """The same units, multiplied by something that is not negative."""
        tangent = None if self.tangent is None else self.tangent.scaled(factor)
        return replace(self.map(lambda gram: gram.scaled(factor)), tangent=tangent)


@dataclass(frozen=True, eq=False)
class Data:
    """Known numbers.

    Attributes:
        x: Values for the two batches, (n1, *positions, d) and (n2, *positions, d).
        error: Why there is no tangent kernel, if they depend on trained parameters.
        alone: Why there is none if they are features or outputs: sums over units, whose gradients
            grow with the width. Beside what they multiply these gradients are small.
    """

    x: Rows
    error: Exception | None = None
    alone: Exception | None = None

    @cached_property
    def moments(self) -> Mixed:
        """Their moments; computed once, so that a tile of pairs is, too."""
        return _moments_of_data(self)


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of a Gaussian, entry by entry.

    Attributes:
        base: The Gaussian.
        function: The function.
    """

    base: Gaussian
    function: Activation

    @cached_property
    def moments(self) -> Mixed:
        """Their moments; computed once, however many maps the units go into."""
        return _moments_of_function(self)


@dataclass(frozen=True, eq=False)
class Mixed:
    """Units of which the moments are known.

    Attributes:
        gram: Second moments, means included.
        mean: Means of the units.
        tangent: As of :class:`Gaussian`; the gains are included.
        sources: As of :class:`Gaussian`.
        varying: Computes the covariance where second moments minus means would cancel.
    """

    gram: Gram
    mean: Rows
    tangent: Tangent | None
    sources: Sources
    varying: Callable[[], Gram] | None = None

    def covariance(self) -> Gram:
        """``K - m m'``."""
        return self.gram.minus_product(self.mean) if self.varying is None else self.varying()

    def times(self, factor: float) -> Mixed:
        """The units times a number."""
        size = abs(factor)
        tangent = None if self.tangent is None else self.tangent.scaled(size)
        return Mixed(
            self.gram.scaled(size),
            self.mean * factor,
            tangent,
            self.sources,
            lambda: self.covariance().scaled(size),
        )

    def around(self, mean: Rows) -> Mixed:
        """The same units with other means."""
        spread = self.covariance()
        return replace(self, gram=spread.plus(product(mean)), mean=mean, varying=lambda: spread)


@dataclass(frozen=True, eq=False)
class Squares:
    """Squares of units of which nothing but the moments is known.

    Attributes:
        mean: Means of the squares.
        error: Why there is nothing else to do with them.
    """

    mean: Rows
    error: Exception


Law = Data | Pointwise | Mixed | Squares

IDENTITY = Rectified(1.0, 1.0)


def gaussian_of(law: Law) -> Gaussian | None:
    """The Gaussian that a law is, if it is one: a base times a number."""
    if not (isinstance(law, Pointwise) and isinstance(law.function, Rectified)):
        return None
    if not law.function.is_linear:
        return None
    factor = abs(law.function.positive)
    return law.base if factor == 1.0 else law.base.scaled(factor)


def range_of(units: Gaussian, start: int, stop: int) -> Gaussian:
    """Some of the units, independent of those that are not among them."""
    return replace(units, sources=frozenset(s.part(start, stop) for s in units.sources))


def mixed(law: Law) -> Mixed:
    """The moments of any law.

    Raises:
        UnsupportedOperation: They are not known of squares.
    """
    if isinstance(law, Squares):
        raise law.error
    return law if isinstance(law, Mixed) else law.moments


def _moments_of_data(law: Data) -> Mixed:
    # One number for each input, as a mean over the units is, is a row of one feature.
    numbers = law.x.map(lambda values: values if values.ndim > 1 else values[:, None])
    x = rows_last(numbers.map(finite))
    mean, gram = x.map(lambda values: values.mean(-1)), of_vectors(x)
    error = law.error or law.alone
    return Mixed(gram, mean, Unknown(error) if error else None, frozenset({Source(0)}))


def _moments_of_function(law: Pointwise) -> Mixed:
    if (units := gaussian_of(law)) is not None:
        own = [gain.tangent() for gain in units.gains]
        mean = units.gram.root.map(torch.zeros_like)
        return Mixed(units.gram, mean, total([units.tangent, *own]), units.sources)
    base, function = law.base, law.function
    rows = function.rows(base.gram.root)
    _check_range(rows.r, rows.root)
    tangents: list[Tangent | None] = []
    if base.tangent is not None:
        _check_range(rows.r, rows.slope_root)
        slope = Deferred(function.slope, rows, base.gram.angle)
        tangents.append(base.tangent.times(Scaled(rows.slope_root, slope)))
    whole = sum(gain.weight for gain in base.gains if gain.summand is base.gram)
    if whole:
        _check_range(rows.r, rows.gain_root)
        gain = Deferred(function.gain, rows, base.gram.angle)
        tangents.append(Scaled(rows.gain_root * whole**0.5, gain))
    for part in base.gains:
        if part.summand is not base.gram:
            summand = summand_gain(function, base.gram, part.summand)
            tangents.append(summand.scaled(part.weight**0.5))
    gram = Gram(rows.root, Deferred(function.angle, rows, base.gram.angle))
    varying = partial(_varying, base, function) if cancels(rows.root, rows.mean) else None
    return Mixed(gram, rows.mean, total(tangents), base.sources, varying)


def _varying(base: Gaussian, function: Activation) -> Gram:
    """The covariance of a function that is nearly constant."""
    around = centred(function)
    rows = around.rows(base.gram.root)
    angle = Deferred(around.angle, rows, base.gram.angle)
    return Gram(rows.root, angle).minus_product(rows.mean)


def finite(x: Tensor) -> Tensor:
    """Numbers that are computed from the input, as real numbers.

    Raises:
        RangeError: They are NaN or infinite.
    """
    broken = ~x.isfinite().flatten(1).all(1)
    if bool(broken.any()):
        raise RangeError(
            f"What the model computes from the raw input is NaN or infinite for "
            f"{int(broken.sum())} of {len(x)} inputs: a norm with eps = 0 of features that are all "
            "equal (for RMSNorm, all zero), a division by zero, a root or logarithm of a negative "
            "number, or an overflow. Use a positive eps, or leave such inputs out."
        )
    return x if x.is_floating_point() else wide(x)


def wide(x: Tensor) -> Tensor:
    """Numbers in float64: single precision would not survive fifty layers."""
    return x.float() if x.device.type == "mps" else x.double()  # Apple's GPUs have no float64


def _check_range(r: Rows, root: Rows) -> None:
    """Refuse moments beyond the range of the dtype, which would make NaNs of the kernel.

    Raises:
        RangeError: One is infinite at inputs that are not.
    """
    for width, values in r.sides(root):
        beyond = width.isfinite() & ~values.isfinite()
        if bool(beyond.any()):
            raise RangeError(
                f"Pre-activations of standard deviation {float(width[beyond].min().detach()):.3g} "
                f"make an activation grow beyond the range of {width.dtype}. Use float64, smaller "
                "inputs, or a norm before the activation."
            )


def blend(parts: Sequence[Mixed], widths: Sequence[int]) -> Mixed:
    """The moments of a unit picked at random from groups of these widths.

    That is all that a linear map or a norm sees of units side by side.
    """
    shares = [width / sum(widths) for width in widths]
    gram, mean = parts[0].gram.scaled(shares[0] ** 0.5), parts[0].mean * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        gram = gram.plus(part.gram.scaled(share**0.5))
        mean = mean.map(torch.add, part.mean * share)
    tangents = [
        None if part.tangent is None else part.tangent.scaled(share**0.5)
        for part, share in zip(parts, shares, strict=True)
    ]
    sources = Sources().union(*(part.sources for part in parts))
    return Mixed(gram, mean, total(tangents), sources, lambda: _spread_of_groups(parts, shares))


def _spread_of_groups(parts: Sequence[Mixed], shares: Sequence[float]) -> Gram:
    """The covariance within the groups, and that of their means."""
    offsets = [part.mean.map(torch.sub, parts[0].mean) for part in parts]
    centre = offsets[0]
    for offset, share in zip(offsets, shares, strict=True):
        centre = centre.map(torch.add, offset * share)
    spread: Gram | None = None
    for part, offset, share in zip(parts, offsets, shares, strict=True):
        between = product(offset.map(torch.sub, centre))
        own = part.covariance().plus(between).scaled(share**0.5)
        spread = own if spread is None else spread.plus(own)
    assert spread is not None
    return spread


def positions(law: Mixed) -> list[Mixed]:
    """The law at each position, one by one."""
    sizes = law.gram.root.left.shape[:-1]
    return [_at(law, position) for position in itertools.product(*(range(s) for s in sizes))]


def _at(law: Mixed, position: tuple[int, ...]) -> Mixed:
    tangent = None if law.tangent is None else law.tangent.at(position)
    mean = law.mean.map(lambda values: values[position])
    return Mixed(
        law.gram.at(position),
        mean,
        tangent,
        law.sources,
        lambda: law.covariance().at(position),
    )


def rows_last(x: Rows) -> Vectors:
    """(n, *positions, d) as (*positions, n, d)."""
    return Vectors.of(x, lambda values: torch.movedim(values, 0, -2))
