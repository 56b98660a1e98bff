"""A tensor that stands for the law of a layer's units at two batches of inputs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from farfield.infinite.gram import Variance
from farfield.infinite.laws import Data, Gaussian, Law, Pointwise, range_of
from farfield.infinite.pairs import Rows
from farfield.infinite.variances import measured
from farfield.reading import AbstractTensor, RuleTable

Parameterization = Literal["ntk", "standard"]

RULES = RuleTable(
    "the infinite-width limit",
    "What to do instead: farfield.monte_carlo(model, x1, x2) estimates both kernels from finite "
    "networks, with standard errors.",
)

# What functions of the raw input do, other than to run on its numbers (see rules/numbers.py).
MAP = "map"  # a matrix of parameters is drawn at random; one that the model holds is applied
KEEP = "keep"  # parameters keep the values that they have
COPY = "copy"  # real numbers keep the precision of the laws


@dataclass(frozen=True, eq=False)
class Part:
    """A range of the units of a layer.

    Attributes:
        start: Its first unit.
        stop: The unit after its last one.
        whole: The law of all units; kept alive, so that its ``id`` stays its own.
        own: The law of these units.
    """

    start: int
    stop: int
    whole: Gaussian
    own: Gaussian

    def of(self, law: Pointwise) -> Law:
        """What ``law``, a function of all units, is for these."""
        return replace(law, base=self.own)


@dataclass
class Reading:
    """What one reading of a model knows and has met.

    Attributes:
        weight_vars: Variance of each weight matrix (times fan_in), by ``id`` of the parameter,
            as far as it was given or is remembered.
        bias_vars: Variance of each bias, by ``id`` of the parameter, likewise.
        names: Names of the parameters, by ``id``.
        fixed: The ``id`` of the tensors that the model holds and does not train or draw.
        parameterization: How gradients are counted.
        used: The parameters that were used already.
        parts: Ranges of units that were taken out of a law, by ``id`` of what they came from.
    """

    weight_vars: dict[int, Variance]
    bias_vars: dict[int, Variance]
    names: dict[int, str]
    fixed: frozenset[int]
    parameterization: Parameterization
    used: set[int] = field(default_factory=set)
    parts: dict[int, list[Part]] = field(default_factory=dict)

    def is_fixed(self, value: Tensor) -> bool:
        """Whether a tensor is one that the model holds, such as a buffer, or a view of one."""
        return id(value) in self.fixed or id(value._base) in self.fixed

    def use(self, parameter: Tensor, what: str) -> None:
        """Note that a parameter that is drawn is used, and refuse a second use.

        Raises:
            UnsupportedOperation: The parameter was used before, or is not one of the model's.
        """
        self._check_own(parameter, what)
        if id(parameter) in self.used:
            raise RULES.unsupported(
                f"{what} with the parameter {self.names[id(parameter)]!r} a second time",
                "A weight that is used twice (a shared layer, tied weights) makes the layers "
                "depend on each other, and the units are no longer Gaussian in the limit.",
            )
        self.used.add(id(parameter))

    def keep(self, parameter: Tensor, what: str) -> None:
        """Note that a parameter that is not drawn is used: a gain, a norm's bias, a slope.

        Raises:
            UnsupportedOperation: It is trained and was used before, or is not one of the model's.
        """
        self._check_own(parameter, what)
        if parameter.requires_grad and id(parameter) in self.used:
            raise RULES.unsupported(
                f"{what} with the trained parameter {self.names[id(parameter)]!r} at a second "
                "place",
                "Its gradient is the sum of those at both places, whose product does not vanish "
                "in general; give each place a module of its own, or freeze this one with "
                "requires_grad_(False).",
            )
        self.used.add(id(parameter))

    def _check_own(self, parameter: Tensor, what: str) -> None:
        if id(parameter) in self.names:
            return
        if is_parameter(parameter):
            raise RULES.unsupported(
                f"{what} with a parameter that is not a parameter of the model",
                "Modules in plain lists or dictionaries are not registered; put them into "
                "nn.ModuleList or nn.ModuleDict.",
            )
        raise RULES.unsupported(
            what,
            "Its weight is not a parameter of the model but computed from something, so the law "
            "it is drawn from is not known.",
        )

    def weight_var(self, weight: Tensor, fan_in: int) -> Variance:
        """The variance of a weight matrix, which is used here: given, remembered or measured."""
        self.use(weight, "linear")
        known = self.weight_vars.get(id(weight))
        return measured(weight) * fan_in if known is None else known

    def bias_var(self, bias: Tensor, what: str) -> Variance:
        """The variance of a bias, which is used here: given, remembered or measured."""
        self.use(bias, what)
        known = self.bias_vars.get(id(bias))
        return measured(bias) if known is None else known

    def part(self, law: Law, start: int, stop: int, width: int) -> Law:
        """The law of a range of units: independent of the units that are not in it.

        The same range of the same units is always the same law, so that functions of it are
        known to belong together.

        Raises:
            UnsupportedOperation: The range overlaps with another one that was taken.
        """
        if (start, stop) == (0, width):
            return law
        if not isinstance(law, Pointwise):
            raise RULES.unsupported(
                f"the range {start}:{stop} of units that are not a function of Gaussian ones",
                "Units side by side, or behind a product or a norm of means, may differ or depend "
                "on each other; take the range before.",
            )
        whole = law.base
        known = self.parts.setdefault(id(whole), [])
        for part in known:
            if (part.start, part.stop) == (start, stop):
                return part.of(law)
            if part.start < stop and start < part.stop:
                raise RULES.unsupported(
                    f"the range {start}:{stop} of units beside the range {part.start}:{part.stop}",
                    "They overlap, so they are neither the same nor independent.",
                )
        known.append(Part(start, stop, whole, range_of(whole, start, stop)))
        return known[-1].of(law)


class LimitTensor(AbstractTensor):
    """Units of infinite width at the batches x1 and x2; its shape is that of the batch x1 + x2.

    Attributes:
        law: What is known of the units.
        reading: The reading it belongs to.
        is_view: Whether it is a part of another one, or the same in another shape.
        views: Such views of it, as long as they are alive.
    """

    rules: ClassVar[RuleTable] = RULES
    law: Law
    reading: Reading
    is_view: bool
    views: list[weakref.ref[LimitTensor]]

    @staticmethod
    def __new__(cls, law: Law, shape: Sequence[int], like: Tensor, reading: Reading) -> LimitTensor:
        """A tensor of this shape with the dtype and device of ``like``."""
        tensor: LimitTensor = AbstractTensor.blank(cls, shape, like)
        tensor.law = law
        tensor.reading = reading
        tensor.is_view = False
        tensor.views = []
        return tensor

    def __init__(self, law: Law, shape: Sequence[int], like: Tensor, reading: Reading) -> None:
        pass

    def view_of(self, law: Law, shape: Sequence[int]) -> LimitTensor:
        """A part of this tensor, or the same in another shape: it shares its memory."""
        view = self.with_law(law, shape)
        self.has_view(view)
        return view

    def has_view(self, view: LimitTensor) -> None:
        """Note that another tensor shares this one's memory."""
        view.is_view = True
        self.views.append(weakref.ref(view))

    def with_law(self, law: Law, shape: Sequence[int] | None = None) -> LimitTensor:
        """Another tensor of the same reading.

        Raises:
            UnsupportedOperation: Gradients are switched off for a part of the model.
        """
        check_gradients()
        return LimitTensor(law, tuple(self.shape) if shape is None else shape, self, self.reading)

    def replace_(self, other: AbstractTensor) -> LimitTensor:
        """Take the law of ``other``.

        Raises:
            UnsupportedOperation: This is a view, or has one, which would have to change too.
        """
        if self.is_view or any(view() is not None for view in self.views):
            raise RULES.unsupported(
                "an in-place function of a view, or of a tensor with views",
                "Use the function that returns a new tensor.",
            )
        if isinstance(other, LimitTensor):
            self.law = other.law
        return self


def input_tensor(x1: Tensor, x2: Tensor, dtype: torch.dtype, reading: Reading) -> LimitTensor:
    """The two batches of raw inputs, (n1, *features) and (n2, *features).

    The model sees them in the dtype that the user gave, whatever the laws are computed in.
    """
    shape = (len(x1) + len(x2), *x1.shape[1:])
    like = torch.empty(0, dtype=dtype, device=x1.device)
    return LimitTensor(Data(Rows(x1, x2)), shape, like, reading)


def check_gradients() -> None:
    """Refuse a part of the model in which gradients are switched off.

    Raises:
        UnsupportedOperation: They are.
    """
    if not torch.is_grad_enabled():
        raise RULES.unsupported(
            "no_grad inside of forward, or a torch.autograd.Function",
            "What is trained below it is no longer that of the whole model; freeze parameters "
            "with requires_grad_(False) instead.",
        )


def is_parameter(value: object) -> bool:
    """Whether a value is a parameter of a module."""
    return isinstance(value, torch.nn.Parameter)


def is_trained(value: object) -> bool:
    """Whether a value is a trained parameter, or computed from one."""
    return isinstance(value, Tensor) and value.requires_grad
