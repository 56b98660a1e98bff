"""The posterior in a few directions of the parameters: ELLA, streamed over the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.empirical.inputs import Inputs, rows_of
from farfield.uncertainty.held_out import HeldOutLoss
from farfield.uncertainty.likelihood import Likelihood
from farfield.uncertainty.network import Network
from farfield.uncertainty.samples import Samples
from farfield.uncertainty.spectral import Modes
from farfield.uncertainty.spread import Spread
from farfield.uncertainty.subspace import Subspace, draw_pairs, find_subspace, gather


@dataclass(frozen=True)
class Stop:
    """The posterior of the first part of the data, and how well it did.

    Attributes:
        seen: Samples of the training data.
        loss: Mean negative log likelihood on the validation data.
    """

    seen: int
    loss: float


@dataclass(frozen=True, eq=False)
class NystromPosterior:
    r"""A Gaussian over K directions V of the parameters.

    With features ``phi(x) = J(x) V`` and the first s of n samples,

    ``Cov f(x) = phi(x) G^{-1} phi(x)'``,
    ``G = sum_{i <= s} phi_i' Lambda_i phi_i / noise + (s / n) p I``.

    Attributes:
        subspace: V.
        gram: The sum over the samples up to s, at noise 1.
        everything: The sum over all samples.
        seen: s.
        samples: n.
        search: The posteriors that were compared.

    Source: Deng, Zhou and Zhu (2022), equation 10 and section 4.3.
    """

    subspace: Subspace
    gram: Float[Tensor, "k k"]
    everything: Float[Tensor, "k k"]
    seen: int
    samples: int
    search: tuple[Stop, ...] = ()

    @property
    def reference(self) -> Inputs:
        """The inducing inputs, to which new ones are compared."""
        return rows_of(self.subspace.inducing, slice(0, self.samples))  # each of them once

    @property
    def least_ridge(self) -> float:
        """Any product of prior precision and noise can be computed with."""
        return 0.0

    @property
    def share(self) -> float:
        """Of the data that the posterior has seen."""
        return self.seen / self.samples

    @cached_property
    def eigenvalues(self) -> Float[np.ndarray, " k"]:
        """Of the sum over all samples."""
        values: np.ndarray = torch.linalg.eigvalsh(self.everything).clamp_min(0.0).cpu().numpy()
        return values

    def features(self, network: Network, inputs: Inputs) -> Float[Tensor, "m o k"]:
        """``phi``, in float64, of inputs that fit into memory at once."""
        return network.along(inputs, self.subspace.directions).double()

    def spread(
        self, network: Network, inputs: Inputs, precision: float, noise_var: float
    ) -> Spread:
        """Covariances at some inputs that fit into memory at once.

        Args:
            network: The network.
            inputs: The inputs.
            precision: p.
            noise_var: Of the observations; 1 for classification.
        """
        return self.modes(network, inputs).at(precision, noise_var)

    def with_ridge(self, ridge: float) -> NystromPosterior:
        """The same: nothing of it depends on prior precision and noise."""
        return self

    def side(self, network: Network, inputs: Inputs) -> int:
        """How many inputs like these fit into memory at once."""
        return network.side(inputs, 3 * len(self.gram) * network.outputs(inputs))

    def modes(self, network: Network, inputs: Inputs) -> Modes:
        """Covariances as functions of prior precision and noise."""
        values, vectors = self._eigenvectors
        return Modes(self.features(network, inputs) @ vectors, values, share=self.share)

    @cached_property
    def _eigenvectors(self) -> tuple[Tensor, Tensor]:
        return _taken_apart(self.gram)


def _taken_apart(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, of which rounding makes none negative, and eigenvectors."""
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp_min(0.0), vectors


@dataclass(frozen=True)
class NystromSettings:
    """How the posterior is approximated.

    Attributes:
        inducing: M.
        features: K.
        search: Samples between two looks at the validation data.
        precision: p.
        noise_var: Of the observations.
        score: By which parts of the data are compared.
    """

    inducing: int
    features: int
    search: int
    precision: float
    noise_var: float
    score: HeldOutLoss


@dataclass(frozen=True, eq=False)
class Watched:
    """Validation data, as the search for a stop needs them.

    Attributes:
        mean: Outputs, (m, o).
        features: phi, (m, o, K), in the network's precision.
        targets: As the likelihood takes them.
    """

    mean: Tensor
    features: Tensor
    targets: Tensor

    def loss(self, settings: NystromSettings, gram: Tensor, share: float) -> float:
        """Mean negative log likelihood with the posterior of this sum over a share of the data."""
        values, vectors = _taken_apart(gram)
        score, modes = settings.score, Modes(self.features.double() @ vectors, values, share=share)
        variances = settings.precision, settings.noise_var
        return score.at(self.mean, score.kept(modes), self.targets, *variances)


def fit_nystrom(
    network: Network,
    likelihood: Likelihood,
    samples: Samples,
    validation: Samples | None,
    settings: NystromSettings,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None,
) -> tuple[NystromPosterior, float, int]:
    """Find the directions, and add up the curvature along them.

    Args:
        network: The network.
        likelihood: Of the targets.
        samples: Inputs and targets.
        validation: On which the best part of the data is searched; all data count when ``None``.
        settings: How.
        generator: Source of randomness.
        progress: Called with the number of samples that are done, and of all.

    Returns:
        The posterior, the loss of the network on the samples, and the number of their outputs.
    """
    outputs, labels = _look(network, likelihood, samples)
    n = len(labels)
    if progress is not None:
        progress(0, n)
    classes = labels if likelihood.name == "classification" else None
    rows, chosen = draw_pairs(classes, n, outputs, settings.inducing, generator)
    subspace = find_subspace(network, gather(samples, rows), chosen, settings.features)
    posterior = _empty(network, subspace, n)
    watched = None if validation is None else _watched(posterior, network, likelihood, validation)
    found, loss = _swept(posterior, network, likelihood, samples, watched, settings, progress)
    return found, loss, n * outputs


def _look(network: Network, likelihood: Likelihood, samples: Samples) -> tuple[int, Tensor]:
    """The number of outputs, and all targets, checked."""
    outputs, found = 0, []
    for _, inputs, y in samples.blocks(1024):
        outputs = outputs or network.outputs(inputs)
        found.append(likelihood.targets(y, outputs).cpu())
    return outputs, torch.cat(found)


def _empty(network: Network, subspace: Subspace, samples: int) -> NystromPosterior:
    side = len(subspace.directions[0])
    zeros = torch.zeros(side, side, dtype=torch.float64, device=network.device)
    return NystromPosterior(subspace, zeros, zeros, 0, samples)


def _side(posterior: NystromPosterior, network: Network, samples: Samples) -> int:
    for _, inputs, _ in samples.blocks(4):
        return posterior.side(network, inputs)
    raise AssertionError("samples are checked not to be empty")


def _watched(
    posterior: NystromPosterior, network: Network, likelihood: Likelihood, data: Samples
) -> Watched:
    means, features, targets = [], [], []
    for _, inputs, y in data.blocks(_side(posterior, network, data)):
        mean = network(inputs)
        means.append(mean)
        features.append(network.along(inputs, posterior.subspace.directions))
        targets.append(likelihood.targets(y, mean.shape[1]))
    return Watched(torch.cat(means), torch.cat(features), torch.cat(targets))


def _swept(
    posterior: NystromPosterior,
    network: Network,
    likelihood: Likelihood,
    samples: Samples,
    watched: Watched | None,
    settings: NystromSettings,
    progress: Callable[[int, int], None] | None,
) -> tuple[NystromPosterior, float]:
    """Add up all samples; keep the sum that did best on the validation data."""
    n, loss = posterior.samples, 0.0
    total, best = posterior.gram.clone(), None
    search: list[Stop] = []
    side = _side(posterior, network, samples)
    for rows, inputs, y in samples.blocks(side if watched is None else settings.search):
        for start in range(0, len(y), side):
            some = slice(start, start + side)
            gram, part = _curvature(posterior, network, likelihood, rows_of(inputs, some), y[some])
            total += gram
            loss += part
        if progress is not None:
            progress(rows.stop, n)
        if watched is not None:
            found = watched.loss(settings, total, rows.stop / n)
            if not search or found < min(stop.loss for stop in search):
                best = replace(posterior, gram=total.clone(), seen=rows.stop)
            search.append(Stop(rows.stop, found))
    kept = replace(posterior, gram=total, seen=n) if best is None else best
    return replace(kept, everything=total, search=tuple(search)), loss


def _curvature(
    posterior: NystromPosterior,
    network: Network,
    likelihood: Likelihood,
    inputs: Inputs,
    y: Tensor,
) -> tuple[Tensor, float]:
    """``sum_i phi_i' Lambda_i phi_i`` of some samples, and the loss on them."""
    mean = network(inputs)
    phi = posterior.features(network, inputs)
    roots = likelihood.roots(mean)
    flat = (phi if roots is None else roots.mT @ phi).flatten(0, 1)
    return flat.mT @ flat, likelihood.loss(mean, likelihood.targets(y, mean.shape[1]))
