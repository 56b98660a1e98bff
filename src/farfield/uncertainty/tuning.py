"""The prior precision and noise that suit the training data or predict held-out data best."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farfield.empirical.inputs import Inputs
from farfield.errors import SettingsError
from farfield.uncertainty.evidence import minimised
from farfield.uncertainty.fitting import Fit, Posterior
from farfield.uncertainty.held_out import HeldOutLoss
from farfield.uncertainty.links import check_link
from farfield.uncertainty.network import Network
from farfield.uncertainty.samples import Labelled, Samples, samples_of
from farfield.uncertainty.settings import LaplaceSettings
from farfield.uncertainty.spectral import Modes, Variances


@dataclass(frozen=True, eq=False)
class Validated:
    """Held-out data with their covariances as functions of prior precision and noise.

    Attributes:
        score: What is to be small.
        means: Outputs of the network, block by block.
        kept: Likewise, what of their covariances counts.
        targets: Likewise, as the likelihood takes them.
    """

    score: HeldOutLoss
    means: list[Tensor]
    kept: list[Modes | Variances]
    targets: list[Tensor]

    def loss(self, precision: float, noise_var: float) -> float:
        """Mean negative log likelihood.

        Args:
            precision: Of the prior.
            noise_var: Of the observations; 1 for classification.
        """
        total = 0.0
        for mean, kept, y in zip(self.means, self.kept, self.targets, strict=True):
            total += len(y) * self.score.at(mean, kept, y, precision, noise_var)
        return total / sum(map(len, self.targets))

    def best(self, start: tuple[float, float], noise: bool, least: float) -> tuple[float, float]:
        """The prior precision and noise of the smallest loss.

        Args:
            start: Those to begin with.
            noise: Whether the noise may change.
            least: The least product of both.
        """
        return minimised(self.loss, start, noise, least)


def tuned(
    network: Network,
    settings: LaplaceSettings,
    fit: Fit,
    by: str,
    validation: Labelled | None,
    link: str,
    start: tuple[float, float],
    noise: bool,
) -> tuple[float, float]:
    """The prior precision and noise that are best by the training or by held-out data.

    Args:
        network: The network.
        settings: Of the posterior.
        fit: The posterior.
        by: ``"marginal_likelihood"`` or ``"validation"``.
        validation: The held-out data.
        link: From outputs to probabilities, for held-out classes.
        start: Those to begin with.
        noise: Whether the noise of a regression may change.

    Returns:
        Both.

    Raises:
        SettingsError: Another word, or validation data that are missing or not needed.
    """
    check_link(link)
    given = "None" if validation is None else "given"
    if (by, given) not in (("marginal_likelihood", "None"), ("validation", "given")):
        raise SettingsError(
            f"by is {by!r} and validation is {given}; choose by='marginal_likelihood', or "
            "by='validation' with validation=(x, y)."
        )
    noise, least = noise and settings.likelihood == "regression", fit.posterior.least_ridge
    if validation is None:
        return fit.evidence(network, settings).best(start, noise, least)
    held_out = samples_of(validation, network.device, "The validation data")
    score = HeldOutLoss(settings.law, link, settings.seed)
    return validated(network, score, fit.posterior, held_out).best(start, noise, least)


def validated(
    network: Network,
    score: HeldOutLoss,
    posterior: Posterior,
    samples: Samples,
) -> Validated:
    """Compute what the covariances of held-out data depend on.

    Args:
        network: The network.
        score: What is to be small.
        posterior: Whose covariances.
        samples: The held-out data.

    Returns:
        The data.

    Raises:
        SettingsError: They do not fit into memory.
    """
    means: list[Tensor] = []
    kept: list[Modes | Variances] = []
    targets: list[Tensor] = []

    def add(inputs: Inputs, y: Tensor) -> None:
        mean = network(inputs).double()
        means.append(mean)
        targets.append(score.likelihood.targets(y, mean.shape[1]))
        kept.append(score.kept(posterior.modes(network, inputs).to(network.device)))

    side = None
    for _, inputs, _ in samples.blocks(4):
        side = posterior.side(network, inputs)
        bytes_needed = 8 * len(samples) * network.outputs(inputs) * len(posterior.eigenvalues)
        if bytes_needed > network.budget:
            raise SettingsError(
                f"The {len(samples)} validation samples need {bytes_needed / 1e9:.1f} GB, and the "
                f"memory allowed is {network.budget / 1e9:.1f} GB; give fewer, or memory=..."
            )
        break
    for _, inputs, y in samples.blocks(side or 1):
        add(inputs, y)
    return Validated(score, means, kept, targets)
