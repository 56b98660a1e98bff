"""Functions of the raw input: they simply run, as long as every row stays on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from farfield.errors import UnsupportedOperation
from farfield.infinite.laws import Data
from farfield.infinite.limit_tensor import (
    COPY,
    KEEP,
    MAP,
    RULES,
    LimitTensor,
    check_gradients,
    is_parameter,
    is_trained,
)
from farfield.infinite.pairs import Rows
from farfield.infinite.rules import norms
from farfield.infinite.rules.rows_apart import agree, changes
from farfield.reading import ASK, name_of


@RULES.before_all
def on_numbers(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """Run a function of nothing but the raw input on the numbers of both batches at once.

    The trained parameters of a norm or of PReLU belong to single features here, of which there
    are few: what they add to the tangent kernel stays random.

    Args:
        function: The function.
        args: Its arguments.
        options: Its keyword arguments.

    Returns:
        The result, or ``NotImplemented`` where a rule must be asked.

    Raises:
        UnsupportedOperation: The result has no row for each input, or rows depend on others.
    """
    units = list(_tensors((args, options), LimitTensor))
    if not all(isinstance(x.law, Data) for x in units):
        return NotImplemented
    numbers = [t for t in _tensors((args, options), Tensor) if not isinstance(t, LimitTensor)]
    mark, like = RULES.mark(function), units[0]
    if mark == ASK or (mark == MAP and not all(map(like.reading.is_fixed, numbers))):
        return NotImplemented
    if mark == COPY and like.is_floating_point():
        return NotImplemented
    parameters = [t for t in numbers if is_trained(t)]
    if parameters and not (mark == KEEP and all(map(is_parameter, parameters))):
        return NotImplemented
    check_gradients()
    for parameter in filter(is_parameter, numbers if mark == KEEP else []):
        like.reading.keep(parameter, name_of(function))
    return _Call(function, args, options, like, bool(parameters)).result()


class _Call:
    """A function with its arguments, some of which stand for numbers.

    Args:
        function: The function.
        args: Its arguments.
        options: Its keyword arguments.
        like: One of the arguments that stand for numbers.
        trains: Whether it has trained parameters of its own.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        options: Mapping[str, Any],
        like: LimitTensor,
        trains: bool,
    ) -> None:
        self.function, self.args, self.options, self.like = function, args, options, like
        self.name = name_of(function)
        self.rows = int(like.shape[0])
        self.units = {id(x): x for x in _tensors((args, options), LimitTensor)}
        self.law = _data(like)
        dtypes = [_data(x).x.left.dtype for x in self.units.values()]
        self.dtype = next((d for d in dtypes if d.is_floating_point), torch.float64)
        self.error = next((_data(x).error for x in self.units.values() if _data(x).error), None)
        self.alone = next((_data(x).alone for x in self.units.values() if _data(x).alone), None)
        if trains and self.error is None:
            self.error = norms.few_features()

    def result(self) -> Any:
        """What the function gives, in the form of its arguments.

        Raises:
            UnsupportedOperation: See :func:`on_numbers`.
        """
        given = {name: _joined(_data(x).x) for name, x in self.units.items()}
        versions = {name: values._version for name, values in given.items()}
        result = self._run(given)
        changed = [name for name, values in given.items() if values._version != versions[name]]
        if not changed:
            if (number := self._for_all_rows(result, given)) is not None:
                return number
            self._check(result)
            return self._wrapped(result, given)
        target = self.args[0]
        if changed != [id(target)]:
            raise RULES.unsupported(
                f"{self.name} in place", "Use the function that returns a new tensor."
            )
        values = given[id(target)]
        self._check(values, lambda given: given[id(target)])
        return target.replace_(self._wrapped(values, {}))

    def _run(self, given: Mapping[int, Tensor]) -> Any:
        plain = partial(_plain, given, self.dtype)
        args, options = _mapped(plain, list(self.args)), _mapped(plain, dict(self.options))
        try:
            return self.function(*args, **options)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise RULES.unsupported(
                f"{self.name} of the raw input", f"PyTorch says: {error}."
            ) from error

    def _for_all_rows(self, result: Any, given: Mapping[int, Tensor]) -> Tensor | None:
        """An answer without rows, if all rows are alike and one alone gives the same.

        So a model may ask whether any number of its input is NaN.
        """
        if not isinstance(result, Tensor) or result.ndim > 0 or result.dtype != torch.bool:
            return None
        if any(bool((values != values[:1]).any()) for values in given.values()):
            return None
        alone = self._run({name: values[:1] for name, values in given.items()})
        return result.detach() if torch.equal(alone, result) else None

    def _check(self, result: Any, of: Callable[[Mapping[int, Tensor]], Any] | None = None) -> None:
        """Every row must be the same function of its own row of the input.

        Args:
            result: What was computed.
            of: Where to find it among the numbers, for a function that works in place.
        """
        tensors = list(_tensors(result, Tensor))
        if not tensors or any(t.ndim == 0 or len(t) != self.rows for t in tensors):
            raise RULES.unsupported(
                f"{self.name} of the raw input, whose result has no row for each input",
                "The first dimension must stay that of the batch.",
            )
        for change in changes(self.rows) if self.rows else ():
            probe = {
                name: change.apply(_joined(_data(x).x).detach()) for name, x in self.units.items()
            }
            try:
                again = self._run(probe)
            except UnsupportedOperation:
                if change.may_fail:
                    continue
                raise
            found = _tensors(of(probe) if of else again, Tensor)
            for one, other in zip(tensors, found, strict=True):
                expected = change.expected(one.detach())
                if not agree(expected[change.kept], other.detach()[change.kept]):
                    raise RULES.unsupported(
                        f"{self.name} of the raw input across the batch",
                        "Rows must stay apart: what belongs to a row must be computed from that "
                        "row of the input.",
                    )

    def _wrapped(self, result: Any, given: Mapping[int, Tensor]) -> Any:
        if isinstance(result, tuple | list):
            return type(result)([self._wrapped(part, given) for part in result])
        for name, values in given.items():
            if result is values:
                return self.units[name]
        real, x = result.is_floating_point(), self.law.x
        exact = result.to(self.dtype) if real else result
        left = exact[: len(x.left)]
        rows = Rows(left, left if x.right is x.left else exact[len(x.left) :])
        like = torch.empty(0, dtype=self.like.dtype if real else result.dtype, device=result.device)
        tensor = LimitTensor(
            Data(rows, self.error, self.alone), result.shape, like, self.like.reading
        )
        for name, values in given.items():
            if result._base is values:
                self.units[name].has_view(tensor)
        return tensor


def _plain(given: Mapping[int, Tensor], dtype: torch.dtype, value: Any) -> Any:
    """An argument as PyTorch takes it: numbers for what stands for them, all in one precision."""
    if isinstance(value, LimitTensor):
        return given[id(value)]
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(dtype)
    return value


def _data(x: LimitTensor) -> Data:
    assert isinstance(x.law, Data)
    return x.law


def _joined(x: Rows) -> Tensor:
    return torch.cat([x.left, x.right])


def _tensors(value: Any, kind: type[Any]) -> Iterator[Any]:
    """All tensors of a kind among arguments, however deep."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part, kind)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part, kind)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The same arguments with the function of each one, however deep."""
    if isinstance(value, dict):
        return {name: _mapped(function, part) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(function, part) for part in value]
    if type(value) is tuple:
        return tuple(_mapped(function, part) for part in value)
    return function(value)
