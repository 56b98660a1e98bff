"""The networks that the studies compare: one architecture, its norm at different places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from farfield.errors import SettingsError
from farfield.networks import Activation, NormAt, gaussian_init_, mlp

NORM_NAMES = {"layer": "LayerNorm", "rms": "RMSNorm", "batch": "BatchNorm"}


@dataclass(frozen=True)
class Variant:
    """A norm and its place in an MLP.

    Attributes:
        key: Short name, used in tables of results.
        label: Name for readers.
        norm: The norm, or ``None`` for the standard network.
        norm_at: The hidden layers that have it.
        before_activation: Whether it stands before or after the activation.
        affine: Whether it ends with a trained gain (and bias).
    """

    key: str
    label: str
    norm: str | None
    norm_at: NormAt
    before_activation: bool = True
    affine: bool = True


def variants(norm: str, depth: int) -> tuple[Variant, ...]:
    """The standard network and one with the norm at the first, the last and every hidden layer.

    Args:
        norm: The norm.
        depth: Number of hidden layers; with a single one the places coincide and give one
            variant.

    Returns:
        The variants that differ.
    """
    name = NORM_NAMES[norm]
    standard = Variant("standard", "Standard", None, "every")
    first = Variant("first", f"{name} first", norm, "first")
    if depth == 1:
        return standard, first
    last = "second" if depth == 2 else "last"
    return (
        standard,
        first,
        Variant("last", f"{name} {last}", norm, "last"),
        Variant("every", f"{name} every", norm, "every"),
    )


def check_scale(
    seeds: int, hidden: Sequence[int], activation: Activation, weight_var: float, bias_var: float
) -> None:
    """Refuse numbers of seeds and networks that mean nothing.

    Args:
        seeds: How many networks of each variant.
        hidden: Hidden widths; at least one.
        activation: The activation.
        weight_var: Variance of the weights.
        bias_var: Variance of the biases.

    Raises:
        SettingsError: What was found and what is allowed.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise SettingsError(f"seeds is {seeds}; it must be at least 1, a whole number.")
    if not hidden:
        raise SettingsError("hidden is empty; the networks need at least one hidden layer.")
    for name, variance in (("weight_var", weight_var), ("bias_var", bias_var)):
        if not 0.0 <= variance < float("inf"):
            raise SettingsError(f"{name} is {variance}; a variance must be finite and at least 0.")
    with torch.device("meta"):  # without memory
        mlp(1, hidden, 1, activation=activation)


def draw(
    variant: Variant,
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    *,
    activation: Activation,
    weight_var: float,
    bias_var: float,
    seed: int,
) -> nn.Sequential:
    """One network of a variant, drawn by :func:`farfield.gaussian_init_` from a seed.

    Args:
        variant: The norm and where it stands.
        in_features: Number of inputs.
        hidden: Hidden widths.
        out_features: Number of outputs.
        activation: The activation.
        weight_var: Weights are N(0, weight_var / fan_in).
        bias_var: Biases are N(0, bias_var).
        seed: The same seed gives all variants the same linear layers.

    Returns:
        The network.
    """
    network = mlp(
        in_features,
        hidden,
        out_features,
        activation=activation,
        norm=variant.norm,
        norm_at=variant.norm_at,
        norm_before_activation=variant.before_activation,
        norm_affine=variant.affine,
    )
    generator = torch.Generator().manual_seed(seed)
    gaussian_init_(network, weight_var, bias_var, generator)
    return network
