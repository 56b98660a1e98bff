"""How well a posterior predicts held-out data, as one of the links will use it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.uncertainty.likelihood import Likelihood
from farfield.uncertainty.links import monte_carlo
from farfield.uncertainty.spectral import Modes, Variances

_DRAWS = 512  # random outputs for each sample, as in the paper


@dataclass(frozen=True)
class HeldOutLoss:
    """The mean negative log likelihood of held-out targets.

    Attributes:
        likelihood: Of the targets.
        link: From outputs to the probabilities of classes.
        seed: Of random outputs. They are the same ones for all prior precisions that are compared,
            so that a search sees a smooth function.
    """

    likelihood: Likelihood
    link: str
    seed: int

    def kept(self, modes: Modes) -> Modes | Variances:
        """What of the covariances the loss depends on."""
        draws = self.likelihood.name == "classification" and self.link == "monte_carlo"
        return modes if draws else modes.variances()

    def at(
        self,
        mean: Tensor,
        kept: Modes | Variances,
        targets: Tensor,
        precision: float,
        noise_var: float,
    ) -> float:
        """The loss.

        Args:
            mean: Of the outputs, (n, o).
            kept: Of their covariances.
            targets: As the likelihood takes them.
            precision: Of the prior.
            noise_var: Of the observations; 1 for classification.
        """
        if isinstance(kept, Variances):
            variances = kept.at(precision, noise_var)
            return self.likelihood.predictive_loss(mean, variances, targets, noise_var)
        generator = torch.Generator().manual_seed(self.seed)
        root = kept.at(precision, noise_var).root
        found = monte_carlo(mean.double(), root, _DRAWS, generator)
        # Of a class that no draw thinks possible: a finite loss, with which a search can go on.
        return float(F.nll_loss(found.clamp_min(torch.finfo(found.dtype).tiny).log(), targets))
