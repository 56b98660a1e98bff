r"""What a network of infinite width does to ranges of inputs: bounds of its kernels' diagonals.

Behind a linear layer a network of infinite width knows of an input x only ``q = |x|^2 / d``. Here a
model's own ``forward`` runs on *cells*, ranges of q that together go from 0 to infinity. Each
tensor holds, for every cell, bounds of K = k(x, x) of a unit and of its tangent kernel T, that are
true for every q in the cell. The last cell reaches to infinity: bounds of the ratio T / K are
carried along, for they stay finite where K and T do not.

Functions that are linear on each half line scale exactly. For any other function phi the density of
N(0, s^2) gives bounds: for s0 <= s <= s1 it is at most s1 / s0 times that of N(0, s1^2) and at
least s0 / s times that of N(0, s0^2), and so are expectations of everything that is not negative.

Beside it runs the reading of :mod:`farfield.infinite`, which knows what is independent of what, and
refuses what has no exact rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.infinite import InfiniteWidth
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.laws import Data, Mixed, Pointwise, Squares, gaussian_of
from farfield.infinite.limit_tensor import RULES, LimitTensor, Reading, input_tensor
from farfield.infinite.pairs import Rows
from farfield.infinite.reader import copied_buffers
from farfield.reading import AbstractTensor, Rule, RuleTable
from farfield.trail import following


@dataclass(frozen=True, eq=False)
class Units:
    """Bounds of a unit's second moments on each cell; all are (cells,).

    Attributes:
        low: K is at least this.
        high: K is at most this.
        tangent: T is at most this, without what gains add.
        ratio: T / K is at most this.
        share: The variance is at least this part of K: 1 for units with mean zero.
        most: The variance is at most this part of K.
        gains: As of :class:`farfield.infinite.laws.Gaussian`.
    """

    low: Tensor
    high: Tensor
    tangent: Tensor
    ratio: Tensor
    share: Tensor
    most: Tensor
    gains: float = 0.0

    @classmethod
    def of(
        cls,
        low: Tensor,
        high: Tensor,
        tangent: Tensor,
        ratio: Tensor,
        share: Tensor | None = None,
        most: Tensor | None = None,
        gains: float = 0.0,
    ) -> Units:
        """Bounds of T and of T / K, each improved by the other."""
        one = torch.ones_like(low)
        ratio = torch.minimum(ratio, _upper(tangent / low))
        tangent = torch.minimum(tangent, _upper(ratio * high))
        share, most = one if share is None else share, one if most is None else most
        return cls(low, high, tangent, ratio, share, most, gains)


class CellRules(RuleTable):
    """Every function that has a rule in the infinite-width limit runs there, and then here."""

    def find(self, function: Callable[..., Any]) -> Rule | None:
        """A rule that runs both."""
        if RULES.find(function) is None:
            return None
        return functools.partial(_both, function, super().find(function))


CELLS = CellRules("the bounds of an infinite-width kernel", "What it grows like is searched for.")


class CellTensor(AbstractTensor):
    """Units of infinite width at all inputs of each cell.

    Attributes:
        law: The same in the reading of :mod:`farfield.infinite`, of some input.
        units: Bounds: of the raw input, of the Gaussian that the units are a function of, or
            of the units.
        reading: What is known of the model's parameters.
    """

    rules: ClassVar[RuleTable] = CELLS
    law: LimitTensor
    units: Units
    reading: Reading

    @staticmethod
    def __new__(cls, law: LimitTensor, units: Units, reading: Reading) -> CellTensor:
        """A tensor in the shape of the law."""
        tensor: CellTensor = AbstractTensor.blank(cls, tuple(law.shape), law)
        tensor.law, tensor.units, tensor.reading = law, units, reading
        return tensor

    def __init__(self, law: LimitTensor, units: Units, reading: Reading) -> None:
        pass

    def replace_(self, other: AbstractTensor) -> CellTensor:
        """Stand for what ``other`` stands for."""
        if isinstance(other, CellTensor):
            self.law, self.units = other.law, other.units
        return self


def cell_bounds(
    limit: InfiniteWidth, kernel: str, features: Sequence[int], low: Tensor, high: Tensor
) -> Tensor:
    """Upper bounds of the diagonal of a kernel on cells.

    Args:
        limit: The limit.
        kernel: ``"nngp"`` or ``"ntk"``.
        features: Shape of one input.
        low: Least ``|x|^2 / d`` of each cell.
        high: Largest one; may be infinite.

    Returns:
        For each cell a number that ``k(x, x)`` does not exceed, but for rounding; may be infinite.

    Raises:
        UnsupportedOperation: The model does something else than linear maps of the flattened
            input, functions of units, norms and sums of them.
    """
    some = torch.linspace(0.5, 1.5, math.prod(features), dtype=torch.float64).reshape(1, *features)
    nothing = torch.zeros_like(low)
    units = Units(low, high, nothing, nothing, nothing, torch.ones_like(low))
    with following(limit.model), copied_buffers(limit.model):
        law = input_tensor(some, some, torch.float64, limit.reading())
        result = limit.model(CellTensor(law, units, limit.reading()))
        if not isinstance(result, CellTensor):
            raise CELLS.unsupported(
                f"an output of type {type(result).__name__}", "One tensor has a bound."
            )
        moments = _moments(result)
    return moments.high if kernel == "nngp" else moments.tangent


def _both(
    function: Callable[..., Any], bound: Rule | None, *args: Any, **options: Any
) -> CellTensor:
    """Run a function in the limit, and bound what it gives."""
    cells = [x for x in args if isinstance(x, CellTensor)]
    if len(cells) != sum(isinstance(x, Tensor) and isinstance(x, AbstractTensor) for x in args):
        raise CELLS.unsupported(str(function), "Its arguments belong to different readings.")
    laws = [x.law if isinstance(x, CellTensor) else x for x in args]
    law = function(*laws, **options)
    if not isinstance(law, LimitTensor) or not cells:
        raise CELLS.unsupported(getattr(function, "__name__", str(function)))
    first = cells[0]
    for x in cells:
        before, after = x.law.law, law.law
        same = isinstance(before, Pointwise) and isinstance(after, Pointwise)
        if before is after or (same and before.base is after.base):  # type: ignore[union-attr]
            # The same units, or another function of the same Gaussian ones.
            return CellTensor(law, x.units, first.reading)
    if bound is None:
        raise CELLS.unsupported(getattr(function, "__name__", str(function)))
    return CellTensor(law, bound(*args, **options), first.reading)


@CELLS.register(F.linear)
def linear(x: CellTensor, weight: Tensor, bias: Tensor | None = None) -> Units:
    """``K <- w K + b``, and ``T <- own + w T`` with own = a K + c: see the rule of the limit."""
    if isinstance(x.law.law, Data) and (x.ndim != 2 or x.law.law.error is not None):
        raise CELLS.unsupported("linear", "Its input must be all features in one row.")
    below, reading = _moments(x), x.reading
    w = float(reading.weight_var(weight, weight.shape[1]))
    b = 0.0 if bias is None else float(reading.bias_var(bias, "linear"))
    standard = reading.parameterization == "standard"
    a = (float(weight.shape[1]) if standard else w) if weight.requires_grad else 0.0
    c = (1.0 if standard else b) if bias is not None and bias.requires_grad else 0.0
    low, high = _affine(w, below.low, b), _affine(w, below.high, b)
    tangent = _affine(a, below.high, c) + _affine(w, below.tangent, 0.0)
    # (a K + c) / (w K + b) and w K / (w K + b) are monotone in K.
    own = torch.maximum(_moebius(a, c, w, b, below.low), _moebius(a, c, w, b, below.high))
    passed = _upper(below.ratio * _moebius(w, 0.0, w, b, below.high))
    return Units.of(low, high, tangent, own + passed)


@CELLS.register(F.layer_norm, torch.layer_norm)
def layer_norm(
    x: CellTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enable: bool = True,
) -> Units:
    """``K <- g^2 V / (V + eps)`` with the variance V, and so T."""
    return _normalised(x, float(eps), weight, bias, centred=True)


@CELLS.register(F.rms_norm, torch.rms_norm)
def rms_norm(
    x: CellTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> Units:
    """The same with K in place of V."""
    floor = torch.finfo(x.dtype).eps if eps is None else eps
    return _normalised(x, float(floor), weight, None, centred=False)


def _normalised(
    x: CellTensor, eps: float, weight: Tensor | None, bias: Tensor | None, *, centred: bool
) -> Units:
    law = x.law.law
    if isinstance(law, Data):
        if weight is not None or bias is not None:
            raise CELLS.unsupported("a norm on the raw input with a gain or bias")
        # The mean square of a normalised input is anything between 0 and 1.
        return replace(x.units, low=torch.zeros_like(x.units.low), high=_ones(x.units.low))
    gain = 1.0 if weight is None else float(weight.detach().flatten()[0])
    shift = 0.0 if bias is None else float(bias.detach().flatten()[0])
    gaussian = gaussian_of(law) is not None
    if gain == 0.0 or (shift != 0.0 and not gaussian):
        raise CELLS.unsupported("a norm that is not as at initialisation")
    # What the gain adds is kept apart for Gaussian units, since a function may follow.
    below = _scaled_base(x) if gaussian else _moments(x)
    share, most = (below.share, below.most) if centred else (_ones(below.low), _ones(below.low))
    least = _upper(below.low * share, 0.0)
    low = _moebius(1.0, 0.0, 1.0, eps, least)
    high = _moebius(1.0, 0.0, 1.0, eps, below.high * most)
    # T / (V + eps) = (T / K) (K / V) V / (V + eps).
    tangent = torch.minimum(
        _upper(below.ratio / share * high), _upper(below.tangent / (least + eps))
    )
    own = float(bias is not None and bias.requires_grad)
    gains = below.gains
    trained = weight is not None and weight.requires_grad
    result = tangent * gain**2 + own
    if trained and gaussian:
        gains += gain**-2
    elif trained:
        result = result + high
    low, high = low * gain**2, high * gain**2
    return Units.of(low, high, result, torch.full_like(result, torch.inf), gains=gains)


@CELLS.register(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def add(a: Any, b: Any, *, alpha: float | int = 1.0) -> Units:
    """Of independent units: K and T add; with means on both sides K may be larger."""
    if not (isinstance(a, CellTensor) and isinstance(b, CellTensor)) or alpha != 1.0:
        raise CELLS.unsupported("add", "Sums of units have a bound.")
    if isinstance(a.law.law, Data) or isinstance(b.law.law, Data):
        raise CELLS.unsupported("the sum with the raw input")
    one, two = _moments(a), _moments(b)
    tangent = one.tangent + two.tangent
    if bool((one.share == 1).all()) or bool((two.share == 1).all()):
        ratio = torch.maximum(one.ratio, two.ratio)  # a mean of both, whatever their parts
        share = torch.minimum(one.share, two.share)
        return Units.of(one.low + two.low, one.high + two.high, tangent, ratio, share)
    low = one.low * one.share + two.low * two.share
    high = (one.high.sqrt() + two.high.sqrt()).square()
    ratio = torch.maximum(_upper(one.ratio / one.share), _upper(two.ratio / two.share))
    return Units.of(low, high, tangent, ratio, 0.5 * torch.minimum(one.share, two.share))


@CELLS.register(
    torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__, torch.div,
    torch.Tensor.div, torch.Tensor.__truediv__,
)  # fmt: skip
def refused(*args: Any, **options: Any) -> Units:
    """Products of anything but functions of Gaussian units have no bound here.

    Raises:
        UnsupportedOperation: Always.
    """
    raise CELLS.unsupported(
        "a product", "Functions of Gaussian units, norms and sums have a bound."
    )


@CELLS.register(
    torch.flatten, torch.Tensor.flatten, torch.reshape, torch.Tensor.reshape, torch.Tensor.view,
    torch.Tensor.to, torch.Tensor.float, torch.Tensor.double, torch.Tensor.clone, torch.clone,
)  # fmt: skip
def same(x: CellTensor, *args: Any, **options: Any) -> Units:
    """The raw input in another shape has the same mean square."""
    if not isinstance(x.law.law, Data):
        raise CELLS.unsupported("a reshape of units")
    return x.units


def _scaled_base(x: CellTensor) -> Units:
    """Gaussian units that are a multiple of the ones that the bounds are of."""
    law = x.law.law
    assert isinstance(law, Pointwise)
    assert isinstance(law.function, Rectified)
    factor = law.function.positive**2
    units = x.units
    return replace(
        units, low=units.low * factor, high=units.high * factor, tangent=units.tangent * factor
    )


def _moments(x: CellTensor) -> Units:
    """Bounds of the units themselves, gains included."""
    law = x.law.law
    if isinstance(law, Data | Mixed):
        return x.units
    if isinstance(law, Squares):
        raise law.error
    units, function = x.units, law.function
    if isinstance(function, Rectified):
        square = 0.5 * (function.negative**2 + function.positive**2)
        mean = (function.positive - function.negative) ** 2 / (2.0 * math.pi)
        low, high = units.low * square, units.high * square
        tangent = units.tangent * square + units.gains * high
        share = _ones(low) * (1.0 - mean / square if square else 1.0)
        return Units.of(low, high, tangent, units.ratio + units.gains, share, share)
    return _by_density(units, function)


def _by_density(units: Units, function: Activation) -> Units:
    """Bounds for any function, from the densities at both ends of a cell."""
    s0, s1 = units.low.sqrt(), units.high.sqrt()
    usable = (s0 > 0) & s1.isfinite()
    s0, s1 = torch.where(usable, s0, 1.0), torch.where(usable, s1, 1.0)
    stretch = s1 / s0
    ends = Rows(s0, s1)
    rows = function.rows(ends)
    spread = Rows(
        rows.root.left.square() - rows.mean.left.square(),
        rows.root.right.square() - rows.mean.right.square(),
    )
    low = torch.where(usable, rows.root.left.square() / stretch, 0.0)
    high = torch.where(usable, rows.root.right.square() * stretch, torch.inf)
    slope = rows.slope_root.right.square() * stretch
    gain = rows.gain_root.right.square() * stretch
    tangent = torch.where(usable, units.tangent * slope + units.gains * gain, torch.inf)
    # The variance is half the mean square of a difference of two independent units.
    share = torch.where(usable & (high > 0), spread.left / stretch.square() / high, 0.0)
    most = torch.where(usable & (low > 0), spread.right * stretch.square() / low, 1.0)
    nothing = torch.full_like(low, torch.inf)
    return Units.of(low, high, tangent, nothing, share.clamp(0.0, 1.0), most.clamp(0.0, 1.0))


def _ones(like: Tensor) -> Tensor:
    return torch.ones_like(like)


def _upper(values: Tensor, otherwise: float = torch.inf) -> Tensor:
    """Where a bound is 0 / 0 or 0 times infinity nothing is known."""
    return torch.where(values.isnan(), otherwise, values)


def _affine(a: float, k: Tensor, c: float) -> Tensor:
    """``a k + c``, where 0 times infinity is 0."""
    return a * k + c if a else torch.full_like(k, c)


def _moebius(a: float, c: float, w: float, b: float, k: Tensor) -> Tensor:
    """``(a k + c) / (w k + b)``, also at infinity; where all is 0 the limit from above."""
    finite = torch.where(k.isinf(), 1.0, k)
    denominator = w * finite + b
    safe = torch.where(denominator > 0, denominator, 1.0)
    at_zero = (math.inf if c else a / w) if w else 0.0
    values = torch.where(denominator > 0, (a * finite + c) / safe, at_zero)
    end = a / w if w else (math.inf if a else (c / b if b else 0.0))
    return torch.where(k.isinf(), end, values)
