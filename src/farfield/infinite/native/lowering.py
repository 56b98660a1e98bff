"""From a program of deferred values to the steps of the compiled library."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from farfield.infinite import angles, gram
from farfield.infinite.angles import Directions
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.native.library import Step
from farfield.infinite.pairs import Deferred, Program, Rows

_NAMES = "input mix mix_constant spread rectify cosine together multiply weigh fill store"
_CODES = {name: number for number, name in enumerate(_NAMES.split())}
_READ = ("a", "together_a", "cosine_a", "b", "together_b", "cosine_b")
_WRITTEN = ("out", "together_out", "cosine_out", "slope")
_TERMS = {"plain": 0, "apart": 1, "product": 2}


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
        for step, done in zip(program.steps, program.done_after, strict=True):
            lowering.add(step)
            lowering.forget(done)
    except _UnknownError:
        return None
    _drop_dead_forms(lowering.steps)
    return Lowered(
        lowering.steps, lowering.inputs, lowering.count, len(program.outputs), lowering.alive
    )


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

    def all(self) -> list[int]:
        return [register for register in (self.main, self.together, self.cosine) if register >= 0]


class _Lowering:
    """Steps so far, and which registers hold what."""

    def __init__(self, program: Program) -> None:
        self.steps: list[Step] = []
        self.inputs: list[Directions] = []
        self.alive: list[Tensor] = []
        self.count = 0
        self._numbers = {id(output): number for number, output in enumerate(program.outputs)}
        self._free: list[int] = []
        self._places: dict[int, _Place] = {}
        self._holders: Counter[int] = Counter()
        self._duals = _duals(program)
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
        if id(step) in self._places:
            return  # a rectifier's angle, slope and gain are computed together
        if step.function is gram.unscaled:
            root, cosine = step.arguments
            extra: list[int] = []
            number = self._number(self._of(cosine), extra)
            self._emit("store", a=number, rows=[root], number=self._numbers[id(step)])
            self._free += extra
        elif isinstance(getattr(step.function, "__self__", None), Rectified):
            self._rectify(step)
        elif step.function in self._rules:
            self._hold(step, self._rules[step.function](*step.arguments))
        else:
            raise _UnknownError

    def forget(self, names: list[int]) -> None:
        """Free the registers of values that nothing needs any more."""
        for name in names:
            self._release(self._places.pop(name))

    def _of(self, deferred: Deferred[Any]) -> _Place:
        return self._places[id(deferred)]

    def _hold(self, deferred: Deferred[Any], place: _Place) -> None:
        self._places[id(deferred)] = place
        self._holders.update(place.all())

    def _release(self, place: _Place) -> None:
        for register in place.all():
            self._holders[register] -= 1
            if self._holders[register] <= 0:
                self._free.append(register)

    def _new(self) -> int:
        if self._free:
            return self._free.pop()
        self.count += 1
        return self.count - 1

    def _emit(
        self,
        code: str,
        a: _Place | None = None,
        b: _Place | None = None,
        out: _Place | None = None,
        rows: list[Rows] | None = None,
        **others: float | int,
    ) -> None:
        step = Step(code=_CODES[code], slope=-1)
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
        out = _Place(self._new(), self._new(), self._new())
        self._emit("input", out=out, number=len(self.inputs))
        self.inputs.append(directions)
        return out

    def _constant(self, like: Rows) -> _Place:
        out = _Place(self._new())
        self._emit("fill", out=out)
        return out

    def _mix(self, first: Rows, a: Deferred[Any], second: Rows, b: Deferred[Any]) -> _Place:
        one, two = self._of(a), self._of(b)
        acute = one.together < 0 and two.together < 0
        short = one.cosine < 0 and two.cosine < 0
        out = _Place(self._new(), -1 if acute else self._new(), -1 if short else self._new())
        extra: list[int] = []
        one, two = (self._full(place, acute, short, extra) for place in (one, two))
        self._emit("mix", one, two, out, [first, second])
        self._free += extra
        return out

    def _full(self, place: _Place, acute: bool, short: bool, extra: list[int]) -> _Place:
        """The angle with the forms that the other one has."""
        together, cosine = place.together, place.cosine
        for wanted, code, missing in [
            (not acute, "together", together < 0), (not short, "cosine", cosine < 0)
        ]:  # fmt: skip
            if wanted and missing:
                extra.append(self._new())
                self._emit(code, place, out=_Place(extra[-1]))
                if code == "together":
                    together = extra[-1]
                else:
                    cosine = extra[-1]
        return _Place(place.main, together, cosine)

    def _mix_constant(self, first: Rows, a: Deferred[Any], second: Rows) -> _Place:
        place = self._of(a)
        out = _Place(
            self._new(),
            -1 if place.together < 0 else self._new(),
            -1 if place.cosine < 0 else self._new(),
        )
        self._emit("mix_constant", place, out=out, rows=[first, second])
        return out

    def _spread(self, deviation: Rows, mean: Rows, a: Deferred[Any]) -> _Place:
        extra: list[int] = []
        full = self._full(self._of(a), acute=True, short=False, extra=extra)
        out = _Place(self._new(), self._new(), self._new())
        self._emit("spread", full, out=out, rows=[deviation, mean])
        self._free += extra
        return out

    def _cosine_of(self, angle: Deferred[Any]) -> _Place:
        return _cosine(self._of(angle))

    def _multiply(self, a: Deferred[Any], b: Deferred[Any]) -> _Place:
        extra: list[int] = []
        one, two = (self._number(self._of(factor), extra) for factor in (a, b))
        if not extra:
            return _Place(one.main, two.main, term="product")
        out = _Place(self._new())
        self._emit("multiply", one, two, out)
        self._free += extra
        return out

    def _number(self, place: _Place, extra: list[int]) -> _Place:
        """A number in a register of its own."""
        if place.term == "plain":
            return place
        extra.append(self._new())
        out = _Place(extra[-1])
        if place.term == "apart":
            self._emit("cosine", place, out=out)
        else:
            self._emit("multiply", _Place(place.main), _Place(place.together), out)
        return out

    def _weighed(self, *shares_and_cosines: Any) -> _Place:
        total: _Place | None = None
        for share, cosine in zip(shares_and_cosines[::2], shares_and_cosines[1::2], strict=True):
            out, place = _Place(self._new()), self._of(cosine)
            self._emit("weigh", place, total, out, [share], number=_TERMS[place.term])
            if total is not None:
                self._free.append(total.main)
            total = out
        assert total is not None
        return total

    def _rectify(self, step: Deferred[Any]) -> None:
        """The angle, the slope and the gain of a rectifier."""
        activation: Rectified = step.function.__self__  # type: ignore[attr-defined]
        source = step.arguments[1]
        wanted = self._duals[_key(step)]
        kappa, place = activation.kappa, self._of(source)
        if activation.is_linear:
            angle, slope = place, _Place(self._new())
            self._emit("fill", out=slope, kappa=1.0)
        else:
            angle, slope = self._bent(kappa, place)
        results = {"angle": angle, "slope": slope}
        if "gain" in wanted:
            results["gain"] = _cosine(angle)
        for name, deferred in wanted.items():
            self._hold(deferred, results[name])
        held = {register for name in wanted for register in results[name].all()}
        for register in {*slope.all(), *angle.all()} - held - set(place.all()):
            self._free.append(register)

    def _bent(self, kappa: float, place: _Place) -> tuple[_Place, _Place]:
        slope = self._new()
        if place.together < 0 and (place.cosine < 0 or kappa <= 0.5):  # as in rectified.py
            angle = _Place(self._new())
            self._emit("rectify", _Place(place.main), out=angle, slope=slope, kappa=kappa)
            return angle, _Place(slope)
        extra: list[int] = []
        folded = kappa <= 0
        full = self._full(place, acute=False, short=folded, extra=extra)
        out = _Place(self._new(), -1 if folded else self._new(), self._new())
        if folded:
            full = _Place(full.main, full.together)
        self._emit("rectify", full, out=out, slope=slope, kappa=kappa)
        self._free += extra
        if place.together < 0 and not folded:
            self._free.append(out.together)
            out = _Place(out.main, -1, out.cosine)
        return out, _Place(slope)


def _cosine(angle: _Place) -> _Place:
    return _Place(angle.cosine) if angle.cosine >= 0 else _Place(angle.main, term="apart")


def _key(step: Deferred[Any]) -> tuple[int, int]:
    """What the angle, the slope and the gain of one activation have in common."""
    return id(step.function.__self__), id(step.arguments[1])  # type: ignore[attr-defined]


def _duals(program: Program) -> dict[tuple[int, int], dict[str, Deferred[Any]]]:
    """For each rectifier and angle: which of its three kernels are wanted."""
    found: dict[tuple[int, int], dict[str, Deferred[Any]]] = defaultdict(dict)
    for step in program.steps:
        if isinstance(getattr(step.function, "__self__", None), Rectified):
            found[_key(step)][step.function.__name__] = step
    return found


def _drop_dead_forms(steps: list[Step]) -> None:
    """Leave out the forms of an angle, 1 + cos and cos, that no later step reads."""
    live: set[int] = set()
    for step in reversed(steps):
        if step.code in (_CODES["input"], _CODES["mix"], _CODES["mix_constant"]):
            for form in ("together", "cosine"):
                needed = getattr(step, f"{form}_out") in live
                if not needed and (form == "cosine" or step.code != _CODES["input"]):
                    for side in ("a", "b", "out"):
                        setattr(step, f"{form}_{side}", -1)
        live -= {getattr(step, name) for name in _WRITTEN}
        live |= {getattr(step, name) for name in _READ}


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
