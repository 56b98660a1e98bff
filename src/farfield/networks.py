"""Plain PyTorch networks with a chosen placement of normalisation, and their random draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from farfield.errors import SettingsError

Activation = str | Callable[[], nn.Module]
NormAt = str | int | Sequence[int]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}

NORMS: dict[str, Callable[[int, bool], nn.Module]] = {
    "layer": lambda width, affine: nn.LayerNorm(width, elementwise_affine=affine),
    "rms": lambda width, affine: nn.RMSNorm(width, elementwise_affine=affine),
    "batch": lambda width, affine: nn.BatchNorm1d(width, affine=affine),
}

_DRAWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RESET = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_KEPT = (nn.PReLU,)


def mlp(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    *,
    activation: Activation = "relu",
    norm: str | None = None,
    norm_at: NormAt = "every",
    norm_before_activation: bool = True,
    norm_affine: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Build a multilayer perceptron as a plain ``nn.Sequential``.

    With normalisation before the activation, hidden layer ``h`` is
    ``Linear -> norm -> activation``; otherwise it is ``Linear -> activation -> norm``.
    The output layer is a ``Linear`` alone.

    Args:
        in_features: Number of input features d; inputs have shape (n, d).
        hidden: Width of each hidden layer; may be empty (a linear model).
        out_features: Number of outputs.
        activation: A name (``relu``, ``gelu``, ``silu``, ``tanh``, ...) or a callable that
            makes a new module, such as ``nn.ReLU`` or ``lambda: nn.LeakyReLU(0.2)``.
        norm: ``None``, ``"layer"`` (LayerNorm), ``"rms"`` (RMSNorm) or ``"batch"``
            (BatchNorm1d), each with PyTorch's defaults.
        norm_at: The hidden layers that get the norm: ``"first"``, ``"last"``, ``"every"``, or
            indices counted from 0 (negative ones from the end). Ignored without ``norm``.
        norm_before_activation: Normalise the pre-activations (default) or the activations.
        norm_affine: Whether the norm ends with a trained gain for each unit (and a bias, but in
            RMSNorm), as is PyTorch's default, or not.
        bias: Whether the linear layers have biases.

    Returns:
        The network, initialised as PyTorch does; see :func:`gaussian_init_`.

    Raises:
        SettingsError: A width below 1, an unknown activation or norm, or a hidden layer that
            does not exist.

    Source: Ziomek, Whittle and Osborne, "Just One Layer Norm Guarantees Stable Extrapolation"
    (NeurIPS 2025), section 4 and appendix A: Linear, then LayerNorm, then ReLU.

    Example:
        >>> import farfield as ff
        >>> ff.mlp(9, [128, 128], 1, norm="layer", norm_at="first")
        Sequential(
          (0): Linear(in_features=9, out_features=128, bias=True)
          (1): LayerNorm((128,), eps=1e-05, elementwise_affine=True, bias=True)
          (2): ReLU()
          (3): Linear(in_features=128, out_features=128, bias=True)
          (4): ReLU()
          (5): Linear(in_features=128, out_features=1, bias=True)
        )
    """
    for name, width in [
        ("in_features", in_features),
        *(("a hidden width", width) for width in hidden),
        ("out_features", out_features),
    ]:
        if width < 1:
            raise SettingsError(f"{name} is {width}; it must be at least 1.")
    make_activation = _activation(activation)
    normalised = set() if norm is None else _checked_places(norm, norm_at, len(hidden))
    layers: list[nn.Module] = []
    width = in_features
    for index, next_width in enumerate(hidden):
        layers.append(nn.Linear(width, next_width, bias=bias))
        block = [make_activation()]
        if norm is not None and index in normalised:
            block.insert(0 if norm_before_activation else 1, NORMS[norm](next_width, norm_affine))
        layers += block
        width = next_width
    layers.append(nn.Linear(width, out_features, bias=bias))
    return nn.Sequential(*layers)


def _activation(activation: Activation) -> Callable[[], nn.Module]:
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise SettingsError(
            f"The activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}, "
            "or give a callable that makes a module, such as torch.nn.ReLU."
        )
    return ACTIVATIONS[activation]


def _checked_places(norm: str, norm_at: NormAt, depth: int) -> set[int]:
    """The hidden layers that get the norm."""
    if norm not in NORMS:
        raise SettingsError(
            f"The norm {norm!r} is unknown; choose one of {', '.join(NORMS)}, or None."
        )
    if depth == 0:
        raise SettingsError("A network without hidden layers has no place for a norm.")
    return layers_named(norm_at, depth)


def layers_named(norm_at: NormAt, depth: int, argument: str = "norm_at") -> set[int]:
    """The indices, counted from 0, of the hidden layers that a placement names.

    Args:
        norm_at: ``"first"``, ``"last"``, ``"every"``, or indices (negative ones from the end).
        depth: How many hidden layers there are.
        argument: What the user calls the placement.

    Raises:
        SettingsError: An unknown placement, or a layer that does not exist.
    """
    if isinstance(norm_at, str):
        places = {"first": {0}, "last": {depth - 1}, "every": set(range(depth))}
        if norm_at not in places:
            raise SettingsError(
                f"{argument} is {norm_at!r}; choose 'first', 'last', 'every' or layer indices."
            )
        return places[norm_at]
    indices = [norm_at] if isinstance(norm_at, int) else list(norm_at)
    if not indices:
        raise SettingsError(f"{argument} names no layer; give at least one index.")
    for index in indices:
        if not -depth <= index < depth:
            raise SettingsError(
                f"{argument} names hidden layer {index}, but there are {depth}: "
                f"indices go from 0 to {depth - 1}."
            )
    return {index % depth for index in indices}


@dataclass(frozen=True)
class InitVariance:
    """The variances from which :func:`gaussian_init_` drew one module.

    Attributes:
        weight: The weights were drawn from N(0, weight / fan_in).
        bias: The biases were drawn from N(0, bias).
    """

    weight: float
    bias: float


def gaussian_init_(
    model: nn.Module,
    weight_var: float | Mapping[str, float] = 2.0,
    bias_var: float | Mapping[str, float] = 0.01,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Draw a network's weights in place from Gaussians, and remember their variances.

    For every linear and convolutional layer,
    ``W ~ N(0, weight_var / fan_in)`` and ``b ~ N(0, bias_var)``; fan_in is the number of
    inputs that one unit sums. Gains of normalisation layers are set to 1, their biases to 0 and
    running statistics to their start. ``weight_var=2`` is Kaiming's normal initialisation.
    The slopes of ``PReLU`` stay as they are.

    Each drawn module keeps its variances, so that its infinite-width limit is known
    (see :func:`init_variance`). The draw happens on the generator's device, in the order of
    ``model.named_modules()``; networks that differ only in their norms get the same weights
    from the same seed.

    Args:
        model: The network, changed in place.
        weight_var: A float, or a mapping from module names (as in ``model.named_modules()``)
            to floats; modules that the mapping does not name get 2.0.
        bias_var: Likewise; modules that the mapping does not name get 0.01.
        generator: Source of randomness; the global one of PyTorch when ``None``.

    Returns:
        The same model.

    Raises:
        SettingsError: A variance that is negative or not finite, a name that is not a linear or
            convolutional module, or a module with parameters that has no known draw. The
            model is unchanged then.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), appendix J: Kaiming initialisation,
    biases N(0, 0.01).

    Example:
        >>> import torch, farfield as ff
        >>> model = ff.mlp(3, [64], 1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = ff.gaussian_init_(model, weight_var=2.0, generator=generator)
        >>> ff.init_variance(model[0])
        InitVariance(weight=2.0, bias=0.01)
    """
    drawn: dict[str, nn.Module] = {}
    reset: list[nn.Module] = []
    for name, module in model.named_modules():
        if isinstance(module, _DRAWN):
            drawn[name] = module
        elif isinstance(module, _RESET):
            reset.append(module)
        elif not isinstance(module, _KEPT) and any(True for _ in module.parameters(recurse=False)):
            raise SettingsError(
                f"gaussian_init_ has no rule for the module {name or 'at the top'} "
                f"({type(module).__name__}), which holds parameters of its own; it draws Linear "
                "and Conv layers. Initialise this model by hand and give the variances to the "
                "functions that need them."
            )
    weight_vars = _variances("weight_var", weight_var, default=2.0, names=drawn)
    bias_vars = _variances("bias_var", bias_var, default=0.01, names=drawn)
    with torch.no_grad():
        for name, module in drawn.items():
            variance = InitVariance(weight_vars[name], bias_vars[name])
            weight = module.get_parameter("weight")
            _draw_(weight, (variance.weight / weight[0].numel()) ** 0.5, generator)
            if module.bias is not None:
                _draw_(module.get_parameter("bias"), variance.bias**0.5, generator)
            module._farfield_init_variance = variance  # type: ignore[assignment]
        for module in reset:
            module.reset_parameters()  # type: ignore[operator]
    return model


def init_variance(module: nn.Module) -> InitVariance | None:
    """The variances that :func:`gaussian_init_` used for this one module, if it drew it.

    Args:
        module: A layer, such as ``model[0]``.

    Returns:
        The variances, or ``None`` for a module that was not drawn by :func:`gaussian_init_`.

    Example:
        >>> import torch, farfield as ff
        >>> print(ff.init_variance(torch.nn.Linear(2, 2)))
        None
    """
    variance = getattr(module, "_farfield_init_variance", None)
    return variance if isinstance(variance, InitVariance) else None


def _variances(
    what: str, given: float | Mapping[str, float], default: float, names: Mapping[str, nn.Module]
) -> dict[str, float]:
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise SettingsError(
                f"{what} names {unknown[0]!r}, which is not a linear or convolutional module of "
                f"this model; those are {', '.join(repr(name) for name in names) or 'none'}."
            )
        values = {name: float(given.get(name, default)) for name in names}
    else:
        values = dict.fromkeys(names, float(given))
    for value in [*values.values(), *([] if isinstance(given, Mapping) else [float(given)])]:
        if not 0.0 <= value < float("inf"):
            raise SettingsError(f"{what} is {value}; a variance must be finite and at least 0.")
    return values


def _draw_(tensor: torch.Tensor, std: float, generator: torch.Generator | None) -> None:
    # Drawn where the generator lives, so that a seed means the same weights on every device.
    device = generator.device if generator is not None else tensor.device
    noise = torch.randn(tensor.shape, generator=generator, device=device, dtype=tensor.dtype)
    tensor.copy_(std * noise)
