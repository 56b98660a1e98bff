"""The variances a model's parameters are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.infinite.gram import Variance
from farfield.networks import init_variance

_REAL = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}

VarianceChoice = Variance | Mapping[str, Variance] | None


def parameter_variances(
    model: nn.Module, weight_var: VarianceChoice, bias_var: VarianceChoice
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
    weight_var, bias_var = _tidy("weight_var", weight_var), _tidy("bias_var", bias_var)
    weights: dict[int, Variance] = {}
    biases: dict[int, Variance] = {}
    named: tuple[set[str], set[str]] = (set(), set())
    for module_name, module in model.named_modules():
        remembered = init_variance(module)
        for parameter in module.parameters(recurse=False):
            matrix = parameter.ndim >= 2
            chosen = _chosen(weight_var if matrix else bias_var, module_name)
            if remembered is not None and chosen is None:
                chosen = remembered.weight if matrix else remembered.bias
            if chosen is not None:
                (weights if matrix else biases)[id(parameter)] = chosen
            named[0 if matrix else 1].add(module_name)
    for what, given, names in [
        ("weight_var", weight_var, named[0]),
        ("bias_var", bias_var, named[1]),
    ]:
        _check_names(what, given, names)
    return weights, biases


def measured(parameter: Tensor) -> float:
    """The mean square of a parameter's entries."""
    return parameter.detach().double().square().mean().item()


def _chosen(given: VarianceChoice, module_name: str) -> Variance | None:
    return given.get(module_name) if isinstance(given, Mapping) else given


def _tidy(what: str, given: VarianceChoice) -> VarianceChoice:
    """The choice with each variance a float, or one number in a tensor that has enough digits."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: _variance(f"{what}[{name!r}]", value) for name, value in given.items()}
    return _variance(what, given)


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


def _check_names(what: str, given: VarianceChoice, names: set[str]) -> None:
    unknown = [name for name in given if name not in names] if isinstance(given, Mapping) else []
    if unknown:
        raise SettingsError(
            f"{what} names {unknown[0]!r}, which is not a module with such a parameter; those "
            f"are {', '.join(repr(name) for name in sorted(names)) or 'none'}."
        )
