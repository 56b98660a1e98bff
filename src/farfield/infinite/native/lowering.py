"""From a program of deferred values to the steps of the compiled library."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from farfield.infinite import angles, gram
from farfield.infinite.angles import Directions
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.native.layers import find_layers
from farfield.infinite.native.library import Step
from farfield.infinite.native.registers import allocate, drop_dead_forms
from farfield.infinite.pairs import Deferred, Program, Rows

_TERMS = {"plain": 0, "apart": 1, "product": 2}
_SHORT = 1e-3  # where a constant is at least this share, 1 - apart has all digits of the cosine


@dataclass(frozen=True)
class Lowered:
    """A program in the library's terms.

    Attributes:
        steps: What to do for each row of a tile.
        inputs: The directions that the input steps start from.
        registers: How many values of a pair are alive at once.
        outputs: How many kernels are stored.
        alive: The tensors that the steps point to.
    """

    steps: list[Step]
    inputs: list[Directions]
    registers: int
    outputs: int
    alive: list[Tensor]


def lower(program: Program) -> Lowered | None:
    """The program in the library's terms; ``None`` if there are none for it."""
    lowering = _Lowering(program)
    try:
        for step in program.steps:
            lowering.add(step)
    except _UnknownError:
        return None
    steps = drop_dead_forms(lowering.steps)
    registers = allocate(steps)
    return Lowered(steps, lowering.inputs, registers, len(program.outputs), lowering.alive)


class _UnknownError(Exception):
    """Something that the library has no step for."""


@dataclass(frozen=True)
class _Place:
    """The registers of a value: an angle's three forms, or one number.

    Attributes:
        main: 1 - cos, or the number itself.
        together: 1 + cos, -1 where no angle is obtuse; or the other factor of a product.
        cosine: cos; -1 where it is never small.
        term: What the number is: ``"plain"``, or, as long as nothing but a sum needs it,
            ``"apart"`` (1 - main) or ``"product"`` (main * together).
    """

    main: int
    together: int = -1
    cosine: int = -1
    term: str = "plain"

    @property
    def is_acute(self) -> bool:
        return self.together < 0

    @property
    def is_short(self) -> bool:
        return self.cosine < 0


class _Lowering:
    """Steps so far, and which registers hold what: every value has registers of its own."""

    def __init__(self, program: Program) -> None:
        self.steps: list[Step] = []
        self.inputs: list[Directions] = []
        self.alive: list[Tensor] = []
        self._count = 0
        self._numbers = {id(output): number for number, output in enumerate(program.outputs)}
        self._places: dict[int, _Place] = {}
        self._absorbed: set[int] = set()
        self._duals = _duals(program)
        self._layers = find_layers(program)
        self._rules: dict[Any, Any] = {
            Directions.angle: self._input,
            angles.mix: self._mix,
            angles.mix_constant: self._mix_constant,
            angles.constant: self._constant,
            angles.spread: self._spread,
            gram.cosine_of: self._cosine_of,
            gram.weighed: self._weighed,
            torch.mul: self._multiply,
        }

    def add(self, step: Deferred[Any]) -> None:
        """Append what computes one deferred value."""
        if id(step) in self._places or id(step) in self._absorbed:
            return  # computed together with something before it
        if step.function is gram.unscaled:
            root, cosine = step.arguments
            number = self._number(self._of(cosine))
            self._emit("store", number, rows=[root], number=self._numbers[id(step)])
        elif isinstance(getattr(step.function, "__self__", None), Rectified):
            if not self._whole_layer(step):
                self._rectify(step)
        elif step.function in self._rules:
            self._places[id(step)] = self._rules[step.function](*step.arguments)
        else:
            raise _UnknownError

    def _of(self, deferred: Deferred[Any]) -> _Place:
        return self._places[id(deferred)]

    def _new(self, count: int = 1) -> list[int]:
        self._count += count
        return list(range(self._count - count, self._count))

    def _place(self, *, together: bool = False, cosine: bool = False) -> _Place:
        """New registers."""
        (main,) = self._new()
        return _Place(main, self._new()[0] if together else -1, self._new()[0] if cosine else -1)

    def _emit(
        self,
        code: str,
        a: _Place | None = None,
        b: _Place | None = None,
        out: _Place | None = None,
        rows: list[Rows] | None = None,
        **others: float | int,
    ) -> None:
        step = Step(code=Step.CODES[code], slope=-1)
        for name, value in others.items():
            setattr(step, name, value)
        for name, place in (("a", a), ("b", b), ("out", out)):
            place = place or _Place(-1)
            setattr(step, name, place.main)
            setattr(step, f"together_{name}", place.together)
            setattr(step, f"cosine_{name}", place.cosine)
        for number, row in enumerate(rows or [], 1):
            for side in ("left", "right"):
                values = _plain(getattr(row, side))
                self.alive.append(values)
                setattr(step, f"{side}{number}", values.data_ptr())
        self.steps.append(step)

    def _input(self, directions: Directions) -> _Place:
        _plain(directions.unit.left[..., 0])
        out = self._place(together=True, cosine=True)
        self._emit("input", out=out, number=len(self.inputs))
        self.inputs.append(directions)
        return out

    def _constant(self, like: Rows) -> _Place:
        out = self._place()
        self._emit("fill", out=out)
        return out

    def _mix(self, first: Rows, a: Deferred[Any], second: Rows, b: Deferred[Any]) -> _Place:
        one, two = self._of(a), self._of(b)
        acute, short = one.is_acute and two.is_acute, one.is_short and two.is_short
        one, two = (self._full(place, not acute, not short) for place in (one, two))
        out = self._place(together=not acute, cosine=not short)
        self._emit("mix", one, two, out, [first, second])
        return out

    def _full(self, place: _Place, together: bool, cosine: bool) -> _Place:
        """The angle with these forms, if it does not have them."""
        found = {"together": place.together, "cosine": place.cosine}
        for code, wanted in (("together", together), ("cosine", cosine)):
            if wanted and found[code] < 0:
                out = self._place()
                self._emit(code, place, out=out)
                found[code] = out.main
        return _Place(place.main, found["together"], found["cosine"])

    def _mix_constant(self, first: Rows, a: Deferred[Any], second: Rows) -> _Place:
        place = self._of(a)
        short = place.is_short or (place.is_acute and _least(second) > _SHORT)
        out = self._place(together=not place.is_acute, cosine=not short)
        self._emit("mix_constant", place, out=out, rows=[first, second])
        return out

    def _spread(self, deviation: Rows, mean: Rows, a: Deferred[Any]) -> _Place:
        out = self._place(together=True, cosine=True)
        full = self._full(self._of(a), together=False, cosine=True)
        self._emit("spread", full, out=out, rows=[deviation, mean])
        return out

    def _cosine_of(self, angle: Deferred[Any]) -> _Place:
        return _cosine(self._of(angle))

    def _multiply(self, a: Deferred[Any], b: Deferred[Any]) -> _Place:
        one, two = (self._number(self._of(factor)) for factor in (a, b))
        return _Place(one.main, two.main, term="product")

    def _number(self, place: _Place) -> _Place:
        """A number in a register of its own."""
        if place.term == "plain":
            return place
        out = self._place()
        if place.term == "apart":
            self._emit("cosine", place, out=out)
        else:
            self._emit("multiply", _Place(place.main), _Place(place.together), out)
        return out

    def _weighed(self, *shares_and_cosines: Any) -> _Place:
        total: _Place | None = None
        for share, cosine in zip(shares_and_cosines[::2], shares_and_cosines[1::2], strict=True):
            out, place = self._place(), self._of(cosine)
            self._emit("weigh", place, total, out, [share], number=_TERMS[place.term])
            total = out
        assert total is not None
        return total

    def _whole_layer(self, step: Deferred[Any]) -> bool:
        """A rectifier, the linear map behind it and the tangents of both in one go, if possible."""
        layer = self._layers.get(id(step))
        if layer is None or layer.activation.is_linear:
            return False
        source, kappa = self._of(layer.source), layer.activation.kappa
        folded = not source.is_acute
        if folded:
            if kappa > 0 or layer.constant is None or _least(layer.constant) <= _SHORT:
                return False
        elif not source.is_short and kappa > 0.5:
            return False
        self._ensure(layer.below)
        tangent = self._number(self._of(layer.below))
        one = layer.share if layer.share is not None else layer.weight.map(torch.ones_like)
        zero = layer.constant or layer.weight.map(torch.zeros_like)
        angle, above = self._place(), self._place()
        self._emit(
            "layer",
            _Place(source.main, source.together if folded else -1),
            tangent,
            angle,
            [one, zero, layer.weight, layer.below_weight],
            slope=above.main,
            kappa=kappa,
        )
        self._places[id(layer.angle)], self._places[id(layer.above)] = angle, above
        self._absorbed.update(map(id, layer.inside))
        return True

    def _ensure(self, deferred: Deferred[Any]) -> None:
        """Append what computes a value and all that it needs, before its turn."""
        if id(deferred) not in self._places:
            for parent in deferred.parents():
                self._ensure(parent)
            self.add(deferred)

    def _rectify(self, step: Deferred[Any]) -> None:
        """The angle, the slope and the gain of a rectifier."""
        activation: Rectified = step.function.__self__  # type: ignore[attr-defined]
        kappa, place = activation.kappa, self._of(step.arguments[1])
        if activation.is_linear:
            angle, slope = place, self._place()
            self._emit("fill", out=slope, kappa=1.0)
        else:
            angle, slope = self._bent(kappa, place)
        results = {"angle": angle, "slope": slope, "gain": _cosine(angle)}
        for deferred in self._duals[_key(step)]:
            self._places[id(deferred)] = results[deferred.function.__name__]

    def _bent(self, kappa: float, place: _Place) -> tuple[_Place, _Place]:
        slope = self._place()
        if place.is_acute and (place.is_short or kappa <= 0.5):  # as in rectified.py
            out = self._place()
            self._emit("rectify", _Place(place.main), out=out, slope=slope.main, kappa=kappa)
            return out, slope
        folded = kappa <= 0
        full = self._full(place, together=True, cosine=not folded)
        out = self._place(together=not folded, cosine=True)
        source = _Place(full.main, full.together) if folded else full
        self._emit("rectify", source, out=out, slope=slope.main, kappa=kappa)
        return (_Place(out.main, -1, out.cosine) if place.is_acute or folded else out), slope


def _cosine(angle: _Place) -> _Place:
    return _Place(angle.main, term="apart") if angle.is_short else _Place(angle.cosine)


def _key(step: Deferred[Any]) -> tuple[int, int]:
    """What the angle, the slope and the gain of one activation have in common."""
    return id(step.function.__self__), id(step.arguments[1])  # type: ignore[attr-defined]


def _duals(program: Program) -> dict[tuple[int, int], list[Deferred[Any]]]:
    """For each rectifier and angle: those of its three kernels that are wanted, perhaps twice."""
    found: dict[tuple[int, int], list[Deferred[Any]]] = defaultdict(list)
    for step in program.steps:
        if isinstance(getattr(step.function, "__self__", None), Rectified):
            found[_key(step)].append(step)
    return found


def _least(share: Rows) -> float:
    """The smallest product of these shares of a pair."""
    sides = (share.left, share.right)
    return float(sides[0].min() * sides[1].min()) if all(len(side) for side in sides) else 0.0


def _plain(values: Tensor) -> Tensor:
    """Numbers as the library wants them: one for each row, float64, on the CPU."""
    if (
        values.ndim != 1
        or values.dtype != torch.float64
        or values.device.type != "cpu"
        or values.requires_grad
    ):
        raise _UnknownError
    return values.contiguous()
