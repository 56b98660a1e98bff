"""The variances a model's parameters are drawn with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.infinite.gram import Variance
from farfield.networks import init_variance

_REAL = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}

VarianceChoice = Variance | Mapping[str, Variance] | None


def parameter_variances(
    model: nn.Module, weight_var: object, bias_var: object
) -> tuple[dict[int, Variance], dict[int, Variance]]:
    """The variance of each weight matrix and each vector, by ``id`` of the parameter.

    What the caller gives comes first, then what ``gaussian_init_`` remembers, then what the
    parameters themselves show: ``fan_in * mean(W^2)`` and ``mean(b^2)``. Parameters of which only
    this last is known are left out: it is measured where they are used.

    Args:
        model: The model.
        weight_var: A number for all weights, or a mapping from module names; W is drawn from
            N(0, weight_var / fan_in).
        bias_var: Likewise; b is drawn from N(0, bias_var).

    Returns:
        Variances of the matrices and of the vectors.

    Raises:
        SettingsError: Something that is no variance, or a name that is not a module with that
            parameter.
    """
    weights: dict[int, Variance] = {}
    biases: dict[int, Variance] = {}
    modules = dict(model.named_modules())
    given_weights = _tidy("weight_var", weight_var, _holding(modules, matrices=True))
    given_biases = _tidy("bias_var", bias_var, _holding(modules, matrices=False))
    for module_name, module in modules.items():
        remembered = init_variance(module)
        for parameter in module.parameters(recurse=False):
            matrix = parameter.ndim >= 2
            chosen = _chosen(given_weights if matrix else given_biases, module_name)
            if remembered is not None and chosen is None:
                chosen = remembered.weight if matrix else remembered.bias
            if chosen is not None:
                (weights if matrix else biases)[id(parameter)] = chosen
    return weights, biases


def _holding(modules: Mapping[str, nn.Module], *, matrices: bool) -> list[str]:
    """The names of the modules that hold matrices themselves, or that hold vectors."""
    return sorted(
        name
        for name, module in modules.items()
        if any((p.ndim >= 2) == matrices for p in module.parameters(recurse=False))
    )


def measured(parameter: Tensor) -> float:
    """The mean square of a parameter's entries."""
    return parameter.detach().double().square().mean().item()


def _chosen(given: VarianceChoice, module_name: str) -> Variance | None:
    return given.get(module_name) if isinstance(given, Mapping) else given


def _tidy(what: str, given: object, names: Sequence[str]) -> VarianceChoice:
    """The choice with each variance a float, or one number in a tensor that has enough digits."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return _variance(what, given)
    for name in given:
        if name not in names:
            raise SettingsError(
                f"{what} names {name!r}, which is not a module with such a parameter; those are "
                f"{', '.join(map(repr, names)) or 'none'}."
            )
    return {name: _variance(f"{what}[{name!r}]", value) for name, value in given.items()}


def _variance(what: str, value: object) -> Variance:
    tidy: Variance
    if isinstance(value, Tensor) and value.numel() == 1 and value.dtype in _REAL:
        number = float(value.detach())
        one = value.reshape(())
        tidy = one if one.device.type == "mps" else one.double()  # Apple's GPUs have no float64
    elif not isinstance(value, bool) and isinstance(value, Real):
        number = tidy = float(value)
    else:
        shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else None
        raise SettingsError(
            f"{what} is {shape or repr(value)}; a variance is a number, a tensor with one, or a "
            "mapping from module names to such. Leave out what shall be measured."
        )
    if not 0.0 <= number < torch.inf:
        raise SettingsError(f"{what} is {number}; a variance must be finite and at least 0.")
    return tidy
