"""The variances a model's parameters are drawn with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError
from farfield.infinite.gram import Variance
from farfield.networks import init_variance

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
        SettingsError: A negative variance, or a name that is not a module with that parameter.
    """
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
        _check(what, given, names)
    return weights, biases


def measured(parameter: Tensor) -> float:
    """The mean square of a parameter's entries."""
    return parameter.detach().double().square().mean().item()


def _chosen(given: VarianceChoice, module_name: str) -> Variance | None:
    chosen = given.get(module_name) if isinstance(given, Mapping) else given
    return float(chosen) if isinstance(chosen, int) else chosen


def _check(what: str, given: VarianceChoice, names: set[str]) -> None:
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - names)
        if unknown:
            raise SettingsError(
                f"{what} names {unknown[0]!r}, which is not a module with such a parameter; those "
                f"are {', '.join(repr(name) for name in sorted(names)) or 'none'}."
            )
    values = list(given.values()) if isinstance(given, Mapping) else [given]
    for value in values:
        if value is None:
            continue
        number = value.item() if isinstance(value, Tensor) else float(value)
        if not 0.0 <= number < torch.inf:
            raise SettingsError(f"{what} is {number}; a variance must be finite and at least 0.")
