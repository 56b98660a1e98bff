"""What the kernel of each parameter counts: its initialisation variance, or one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn

from farfield.errors import SettingsError
from farfield.networks import init_variance

Parameterization = Literal["standard", "ntk"]
VarianceChoice = float | int | Mapping[str, float | int] | None

_NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
)


def kernel_weights(
    model: nn.Module,
    parameterization: str,
    weight_var: VarianceChoice,
    bias_var: VarianceChoice,
) -> dict[str, float]:
    """The factor of each parameter's kernel.

    In the NTK parametrisation W = s w with w ~ N(0, 1), so that df/dw = s df/dW and the kernel
    counts ``s^2``: weight_var / fan_in for a weight, bias_var for a bias, 1 for gains and biases of
    norms.

    Args:
        model: The model.
        parameterization: ``"standard"`` or ``"ntk"``.
        weight_var: A number for all layers, or a mapping from module names; W is drawn from
            N(0, weight_var / fan_in).
        bias_var: Likewise; b is drawn from N(0, bias_var).

    Returns:
        Name of a parameter -> factor.

    Raises:
        SettingsError: An unknown parametrisation, or a layer of which no variance is known.
    """
    names = [name for name, _ in model.named_parameters()]
    if parameterization == "standard":
        if weight_var is not None or bias_var is not None:
            raise SettingsError(
                "weight_var and bias_var count only with parameterization='ntk'; leave them out "
                "or say so."
            )
        return dict.fromkeys(names, 1.0)
    if parameterization != "ntk":
        raise SettingsError(
            f"The parameterization is {parameterization!r}; choose 'standard' or 'ntk'."
        )
    holders = {name for name, module in model.named_modules() if any(_own(module))}
    for what, given in (("weight_var", weight_var), ("bias_var", bias_var)):
        _check(what, given, holders)
    found: dict[str, float] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}" if module_name else name
            if isinstance(module, _NORMS):
                found[full] = 1.0
                continue
            remembered = init_variance(module)
            matrix = parameter.ndim >= 2
            chosen = _chosen(weight_var if matrix else bias_var, module_name)
            if chosen is None and remembered is not None:
                chosen = remembered.weight if matrix else remembered.bias
            if chosen is None:
                what = "weight_var" if matrix else "bias_var"
                raise SettingsError(
                    f"The variance that {full!r} was drawn with is not known. Draw the model with "
                    f"ff.gaussian_init_, or give {what} as a number or as a mapping from module "
                    f"names, such as {{{module_name!r}: 2.0}}."
                )
            found[full] = chosen / parameter[0].numel() if matrix else chosen
    return found


def _own(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


def _chosen(given: VarianceChoice, module_name: str) -> float | None:
    value = given.get(module_name) if isinstance(given, Mapping) else given
    return None if value is None else float(value)


def _check(what: str, given: VarianceChoice, names: set[str]) -> None:
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - names)
        if unknown:
            raise SettingsError(
                f"{what} names {unknown[0]!r}, which is not a module with parameters of its own; "
                f"those are {', '.join(repr(name) for name in sorted(names)) or 'none'}."
            )
    for value in given.values() if isinstance(given, Mapping) else [given]:
        if value is not None and not 0.0 <= float(value) < float("inf"):
            raise SettingsError(f"{what} is {value}; a variance must be finite and at least 0.")
