"""The dual activation of a function that the user names, passes or wraps in a module."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.infinite import rules
from farfield.infinite.duals.base import Activation
from farfield.infinite.gram import constant
from farfield.infinite.laws import IDENTITY, Gaussian, Pointwise
from farfield.infinite.limit_tensor import LimitTensor, Reading
from farfield.infinite.pairs import Rows
from farfield.networks import ACTIVATIONS
from farfield.trail import following

__all__ = ["dual_of", "rules"]


def dual_of(activation: str | Callable[[Tensor], Tensor]) -> Activation:
    """The dual activation that a model with this activation is read with.

    Args:
        activation: A name, as of :func:`farfield.mlp`; a module, such as ``nn.LeakyReLU(0.2)``;
            or a function of tensors, such as ``torch.erf``.

    Returns:
        Its expectations over Gaussian units.

    Raises:
        SettingsError: An unknown name, or something that is not a function of each entry alone.
        UnsupportedOperation: It does something without an exact rule.
    """
    function = _function(activation)
    model = copy.deepcopy(function) if isinstance(function, nn.Module) else nn.Identity()
    called = model if isinstance(function, nn.Module) else function
    model.eval().requires_grad_(False)
    one = torch.ones(1, dtype=torch.float64)
    base = Gaussian(constant(Rows(one, one), 1.0), None)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = frozenset(map(id, model.buffers()))
    with torch.inference_mode(False), torch.enable_grad(), following(model):
        units = LimitTensor(
            Pointwise(base, IDENTITY), (2, 1), one, Reading({}, {}, names, held, "ntk")
        )
        result = called(units)
    law = result.law if isinstance(result, LimitTensor) else None
    if not isinstance(law, Pointwise) or law.base is not base:
        raise SettingsError(
            f"{activation!r} is not a function of each entry of a tensor alone; give an activation "
            "such as 'tanh', torch.nn.GELU() or torch.erf."
        )
    return law.function


def _function(activation: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if callable(activation) and not isinstance(activation, type):
        return activation
    if activation not in ACTIVATIONS:
        raise SettingsError(
            f"The activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}, or "
            "give a module such as torch.nn.LeakyReLU(0.2), or a function of tensors."
        )
    return ACTIVATIONS[activation]()
