"""What a posterior predicts: means with standard deviations, or class probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.uncertainty import links
from farfield.uncertainty.likelihood import probit_logits
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
