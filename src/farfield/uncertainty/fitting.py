"""From a network and its training data to a posterior, by either method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from farfield.errors import SettingsError
from farfield.uncertainty.evidence import Evidence
from farfield.uncertainty.exact import ExactPosterior, fit_exact
from farfield.uncertainty.held_out import HeldOutLoss
from farfield.uncertainty.links import check_link
from farfield.uncertainty.network import Network
from farfield.uncertainty.nystrom import NystromPosterior, NystromSettings, fit_nystrom
from farfield.uncertainty.samples import Samples
from farfield.uncertainty.settings import LaplaceSettings, check_counts

Posterior = ExactPosterior | NystromPosterior
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Fit:
    """A posterior, and what its evidence needs beside it.

    Attributes:
        posterior: The posterior.
        loss: Of the network on the training data.
        numbers: Outputs of all samples together.
    """

    posterior: Posterior
    loss: float
    numbers: int

    def with_ridge(self, ridge: float) -> Fit:
        """With another product of prior precision and noise variance."""
        return replace(self, posterior=self.posterior.with_ridge(ridge))

    def evidence(self, network: Network, settings: LaplaceSettings) -> Evidence:
        """What the approximation says of the probability of the targets."""
        return Evidence(
            settings.law,
            self.loss,
            self.numbers,
            network.squared_norm(),
            self.posterior.eigenvalues,
        )


def fit_posterior(
    network: Network,
    settings: LaplaceSettings,
    samples: Samples,
    held_out: Samples | None,
    variances: tuple[float, float],
    search: int,
    link: str,
    progress: Progress | None,
) -> Fit:
    """Compute the posterior.

    Args:
        network: The network.
        settings: By which method.
        samples: The training data.
        held_out: For ``"nystrom"``: where the best part of the data is searched.
        variances: Prior precision and noise variance.
        search: Samples between two looks at ``held_out``.
        link: From outputs to the probabilities of classes there.
        progress: Called with the number of samples that are done, and of all.

    Returns:
        The posterior.

    Raises:
        SettingsError: Held-out data for the exact method, or data that do not fit.
    """
    check_counts(search=search)
    check_link(link)
    precision, noise_var = variances
    if settings.method == "exact":
        if held_out is not None:
            raise SettingsError(
                "validation= chooses how much of the data counts, which is for "
                "method='nystrom'; for the exact posterior call "
                "tune(by='validation', validation=...)."
            )
        return Fit(*fit_exact(network, settings.law, samples, precision * noise_var, progress))
    generator = torch.Generator().manual_seed(settings.seed)
    mixed = samples.shuffled(generator)
    score = HeldOutLoss(settings.law, link, settings.seed)
    how = NystromSettings(settings.inducing, settings.features, search, precision, noise_var, score)
    return Fit(*fit_nystrom(network, settings.law, mixed, held_out, how, generator, progress))
