r"""Networks of layers one behind the other, as linear forms and the quadratic relations of these.

With ``a = relu(s)`` written as ``u >= 0, u >= s, u (u - s) = 0``, and a normalised vector as
``|t|^2 <= n``, such a network is linear in the vector

    xi = (1, p, u_1, u_2, ...)

of a point p and the rectified units, up to its last activation. p is where the first norm can
point to, ``|p| <= 1``; or, where the only norm comes later, the input and its unit, (x, rho), times
whatever makes the norm's divisor sqrt(n): LayerNorm and RMSNorm do not see that factor, so that
``|y|^2 + n eps rho^2 = n`` for the normalised vector y, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.growth.dual import pull
from farfield.growth.graph import Affine, Ball, Free, Node, Pointwise
from farfield.growth.intervals import rounding

_MOST = 1300  # entries of xi
_MAX_UNITS = 1300  # of a value


@dataclass(frozen=True, eq=False)
class Forms:
    """Linear forms of xi.

    Attributes:
        rows: (k, size): the coefficients.
        sizes: (k, size): with ``Chain.error``, how far off they can be.
    """

    rows: Tensor
    sizes: Tensor

    def mapped(self, matrix: Tensor, sizes: Tensor) -> Forms:
        """A matrix times the forms."""
        return Forms(matrix @ self.rows, sizes @ self.sizes)

    def plus(self, other: Forms, sign: float | int = 1.0) -> Forms:
        """The sum, or the difference."""
        return Forms(self.rows + sign * other.rows, self.sizes + other.sizes)

    def scaled(self, factor: Tensor) -> Forms:
        """Each form times a number."""
        return Forms(factor[:, None] * self.rows, factor.abs()[:, None] * self.sizes)


@dataclass(frozen=True, eq=False)
class Chain:
    """A network up to its last activation.

    Attributes:
        signs: Forms that are never negative.
        units: The rectified units u.
        below: What each of them is the rectified value of: ``u (u - s) = 0``.
        balls: The sum of squares of the left forms less that of the right ones: never negative.
        spheres: Likewise, and 0.
        fixed: How many of ``signs`` are of p alone.
        last: What the last activation is applied to.
        node: The value of the last activation.
        slopes: Its slopes below and above 0.
        error: A coefficient is off by no more than this times its size.
        parts: Which entries of xi belong together.
        size: Entries of xi.
        limits: No part is longer, or nothing is known.
    """

    signs: Forms
    units: Forms
    below: Forms
    balls: tuple[tuple[Forms, Forms], ...]
    spheres: tuple[tuple[Forms, Forms], ...]
    fixed: int
    last: Forms
    node: Node
    slopes: tuple[Tensor, Tensor]
    error: float
    parts: tuple[slice, ...]
    size: int
    limits: tuple[float, ...] | None

    def points(self, count: int, generator: torch.Generator) -> Tensor:
        """Some xi that belong to inputs, (count, size)."""
        xi = torch.zeros(count, self.size, dtype=torch.float64)
        xi[:, 0] = 1.0
        place = self.parts[1]
        shape = (count, place.stop - place.start)
        p = torch.randn(shape, dtype=torch.float64, generator=generator)
        for left, right in self.balls:  # p is (c, tau) or c
            rows = right.rows[:, place]
            inside = p @ rows.T @ rows
            inside = inside / torch.linalg.vector_norm(inside, dim=1, keepdim=True)
            p = inside + left.rows[:, place].sum(0)
        xi[:, place] = p
        flip = (xi @ self.signs.rows[: self.fixed].T < 0).double() @ self.signs.rows[: self.fixed]
        xi = xi * (1.0 - 2.0 * (flip != 0).double())
        for left, right in self.spheres:
            xi = self._filled(xi)
            size = (xi @ left.rows.T).square().sum(1) / (xi @ right.rows.T).square().sum(1)
            xi = torch.cat([xi[:, :1], xi[:, 1:] / size.sqrt()[:, None]], 1)
        return self._filled(xi)

    def _filled(self, xi: Tensor) -> Tensor:
        """The units that belong to p."""
        start = 0
        for place in self.parts[2:]:
            stop = start + place.stop - place.start
            xi = xi.clone()
            xi[:, place] = (xi @ self.below.rows[start:stop].T).clamp(min=0.0)
            start = stop
        return xi


@dataclass(frozen=True, eq=False)
class Map:
    """An affine map of vectors, and the sizes of its coefficients, which their rounding goes by."""

    matrix: Tensor
    sizes: Tensor
    offset: Tensor
    offset_sizes: Tensor
    terms: int


def chain_of(output: Node) -> tuple[Chain, Map] | None:
    """Read the layers below an output.

    Args:
        output: The output.

    Returns:
        The network below the last activation, and the affine map behind it; nothing where the
        layers are others than linear ones, norms of the whole vector and functions that are a line
        on each side of 0.
    """
    start = _linear(output)
    if start is None or not _bends(start[1]):
        return None
    final, last = start
    (argument,) = last.parents
    layers: list[Map | Node] = []
    node = argument
    balls = 0
    while not isinstance(node.step, Free):
        if isinstance(node.step, Ball):
            if node.step.groups != 1:
                return None
            layers.append(node)
            balls += 1
            if balls == 2 or not _continues(node):
                break
            (node,) = node.parents
        elif _bends(node):
            layers.append(node)
            (node,) = node.parents
        else:
            found = _linear(node)
            if found is None:
                return None
            layers.append(found[0])
            node = found[1]
    if not balls or not last.parents[0].is_bounded:
        return None
    built = _build(layers[::-1], last, node)
    return None if built is None else (built, final)


def _continues(node: Node) -> bool:
    """Whether there is an activation below a norm that can be followed to the input or a norm."""
    step = node.step
    if not isinstance(step, Ball) or step.groups != 1 or step.eps is None:
        return False
    (below,) = node.parents
    bends = False
    while not isinstance(below.step, Free):
        if isinstance(below.step, Ball):
            return bends and below.step.groups == 1
        if _bends(below):
            bends = True
            (below,) = below.parents
            continue
        found = _linear(below)
        if found is None:
            return False
        below = found[1]
    return bends and below.step.is_input


def _bends(node: Node) -> bool:
    """Whether it is a function that is a line on each side of 0, and bends there."""
    step = node.step
    return (
        isinstance(step, Pointwise)
        and step.curve.asymptotes is not None
        and step.curve.asymptotes[2] == 0.0
    )


def _slopes(node: Node) -> tuple[Tensor, Tensor]:
    assert isinstance(node.step, Pointwise)
    assert node.step.curve.asymptotes is not None
    full = torch.zeros(node.shape, dtype=torch.float64)
    left, right, _ = node.step.curve.asymptotes
    return (full + left).flatten(), (full + right).flatten()


def _linear(node: Node) -> tuple[Map, Node] | None:
    """A value as an affine function of a single other one."""
    count = node.lower.numel()
    if count > _MAX_UNITS or not isinstance(node.step, Affine):
        return None
    eye = torch.eye(count, dtype=torch.float64).reshape(-1, *node.shape)
    rows, sizes, known = {node.index: eye}, {node.index: eye}, {node.index: node}
    offset, offset_sizes = torch.zeros(2, count, dtype=torch.float64)
    terms = 1
    while known:
        index = max(known)
        now = known.pop(index)
        part, size = rows.pop(index), sizes.pop(index)
        if not isinstance(now.step, Affine):
            if known or now.lower.numel() > _MAX_UNITS:
                return None
            return Map(part.flatten(1), size.flatten(1), offset, offset_sizes, terms), now
        offset = offset + (part * now.step.offset).flatten(1).sum(1)
        offset_sizes = offset_sizes + (size * now.step.offset.abs()).flatten(1).sum(1)
        terms += now.step.terms + 1
        if any(parent.lower.numel() > _MAX_UNITS for parent in now.parents):
            return None
        pulled = pull(now.step, now.parents, part), pull(now.step, now.parents, size, sizes=True)
        for parent, below, wide in zip(now.parents, *pulled, strict=True):
            rows[parent.index] = rows.get(parent.index, 0.0) + below
            sizes[parent.index] = sizes.get(parent.index, 0.0) + wide
            known[parent.index] = parent
    return None


def _build(layers: list[Map | Node], last: Node, start: Node) -> Chain | None:
    """The forms of the layers, the first one first."""
    first = layers[0]
    later = any(isinstance(x, Node) and isinstance(x.step, Ball) for x in layers[1:])
    basis, sign, leak = _directions(first) if isinstance(first, Node) else (None, 0.0, 0.0)
    count = start.lower.numel() if basis is None else basis.shape[1]
    widths = [x.lower.numel() for x in layers if isinstance(x, Node) and _bends(x)]
    size = 1 + count + later + sum(widths)
    if size > _MOST or not widths:
        return None
    eye = torch.eye(size, dtype=torch.float64)
    one = Forms(eye[:1], eye[:1])
    p = Forms(eye[1 : 1 + count], eye[1 : 1 + count])
    unit = Forms(eye[1 + count : 2 + count], eye[1 + count : 2 + count]) if later else one
    fixed, balls, spheres = [unit] if later else [], [], []
    now = p
    if basis is not None:
        balls.append((unit, p))
        if sign:
            fixed.append(Forms(sign * p.rows[-1:], p.sizes[-1:]))
        now = p.mapped(basis, torch.ones_like(basis))
        assert isinstance(first, Node)
        now = _scaled(now, first, unit)
        layers = layers[1:]
    places, units, below, more = [slice(0, 1), slice(1, 1 + count + later)], [], [], []
    terms, at = size, 1 + count + later
    for layer in layers:
        if isinstance(layer, Map):
            now = now.mapped(layer.matrix, layer.sizes)
            shift = Forms(
                layer.offset[:, None] * unit.rows, layer.offset_sizes[:, None] * unit.sizes
            )
            now = now.plus(shift)
            terms += layer.terms
        elif isinstance(layer.step, Ball):
            if layer.step.centred:
                now = Forms(
                    now.rows - now.rows.mean(0), now.sizes + now.sizes.mean(0, keepdim=True)
                )
            n = len(now.rows)
            assert layer.step.eps is not None
            rest = unit.scaled(torch.tensor([math.sqrt(n * layer.step.eps)], dtype=torch.float64))
            left = Forms(torch.cat([now.rows, rest.rows]), torch.cat([now.sizes, rest.sizes]))
            spheres.append((left, one.scaled(torch.tensor([math.sqrt(n)], dtype=torch.float64))))
            unit = one
            gain, bias = layer.step.gain.flatten(), layer.step.bias.flatten()
            shift = Forms(bias[:, None] * one.rows, bias.abs()[:, None] * one.sizes)
            now = now.scaled(gain).plus(shift)
            terms += n
        else:
            width = layer.lower.numel()
            u = Forms(eye[at : at + width], eye[at : at + width])
            places.append(slice(at, at + width))
            at += width
            units.append(u)
            below.append(now)
            high = layer.parents[0].upper.flatten()
            if bool(high.isfinite().all()):
                cap = unit.rows * high.clamp(min=0.0)[:, None]
                more.append(Forms(cap, cap).plus(u, -1.0))
            slope, other = _slopes(layer)
            now = now.scaled(slope).plus(u.scaled(other - slope))
    limits = None
    if not later and basis is not None:
        limits = (1.0, 1.0, *_lengths(layers))
    u, s = _joined(units), _joined(below)
    signs = _joined([one, *fixed, u, u.plus(s, -1.0), *more])
    return Chain(
        signs, u, s, tuple(balls), tuple(spheres), 1 + len(fixed), now, last, _slopes(last),
        rounding(terms) + 2.0 * leak, tuple(places), size, limits,
    )  # fmt: skip


def _lengths(layers: list[Map | Node]) -> list[float]:
    """No vector of rectified units is longer."""
    return [
        float(torch.linalg.vector_norm(x.parents[0].upper.clamp(min=0.0))) * (1.0 + 1e-12)
        for x in layers
        if isinstance(x, Node) and _bends(x)
    ]


def _scaled(t: Forms, node: Node, unit: Forms) -> Forms:
    """``radius gain t + bias``; what rounding leaks out of the cone stands at the unit."""
    assert isinstance(node.step, Ball)
    factor = node.step.gain.flatten() * node.step.radius[0]
    bias = node.step.bias.flatten()[:, None]
    leak = factor.abs()[:, None] * unit.sizes
    shift = Forms(bias * unit.rows, bias.abs() * unit.sizes + leak)
    return t.scaled(factor).plus(shift)


def _directions(node: Node) -> tuple[Tensor, float, float]:
    """A basis of where a normalised vector points, the sign of the last part, and the leak."""
    assert isinstance(node.step, Ball)
    cone = node.step.cone
    if cone is not None:
        return cone.basis, cone.sign, cone.leak
    eye = torch.eye(node.lower.numel(), dtype=torch.float64)
    if not node.step.centred:
        return eye, 0.0, 0.0
    basis, _ = torch.linalg.qr((eye - 1.0 / len(eye))[:, :-1])
    return basis, 0.0, rounding(len(eye) ** 2)


def _joined(parts: list[Forms]) -> Forms:
    return Forms(torch.cat([x.rows for x in parts]), torch.cat([x.sizes for x in parts]))
