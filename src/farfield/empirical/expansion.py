"""A network replaced by its expansion around the parameters it has: exactly affine, or higher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from math import factorial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from farfield.empirical.forward import check_model
from farfield.empirical.tangents import NormsWrittenOut, load, moved
from farfield.errors import SettingsError, UnsupportedOperation
from farfield.replaced import replaced
from farfield.trail import eagerly


class TaylorModel(nn.Module):
    """A network's expansion in its parameters; made by :func:`taylor_expand`.

    Attributes:
        moving: A copy of the network, whose parameters are those of this module.
        degree: Of the polynomial.
    """

    def __init__(self, model: nn.Module, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.moving = copied(model)
        # In a list, so that the parameters it stands around are nobody's to train.
        self._start = [copied(model).requires_grad_(False)]

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The expansion at the present parameters.

        Args:
            inputs: As of the network.
            named: Likewise.

        Returns:
            A tensor like the network's output.

        Raises:
            UnsupportedOperation: The network does not return a tensor, or an operation has no
                derivatives of this degree.
        """
        start = self._start[0]
        before = list(start.parameters())
        offsets = [
            now - then.detach() for now, then in zip(self.moving.parameters(), before, strict=True)
        ]
        run = partial(_run, start, before, inputs, named)
        value = run(before)
        if self.degree == 0:
            return value
        if self.degree == 1:
            try:
                return value + moved(run, before, offsets)
            except NotImplementedError as error:
                raise UnsupportedOperation(
                    "An operation of the model has neither forward-mode nor second derivatives "
                    f"({str(error).splitlines()[0]}), so that it cannot be linearised."
                ) from error
        terms = _derivatives(run, before, offsets, self.degree)
        return torch.stack([term / factorial(k) for k, term in enumerate(terms)]).sum(0)

    def get_extra_state(self) -> dict[str, Any]:
        """What the state dictionary holds beside the parameters: where the expansion stands."""
        return dict(self._start[0].state_dict())

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Expand around what a state dictionary says."""
        self._start[0].load_state_dict(state)

    def train(self, mode: bool = True) -> TaylorModel:
        """Set the flag of this module; the network stays in the mode that it was expanded in."""
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TaylorModel:
        self._start[0]._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def linearize(model: nn.Module) -> TaylorModel:
    """A network that is exactly affine in its parameters, around those it has now.

    ``f_lin(p) = f(p0) + J(p0) (p - p0)``. Its parameters start as copies of the network's and train
    with any optimiser; its tangent kernel is the network's at p0 and never changes, so that
    gradient descent on a squared loss is linear dynamics with that kernel.

    Args:
        model: Any module that returns a tensor, in eval mode if it has dropout or batch
            statistics; it is not changed.

    Returns:
        The affine network.

    Raises:
        SettingsError: Dropout or batch statistics in training mode; complex or half-precision
            parameters; a scripted or traced module.

    Source: Lee et al., "Wide Neural Networks of Any Depth Evolve as Linear Models" (2019), eq. 5.

    Example:
        >>> import torch, farfield as ff
        >>> model = ff.mlp(2, [16], 1)
        >>> linear, x = ff.linearize(model), torch.ones(3, 2)
        >>> torch.equal(linear(x), model(x))
        True
    """
    return taylor_expand(model, 1)


def taylor_expand(model: nn.Module, degree: int) -> TaylorModel:
    """A network's Taylor polynomial in its parameters, around those it has now.

    ``f(p0) + sum_k D^k f(p0)[p - p0, ..., p - p0] / k!`` up to the degree, by nested forward-mode
    differentiation, whose cost doubles with each degree.

    Args:
        model: As of :func:`linearize`.
        degree: Of the polynomial; 0 is the network as it is.

    Returns:
        The polynomial as a module.

    Raises:
        SettingsError: A degree below 0, or a model as :func:`linearize` refuses it.

    Example:
        >>> import torch, farfield as ff
        >>> square = ff.taylor_expand(torch.nn.Sequential(torch.nn.Linear(2, 1)), 2)
        >>> square(torch.ones(1, 2)).shape
        torch.Size([1, 1])
    """
    if degree < 0:
        raise SettingsError(f"degree is {degree}; a polynomial has at least degree 0.")
    check_model(model)
    if not any(True for _ in model.parameters()):
        raise SettingsError("The model has no parameters to be expanded in.")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"The module {name!r}" if name else "The model"
            raise SettingsError(
                f"{where} is scripted or traced, so that its parameters cannot be replaced; give "
                "the module that it was made of."
            )
    return TaylorModel(model, degree)


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model, also where tensors that it has made stand in it."""
    # Tensors that are made anew in every call, such as the weights of torch.nn.utils.weight_norm,
    # may have a graph, which nothing can copy.
    made = [
        tensor
        for module in model.modules()
        for tensor in vars(module).values()
        if isinstance(tensor, Tensor) and not tensor.is_leaf
    ]
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in made})


def _run(
    model: nn.Module,
    own: Sequence[Tensor],
    inputs: Sequence[Tensor],
    named: dict[str, Tensor],
    values: Sequence[Tensor],
) -> Tensor:
    pairs = zip(own, values, strict=True)
    buffers = {id(buffer): buffer.clone() for buffer in model.buffers()}
    with eagerly(), replaced(model, {id(mine): other for mine, other in pairs} | buffers):
        outputs: Any = model(*inputs, **named)
    if not isinstance(outputs, Tensor):
        raise UnsupportedOperation(
            f"The model returns {type(outputs).__name__}; an expansion needs a single tensor. "
            "Wrap the model in a module that returns the one you want."
        )
    return outputs


def _derivatives(
    run: Callable[[Sequence[Tensor]], Tensor],
    before: Sequence[Tensor],
    offsets: Sequence[Tensor],
    degree: int,
) -> Sequence[Tensor]:
    """The derivatives at t = 0 of ``t -> f(p0 + t d)``, from the zeroth to the degree-th."""

    def along(t: Tensor) -> tuple[Tensor, ...]:
        moved_on = [then + t * d for then, d in zip(before, offsets, strict=True)]
        return (run(moved_on),)

    load()
    series: Callable[[Tensor], tuple[Tensor, ...]] = along
    for _ in range(degree):
        series = partial(_one_more, series)
    try:
        with sdpa_kernel(SDPBackend.MATH), NormsWrittenOut():
            return series(before[0].new_zeros(()))
    except NotImplementedError as error:
        raise UnsupportedOperation(
            f"An operation of the model has no forward-mode derivative ({error}); only "
            "ff.linearize can do without."
        ) from error


def _one_more(series: Callable[[Tensor], tuple[Tensor, ...]], t: Tensor) -> tuple[Tensor, ...]:
    values, slopes = jvp(series, (t,), (torch.ones_like(t),))[:2]
    return (*values, slopes[-1])
