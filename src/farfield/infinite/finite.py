"""Kernels of finite networks, averaged over random draws: for any model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jacrev

from farfield.errors import SettingsError
from farfield.infinite.gram import Variance
from farfield.infinite.limit_tensor import Parameterization
from farfield.infinite.outputs import OutputChoice, check_features, check_rows, outputs_of
from farfield.infinite.sums import added_vectors
from farfield.infinite.variances import VarianceChoice, measured, parameter_variances
from farfield.kernel import check_batches
from farfield.replaced import run_with
from farfield.trail import readable

_RANDOM_OR_TIED = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)


@dataclass(frozen=True)
class MonteCarlo:
    """Means over random networks, and how far they may be off.

    Attributes:
        nngp: Mean of ``f(x1) f(x2)``, (n1, n2).
        ntk: Mean of ``grad f(x1) . grad f(x2)``, (n1, n2).
        nngp_error: Standard error of ``nngp``.
        ntk_error: Standard error of ``ntk``.
    """

    nngp: Tensor
    ntk: Tensor
    nngp_error: Tensor
    ntk_error: Tensor


def monte_carlo(
    model: nn.Module,
    x1: Float[Tensor, "n1 *features"],
    x2: Float[Tensor, "n2 *features"] | None = None,
    *,
    draws: int = 100,
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    parameterization: Parameterization = "ntk",
    output: OutputChoice = None,
    generator: torch.Generator | None = None,
) -> MonteCarlo:
    r"""Estimate both kernels from finite networks: what to do when there is no exact rule.

    Each draw takes new weights ``W ~ N(0, weight_var / fan_in)`` for every matrix, and new biases
    ``b ~ N(0, bias_var)`` for every vector that ``forward`` adds to units, whatever its name, or
    that a layer with a matrix calls its bias; gains and biases of norms, slopes and single
    numbers stay as they are. The kernels are means over all units of the outputs. They
    are those of networks of the widths that the model has, which differ from the limit by terms
    of order 1 / width.

    Args:
        model: Any module; it is not changed.
        x1: First batch.
        x2: Second batch; the first one when ``None``.
        draws: Number of random networks, at least 2.
        weight_var: As of :func:`farfield.infinite_width`.
        bias_var: Likewise.
        parameterization: Likewise.
        output: Likewise.
        generator: Source of randomness.

    Returns:
        Means and standard errors.

    Raises:
        SettingsError: Fewer than two draws; inputs, variances or a model that
            :func:`farfield.infinite_width` refuses as well; dropout or batch statistics in
            training mode.

    Example:
        >>> import torch, farfield as ff
        >>> model = ff.mlp(2, [64], 1)
        >>> seed = torch.Generator().manual_seed(0)
        >>> result = ff.monte_carlo(model, torch.ones(1, 2), draws=8, generator=seed)
        >>> result.ntk.shape, bool(result.ntk_error > 0)
        (torch.Size([1, 1]), True)
    """
    if parameterization not in ("ntk", "standard"):
        raise SettingsError(
            f"The parameterization is {parameterization!r}; choose 'ntk' or 'standard'."
        )
    check_batches(x1, x1 if x2 is None else x2)
    if draws < 2:
        raise SettingsError(f"draws is {draws}; a standard error needs at least 2.")
    model = readable(model)
    check_features(x1)
    _check_mode(model)
    weights, biases = parameter_variances(model, weight_var, bias_var)
    plan = _plan(model, weights, biases, added_vectors(model, _draw(model, {}, x1, generator), x1))
    batches = [x1] if x2 is None or x2 is x1 else [x1, x2]
    samples = []
    for _ in range(draws):
        parameters = _draw(model, plan, x1, generator)
        trained = {
            name: parameters[name]
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        features = [
            _features(model, parameters, trained, plan, x, parameterization, output)
            for x in batches
        ]
        pairs = zip(features[0], features[-1], strict=True)
        samples.append(torch.stack([left @ right.T for left, right in pairs]))
    values = torch.stack(samples)
    mean, error = values.mean(0), values.std(0) / draws**0.5
    return MonteCarlo(mean[0], mean[1], error[0], error[1])


def _plan(
    model: nn.Module,
    weights: Mapping[int, Variance],
    biases: Mapping[int, Variance],
    added: Collection[str],
) -> dict[str, float]:
    """The standard deviation of each parameter that is drawn: matrices, and what is added."""
    plan: dict[str, float] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}" if module_name else name
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                given = weights.get(id(parameter))
                if given is not None and not _is_oriented(module, parameter):
                    raise SettingsError(
                        f"monte_carlo cannot tell the fan_in of {full!r}: only PyTorch's own "
                        "layers say which dimension is which. Leave out its weight_var, so that "
                        "its entries are drawn as large as they are."
                    )
                entry = measured(parameter) if given is None else float(given) / fan_in
                plan[full] = entry**0.5
            elif full in added or _is_bias(name, module, parameter):
                given = biases.get(id(parameter))
                plan[full] = (measured(parameter) if given is None else float(given)) ** 0.5
    return plan


def _is_bias(name: str, module: nn.Module, parameter: Tensor) -> bool:
    """Whether a layer calls it so; the sums of an LSTM or of an attention cannot be seen."""
    with_matrix = any(other.ndim >= 2 for other in module.parameters(recurse=False))
    return parameter.ndim == 1 and "bias" in name and with_matrix


def _is_oriented(module: nn.Module, parameter: Tensor) -> bool:
    """Whether the first dimension of a matrix is known to be that of the outputs."""
    square = parameter.ndim == 2 and parameter.shape[0] == parameter.shape[1]
    return square or type(module).__module__.startswith("torch.nn")


def _draw(
    model: nn.Module, plan: Mapping[str, float], like: Tensor, generator: torch.Generator | None
) -> dict[str, Tensor]:
    drawn = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().to(like)
        if name in plan:
            values = torch.randn(
                parameter.shape, generator=generator, dtype=like.dtype, device=like.device
            )
            values = values * plan[name]
        drawn[name] = values
    for name, buffer in model.named_buffers():
        drawn[name] = buffer.to(like) if buffer.is_floating_point() else buffer.clone()
    return drawn


def _check_mode(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if (
            isinstance(module, _RANDOM_OR_TIED)
            and module.training
            and getattr(module, "p", 1.0) > 0
        ):
            raise SettingsError(
                f"The module {name!r} ({type(module).__name__}) is in training mode, where it is "
                f"random or ties the inputs of a batch together; call model.eval() first."
            )


def _features(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    plan: Mapping[str, float],
    x: Tensor,
    parameterization: Parameterization,
    output: OutputChoice,
) -> tuple[Tensor, Tensor]:
    """Outputs and weighed gradients, each (n, features), whose inner products are the kernels."""

    def outputs(values: Mapping[str, Tensor]) -> Tensor:
        result = run_with(model, {**parameters, **values}, x)
        parts = outputs_of(result, output)
        for name, part in parts.items():
            check_rows(name, part, len(x), Tensor)
        return torch.cat([part.reshape(len(x), -1) for part in parts.values()], 1)

    value = outputs(trained)
    root = float(value.shape[1]) ** -0.5
    jacobian = jacrev(outputs)(dict(trained)) if trained else {}
    rows = []
    for name, gradient in jacobian.items():
        # In the NTK parametrisation W = std w with w ~ N(0, 1), so df/dw = std df/dW.
        factor = plan.get(name, 1.0) if parameterization == "ntk" else 1.0
        rows.append(gradient.reshape(len(x), -1) * (factor * root))
    return value * root, torch.cat(rows, 1) if rows else torch.zeros_like(value)
