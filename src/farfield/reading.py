"""Reading a model: its own ``forward`` runs on tensors that stand for something else.

An :class:`AbstractTensor` has a shape but no numbers. Every PyTorch function that meets one is
looked up in a :class:`RuleTable`; the rule says what the function does to what the tensor stands
for. A function without a rule raises an error: never a guess.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from farfield.errors import UnsupportedOperation
from farfield.trail import current_module, inside_a_rule, note_question_of_shape

_NEIGHBOURS = 3  # names of functions that an error offers instead, at most

Rule = Callable[..., Any]

ASK = "ask"
"""Mark of functions whose rule must be asked in any case."""

AnyRule = TypeVar("AnyRule", bound=Rule)

# Questions about the shape, and others about the kind, which the tensor answers itself.
_SHAPE = {
    torch.Tensor.size,
    torch.Tensor.numel,
    torch.Tensor.nelement,
    torch.Tensor.__len__,
    torch.numel,
    *(getattr(torch.Tensor, name).__get__ for name in ("shape",)),
}
_PLAIN = {
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.ndimension,
    torch.Tensor.numel,
    torch.Tensor.nelement,
    torch.Tensor.is_floating_point,
    torch.Tensor.is_complex,
    torch.Tensor.__len__,
    torch.Tensor.__hash__,
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
    *(
        getattr(torch.Tensor, name).__get__
        for name in (
            *("shape", "dtype", "device", "ndim", "requires_grad", "layout"),
            *("is_cuda", "is_cpu", "is_nested", "is_sparse", "is_leaf"),
        )
    ),
}


class RuleTable:
    """The rules of one reading: from PyTorch functions to what they do.

    Args:
        reading: What the reading is called in messages, such as ``"the infinite-width limit"``.
        way_out: What to do instead, when there is no rule.
    """

    def __init__(self, reading: str, way_out: str) -> None:
        self.reading = reading
        self.way_out = way_out
        self._rules: dict[Callable[..., Any], Rule] = {}
        self._refusals: set[Callable[..., Any]] = set()
        self._marks: dict[Callable[..., Any], str] = {}
        self._first: Rule | None = None

    def before_all(self, rule: AnyRule) -> AnyRule:
        """Decorate what is asked before the rules; it may answer ``NotImplemented``.

        Args:
            rule: Takes a function, its arguments and its keyword arguments.

        Returns:
            The rule as it is.
        """
        self._first = rule
        return rule

    def register(
        self, *functions: Callable[..., Any], mark: str = ""
    ) -> Callable[[AnyRule], AnyRule]:
        """Decorate the rule that stands for these functions; it takes their arguments.

        Args:
            functions: All spellings, such as ``F.relu, torch.relu, torch.Tensor.relu``.
            mark: What the rule before all others is to know of them.

        Returns:
            The decorator, which leaves the rule as it is.
        """

        def decorate(rule: AnyRule) -> AnyRule:
            for function in functions:
                self._rules[function] = rule
                self._marks[function] = mark
            return rule

        return decorate

    def refuse(self, *functions: Callable[..., Any]) -> Callable[[AnyRule], AnyRule]:
        """Decorate a rule that only says why these functions can have none.

        Args:
            functions: All spellings.

        Returns:
            The decorator, which leaves the rule as it is.
        """
        self._refusals.update(functions)
        return self.register(*functions, mark=ASK)

    def find(self, function: Callable[..., Any]) -> Rule | None:
        """The rule of a function, if there is one."""
        return self._rules.get(function)

    def mark(self, function: Callable[..., Any]) -> str:
        """The mark that a function was registered with."""
        return self._marks.get(function, "")

    def first(
        self, function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
    ) -> Any:
        """What the rule before all others says, or ``NotImplemented``."""
        return NotImplemented if self._first is None else self._first(function, args, options)

    def names(self) -> list[str]:
        """The names of all functions with a rule, sorted."""
        return sorted({name_of(function) for function in self._rules.keys() - self._refusals})

    def refused(self) -> list[str]:
        """The names of the functions that are known to have none, sorted."""
        return sorted({name_of(function) for function in self._refusals})

    def nearest(self, operation: str) -> list[str]:
        """The functions with a rule whose names are much like this one; there may be none."""
        return difflib.get_close_matches(operation, self.names(), n=_NEIGHBOURS)

    def unsupported(self, operation: str, reason: str = "") -> UnsupportedOperation:
        """The error that says where, what, why and what to do instead.

        Args:
            operation: The operation, as the user would write it.
            reason: Why it has no exact rule; one sentence, when it is known.

        Returns:
            The error, to be raised.
        """
        parts = [f"{current_module()}: {operation} has no rule in {self.reading}."]
        if reason:
            parts.append(reason)
        elif nearest := self.nearest(operation):
            parts.append(f"Nearest with a rule: {', '.join(nearest)}.")
        return UnsupportedOperation(" ".join([*parts, self.way_out]))


class AbstractTensor(Tensor):
    """A tensor with a shape, a dtype and a device, but without numbers.

    Subclasses say what it stands for, and set :attr:`rules`.
    """

    rules: ClassVar[RuleTable]

    @staticmethod
    def blank(cls: type[Any], shape: Sequence[int], like: Tensor) -> Any:
        """A new tensor of class ``cls`` with this shape and the dtype and device of ``like``."""
        return torch.Tensor._make_wrapper_subclass(
            cls, tuple(shape), dtype=like.dtype, device=like.device
        )

    def replace_(self, other: AbstractTensor) -> AbstractTensor:
        """Let this tensor stand for what ``other`` stands for: what an in-place function does."""
        raise NotImplementedError

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        with torch._C.DisableTorchFunctionSubclass():
            return f"{type(self).__name__}(shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Refuse what reaches PyTorch's inside, where there are no numbers to work with."""
        raise cls.rules.unsupported(
            str(getattr(func, "overloadpacket", func)).removeprefix("aten.")
        )

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the rule of ``func``."""
        options = dict(kwargs or {})
        if func in _PLAIN:
            if func in _SHAPE:
                note_question_of_shape()
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **options)
        with inside_a_rule():
            result = cls.rules.first(func, args, options)
        if result is not NotImplemented:
            return result
        in_place = bool(options.pop("inplace", False))
        rule = cls.rules.find(func)
        name = name_of(func)
        if rule is None and (plain := _out_of_place(name)):
            rule, in_place = cls.rules.find(getattr(torch.Tensor, plain, func)), True
        if rule is None:
            raise cls.rules.unsupported(name)
        if options.get("out") is not None or (
            in_place and not (args and isinstance(args[0], AbstractTensor))
        ):  # other names of the same constant would not see what it becomes
            raise cls.rules.unsupported(
                f"{name} that writes into a constant", "Use the function that returns a new tensor."
            )
        try:
            _signature(rule).bind(*args, **options)
        except TypeError as error:
            raise cls.rules.unsupported(name, f"Here it has {error}.".replace("got ", "")) from None
        with inside_a_rule():
            result = rule(*args, **options)
        if in_place and isinstance(args[0], AbstractTensor):
            return args[0].replace_(result)
        return result


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called, as the user would write it."""
    name = str(getattr(function, "__name__", function))
    if name == "__get__":  # the getter of an attribute, such as x.T
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    if name.startswith("_") and not name.startswith("__"):  # F.threshold is _threshold
        name = name[1:]
    return name


@functools.lru_cache(maxsize=1024)
def _signature(rule: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(rule)


def _out_of_place(name: str) -> str:
    """``relu_`` -> ``relu`` and ``__iadd__`` -> ``__add__``; else nothing."""
    if name.startswith("__i") and name.endswith("__"):
        return f"__{name[3:]}"
    return name[:-1] if name.endswith("_") and not name.endswith("__") else ""
