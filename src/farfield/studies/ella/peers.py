"""laplace-torch's posteriors, for the ELLA study."""

from __future__ import annotations

import copy
import importlib.util
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset

from farfield.studies.ella.methods import (
    GAUSSIAN,
    MONTE_CARLO,
    PROBIT,
    Method,
    Moments,
    link_of,
    only_classes,
    tuned,
)
from farfield.studies.ella.tasks import Labelled, Task

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

_STEPS, _STEP = 200, 0.1  # of Adam, on logarithms; laplace-torch takes 100
INSTALL = (
    "laplace-torch or BackPACK is not installed; install both with: pip install 'farfield[ella]'"
)


def installed() -> bool:
    """Whether laplace-torch and BackPACK are there; looked for without loading them."""
    return all(importlib.util.find_spec(name) is not None for name in ("laplace", "backpack"))


@contextmanager
def _quietly() -> Iterator[None]:
    # Its backends warn of each other, and of hooks that they leave behind.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Peer:
    """A posterior of laplace-torch, tuned as the others are.

    Args:
        laplace: Its object, not fitted.
        task: What the network was trained on.
        batch_size: Samples at once: with many its Jacobians leave the cache, or the memory.
        link: From outputs to probabilities, for classes.
    """

    def __init__(self, laplace: Any, task: Task, batch_size: int, link: str) -> None:
        self._laplace, self.link, self._batch = laplace, link_of(task, link), batch_size
        self.noise_var = 1.0
        with _quietly():
            laplace.fit(DataLoader(TensorDataset(*task.train), batch_size))

    @property
    def prior_precision(self) -> float:
        """As tuned; of a regression in units of the noise."""
        return float(self._laplace.prior_precision) / self.noise_var

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise by held-out data."""
        with _quietly():
            self._tune(*validation)

    def _tune(self, x: Tensor, y: Tensor) -> None:
        found = [self._jacobians(some) for some in x.split(self._batch)]
        mean = torch.cat([own for _, own in found])
        kept = [self.kept(own) for own, _ in found]

        def unit(ridge: float) -> Tensor | None:
            try:
                return torch.cat([self.at(own, ridge) for own in kept])
            except RuntimeError as error:
                if "positive-definite" not in str(error):
                    raise
                return None  # too small a prior precision for its float32

        precision, self.noise_var = tuned(self.link, mean, unit, y)
        self._laplace.prior_precision = precision * self.noise_var

    def kept(self, jacobians: Tensor) -> Tensor:
        """What of the Jacobians does not depend on the prior precision."""
        return jacobians

    def at(self, kept: Tensor, ridge: float) -> Tensor:
        """Covariances at a prior precision, of noise 1."""
        self._laplace.prior_precision = ridge
        return self._covariances(kept)

    def moments(self, x: Tensor) -> Moments:
        """Means and covariances of the linearised outputs."""
        means, covariances = [], []
        with _quietly():
            for some in x.split(self._batch):
                jacobians, mean = self._jacobians(some)
                means.append(mean)
                covariances.append(self._covariances(jacobians))
        return torch.cat(means), self.noise_var * torch.cat(covariances)

    def novelty(self, x: Tensor) -> None:
        """There is none."""

    def _jacobians(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What covariances are made of, whatever the prior precision, and the outputs."""
        backend = self._laplace.backend
        of = backend.last_layer_jacobians if backend.last_layer else backend.jacobians
        found, mean = of(x)
        return found.detach(), mean.detach().double()

    def _covariances(self, jacobians: Tensor) -> Tensor:
        found: Tensor = self._laplace.functional_variance(jacobians)
        return found.detach().double()


class PeerKron(Peer):
    """Kronecker factors, into whose eigenvectors the Jacobians are turned once to be tuned.

    laplace-torch turns them anew for each prior precision, most of its time by far.
    """

    def kept(self, jacobians: Tensor) -> Tensor:
        """The Jacobians in the eigenvectors of the factors."""
        turned, start = [], 0
        for pair in self._laplace.posterior_precision.eigenvectors:
            sides = [len(vectors) for vectors in pair]
            own = jacobians[:, :, start : start + math.prod(sides)]
            start += math.prod(sides)
            if len(pair) == 1:
                turned.append(own @ pair[0])
            else:
                turned.append((pair[0].mT @ own.unflatten(2, sides) @ pair[1]).flatten(2))
        return torch.cat(turned, 2)

    def at(self, kept: Tensor, ridge: float) -> Tensor:
        """Covariances at a prior precision, of noise 1."""
        pairs = self._laplace.posterior_precision.eigenvalues
        values = torch.cat(
            [(pair[0] if len(pair) == 1 else torch.outer(*pair)).flatten() for pair in pairs]
        )
        found: Tensor = (kept / (values.clamp_min(0.0) + ridge)) @ kept.mT
        return found.double()


class PeerByEvidence(Peer):
    """Tuned by the marginal likelihood of the training data, as the paper's baselines are."""

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise; the held-out data are not looked at."""
        del validation
        logs = torch.zeros(1 + (self.link == GAUSSIAN), requires_grad=True)
        optimizer = torch.optim.Adam([logs], _STEP)
        with _quietly():
            for _ in range(_STEPS):
                optimizer.zero_grad()
                precision, *deviation = logs.exp()
                evidence = self._laplace.log_marginal_likelihood(precision, *deviation)
                (-evidence).backward()
                optimizer.step()
        precision, *deviation = logs.detach().exp()
        self.noise_var = float(deviation[0]) ** 2 if deviation else 1.0
        self._laplace.sigma_noise = 1.0
        self._laplace.prior_precision = float(precision) * self.noise_var


class PeerElla(Peer):
    """laplace-torch's own ELLA, whose features are computed anew for each prior precision."""

    def _jacobians(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return x, self._laplace.model(x).double()

    def _covariances(self, jacobians: Tensor) -> Tensor:
        _, found = self._laplace.predictive_moments(jacobians)
        covariances: Tensor = found.detach().double()
        return covariances


def _fit(
    network: nn.Module,
    task: Task,
    settings: Settings,
    subset: str,
    structure: str,
    link: str = MONTE_CARLO,
    by_evidence: bool = False,
    **given: Any,
) -> Peer:
    """A posterior of some weights, with the curvature that was the fastest on CPU: BackPACK's."""
    with _quietly():
        from laplace import Laplace
        from laplace.curvature import BackPackGGN

        kept = copy.deepcopy(network)  # BackPACK leaves its hooks in the modules
        kind = {"gp": PeerElla, "kron": PeerKron}.get(structure, Peer)
        kind = PeerByEvidence if by_evidence else kind
        laplace = Laplace(kept, task.likelihood, subset, structure, backend=BackPackGGN, **given)
        return kind(laplace, task, settings.batch_size, link)


def _subnetwork(network: nn.Module, task: Task, settings: Settings) -> Peer:
    """The dense Hessian of the weights of largest magnitude."""
    vector = parameters_to_vector(network.parameters()).detach().abs()
    largest = vector.topk(min(settings.subnetwork, len(vector))).indices.sort().values
    return _fit(network, task, settings, "subnetwork", "full", subnetwork_indices=largest)


def _ella(network: nn.Module, task: Task, settings: Settings) -> Peer:
    return _fit(
        network,
        task,
        settings,
        "all",
        "gp",
        functional_approximation="nystrom",
        subsample_size=min(settings.inducing, len(task.train[0])),
        n_eigenvalues=settings.features,
    )


def _hindered(network: nn.Module, task: Task, settings: Settings) -> str:
    return "" if installed() else INSTALL


def _classes(network: nn.Module, task: Task, settings: Settings) -> str:
    return only_classes(network, task, settings) or _hindered(network, task, settings)


def _too_large(network: nn.Module, task: Task, settings: Settings) -> str:
    size = sum(parameter.numel() for parameter in network.parameters())
    if installed() and size > settings.dense:
        return (
            f"The Hessian of all {size:,} parameters is a matrix of {4 * size**2 / 1e6:,.0f} MB, "
            f"factorised for each prior precision; settings.dense stops at {settings.dense:,}."
        )
    return _hindered(network, task, settings)


def _too_slow(network: nn.Module, task: Task, settings: Settings) -> str:
    numbers = task.outputs * sum(parameter.numel() for parameter in network.parameters())
    if installed() and numbers > settings.jacobian:
        return (
            f"It computes Jacobians of {numbers:,} numbers for each sample, anew for each prior "
            f"precision; settings.jacobian stops at {settings.jacobian:,}."
        )
    return _hindered(network, task, settings)


LAST = Method("last", "last layer", lambda n, t, s: _fit(n, t, s, "last_layer", "full"), _hindered)
DIAGONAL = Method("diagonal", "diagonal", lambda n, t, s: _fit(n, t, s, "all", "diag"), _hindered)
KFAC = Method("kfac", "KFAC", lambda n, t, s: _fit(n, t, s, "all", "kron"), _hindered)
LAST_EVIDENCE = Method(
    "last_evidence",
    "last layer, by evidence",
    lambda n, t, s: _fit(n, t, s, "last_layer", "full", by_evidence=True),
    _hindered,
)
KFAC_EVIDENCE = Method(
    "kfac_evidence",
    "KFAC, by evidence",
    lambda n, t, s: _fit(n, t, s, "all", "kron", by_evidence=True),
    _hindered,
)
LAST_PROBIT = Method(
    "last_probit",
    "last layer, probit",
    lambda n, t, s: _fit(n, t, s, "last_layer", "full", PROBIT),
    _classes,
)
KFAC_PROBIT = Method(
    "kfac_probit",
    "KFAC, probit",
    lambda n, t, s: _fit(n, t, s, "all", "kron", PROBIT),
    _classes,
)
SUBNETWORK = Method("subnetwork", "full, largest weights", _subnetwork, _hindered)
FULL = Method("full", "full", lambda n, t, s: _fit(n, t, s, "all", "full"), _too_large)
PEER_ELLA = Method("peer_ella", "ELLA of laplace-torch", _ella, _too_slow)
