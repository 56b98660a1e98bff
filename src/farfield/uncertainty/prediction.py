"""What a posterior predicts: means with standard deviations, or class probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from farfield.empirical.inputs import Inputs
from farfield.errors import SettingsError
from farfield.uncertainty import links
from farfield.uncertainty.fitting import Posterior
from farfield.uncertainty.likelihood import probit_logits
from farfield.uncertainty.network import Network
from farfield.uncertainty.samples import inputs_of
from farfield.uncertainty.spread import Spread

Law = tuple[Tensor, Spread]
"""Means and covariances of the outputs of a block of inputs."""


@dataclass(frozen=True, eq=False)
class LaplacePrediction:
    """Predictions of a regression.

    Attributes:
        mean: Outputs of the network, (n, o).
        std: Standard deviation of each output, without the noise of observations, (n, o).
        noise_std: Standard deviation of that noise.
    """

    mean: Float[Tensor, "n o"]
    std: Float[Tensor, "n o"]
    noise_std: float

    @property
    def total_std(self) -> Float[Tensor, "n o"]:
        """Of an observation: output and noise together."""
        return (self.std.square() + self.noise_std**2).sqrt()


def laws(
    network: Network,
    posterior: Posterior,
    x: Inputs | DataLoader[Any],
    precision: float,
    noise_var: float,
) -> Iterator[Law]:
    """The laws of the outputs, block by block.

    Args:
        network: The network.
        posterior: Of its parameters.
        x: New inputs.
        precision: Of the prior.
        noise_var: Of the observations.

    Yields:
        Means and covariances in float64.
    """
    for inputs in blocks(network, x, lambda few: posterior.side(network, few)):
        spread = posterior.spread(network, inputs, precision, noise_var)
        yield network(inputs).double(), spread


def blocks(
    network: Network, x: Inputs | DataLoader[Any], side: Callable[[Inputs], int]
) -> Iterator[Inputs]:
    """New inputs, as many at once as fit into memory.

    Args:
        network: The network.
        x: The inputs.
        side: How many inputs like some given ones fit.

    Yields:
        Inputs.

    Raises:
        SettingsError: There are none.
    """
    source = inputs_of(x, network.device)
    few = next((few for _, few in source.blocks(4)), None)
    if few is None:
        raise SettingsError("There are no inputs to predict at; at least one is needed.")
    for _, inputs in source.blocks(side(few)):
        yield inputs


def of_numbers(laws: Iterable[Law], noise_var: float) -> LaplacePrediction:
    """The predictions of a regression.

    Args:
        laws: Of the outputs, block by block.
        noise_var: Of the observations.
    """
    pairs = [(mean, spread.variances.sqrt()) for mean, spread in laws]
    mean, std = (torch.cat(column) for column in zip(*pairs, strict=True))
    return LaplacePrediction(mean, std, math.sqrt(noise_var))


def of_classes(
    laws: Iterable[Law], link: str, samples: int, generator: torch.Generator
) -> Float[Tensor, "n o"]:
    """The probabilities of classes.

    Args:
        laws: Of the outputs, block by block.
        link: ``"probit"`` or ``"monte_carlo"``.
        samples: How many random outputs.
        generator: Source of randomness.
    """
    parts = []
    for mean, spread in laws:
        if link == "probit":
            parts.append(probit_logits(mean, spread.variances).softmax(1))
        else:
            parts.append(links.monte_carlo(mean, spread.root, samples, generator))
    return torch.cat(parts)
