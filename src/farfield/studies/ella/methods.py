"""The ways to say how sure a trained network is that the ELLA study compares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from farfield.studies.ella.tasks import Labelled, Task
from farfield.uncertainty import LinearizedLaplace
from farfield.uncertainty.likelihood import probit_logits
from farfield.uncertainty.links import monte_carlo
from farfield.uncertainty.network import network_of
from farfield.uncertainty.nystrom import NystromPosterior
from farfield.uncertainty.spread import ByCovariance

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

Moments = tuple[Float[Tensor, "n o"], Float[Tensor, "n o o"]]

LOWEST, HIGHEST = -10.0, 8.0
"""Decimal logarithms of the prior precisions (times noise) that are tried for every method."""

MONTE_CARLO, PROBIT = "monte_carlo", "probit"
"""The ways from Gaussian outputs to probabilities."""

GAUSSIAN = "gaussian"
"""Outputs that are means of observations, of a regression."""

_DRAWS = 512  # of the outputs, as in the paper
_NOT_THIS = 1e9  # a loss that no search stops at, and that it can still compute with
_BUDGET = 2**28  # bytes of ELLA at once: larger blocks are no faster


@runtime_checkable
class Posterior(Protocol):
    """What a method has fitted."""

    @property
    def prior_precision(self) -> float:
        """As chosen; not a number where there is none."""
        ...

    @property
    def noise_var(self) -> float:
        """Of the observations of a regression, as chosen."""
        ...

    @property
    def link(self) -> str:
        """From outputs to the law of targets."""
        ...

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise by the negative log likelihood of held-out data."""
        ...

    def moments(self, x: Tensor) -> Moments:
        """Means and covariances of the outputs, without noise, in float64."""
        ...

    def novelty(self, x: Tensor) -> Float[Tensor, " n"] | None:
        """An alarm of the method's own, if it has one."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to say how sure a network is.

    Attributes:
        key: Short name.
        label: Name for readers.
        fit: From the trained network, its task and the settings to a posterior.
        hindered: Why it cannot be run on a task, in a sentence; empty if it can.
    """

    key: str
    label: str
    fit: Callable[[nn.Module, Task, Settings], Posterior]
    hindered: Callable[[nn.Module, Task, Settings], str]


def probabilities(moments: Moments, link: str) -> Float[Tensor, "n classes"]:
    """From Gaussian outputs to probabilities.

    Random draws are always the same ones, so that the prior precision is chosen by a smooth
    function.

    Args:
        moments: Means and covariances of the outputs.
        link: :data:`MONTE_CARLO`, the mean softmax over as many draws as in the paper; or
            :data:`PROBIT`, the closed form of MacKay (1992) that sees variances alone.

    Returns:
        Probabilities of the classes.

    Source: Deng, Zhou and Zhu (2022), section 5; Daxberger et al. (2021), appendix A.2.
    """
    mean, covariance = moments
    if link == PROBIT:
        variances = covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0)
        return probit_logits(mean, variances).softmax(1)
    draws = torch.Generator().manual_seed(0)
    return monte_carlo(mean, ByCovariance(covariance).root, _DRAWS, draws)


def negative_log_likelihood(
    link: str, moments: Moments, noise_var: float | int, y: Tensor
) -> float:
    """The mean negative log likelihood that prior precision and noise are chosen by.

    Args:
        link: From outputs to the law of targets.
        moments: Means and covariances of the outputs.
        noise_var: Of the observations of a regression.
        y: The targets.

    Returns:
        In nats.
    """
    if link != GAUSSIAN:
        own = probabilities(moments, link).gather(1, y[:, None])
        # A class that no draw thinks possible costs much, but no search ends at infinity.
        return float(-own.clamp_min(torch.finfo(own.dtype).tiny).log().mean())
    mean, covariance = moments
    total = covariance[:, :, 0] + noise_var  # of a single output
    losses = (y.double() - mean).square() / total + total.log() + math.log(2.0 * math.pi)
    return float(losses.mean()) / 2.0


def tuned(
    link: str, mean: Tensor, unit: Callable[[float], Tensor | None], y: Tensor
) -> tuple[float, float]:
    """Choose prior precision and noise by held-out data, the same way for all methods.

    Covariances of a regression are the noise times a function of the ridge, the product of prior
    precision and noise, so that the best noise is known for each ridge: the mean of
    ``(y - mean)^2 / (1 + unit(ridge))``.

    Args:
        link: From outputs to the law of targets.
        mean: Of the outputs.
        unit: From a ridge to the covariances of the outputs at noise 1; ``None`` where a ridge is
            too small for its precision.
        y: The targets.

    Returns:
        Prior precision and noise; noise 1 for classes.
    """

    def noise(found: Tensor) -> float:
        if link != GAUSSIAN:
            return 1.0
        return float(((y.double() - mean).square() / (1.0 + found[:, :, 0])).mean())

    def loss(ridge: float) -> float:
        found = unit(ridge)
        if found is None:
            return _NOT_THIS
        scale = noise(found)
        return negative_log_likelihood(link, (mean, scale * found), scale, y)

    ridge = lowest(loss, LOWEST, HIGHEST)
    found = unit(ridge)
    chosen = 1.0 if found is None else noise(found)
    return ridge / chosen, chosen


def lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """The positive number at which a function is lowest: powers of 100, then a search around.

    Args:
        function: Of a positive number.
        low: Decimal logarithm of the smallest.
        high: Of the largest.

    Returns:
        The number.
    """
    heights = {step: function(10.0**step) for step in torch.arange(low, high + 1.0, 2.0).tolist()}
    best = min(heights, key=heights.__getitem__)
    bounds = (max(best - 2.0, low), min(best + 2.0, high))
    found = minimize_scalar(
        lambda step: function(10.0**step), bounds=bounds, method="bounded", options={"xatol": 0.05}
    )
    return float(10.0 ** (found.x if found.fun <= heights[best] else best))


def link_of(task: Task, wanted: str) -> str:
    """How outputs become the law of targets on a task.

    Args:
        task: The task.
        wanted: For classes.

    Returns:
        The same for classes, else :data:`GAUSSIAN`.
    """
    return wanted if task.likelihood == "classification" else GAUSSIAN


class Map:
    """The network itself, with the noise of a regression; with a temperature if wanted.

    Args:
        network: The network.
        link: From outputs to the law of targets.
        scaled: Whether outputs are divided by a temperature, chosen by held-out data.
    """

    def __init__(self, network: nn.Module, link: str, scaled: bool) -> None:
        self._network, self.link, self._scaled = network, link, scaled
        self._temperature = 1.0
        self.prior_precision, self.noise_var = math.nan, 1.0

    def tune(self, validation: Labelled) -> None:
        """Choose the noise, or the temperature, by held-out data."""
        x, y = validation
        mean, none = self.moments(x)
        if self.link == GAUSSIAN:
            self.noise_var = float((y.double() - mean).square().mean())
        elif self._scaled:
            self._temperature = lowest(
                lambda t: negative_log_likelihood(self.link, (mean / t, none), 1.0, y),
                -2.0,
                2.0,
            )

    def moments(self, x: Tensor) -> Moments:
        """The outputs, and covariances of 0."""
        with torch.no_grad():
            mean = self._network(x).double() / self._temperature
        return mean, torch.zeros_like(mean)[:, :, None].repeat(1, 1, mean.shape[1])

    def novelty(self, x: Tensor) -> None:
        """There is none."""


class Exact:
    """The linearised Laplace posterior of farfield, of as many samples as its matrix holds.

    Args:
        network: The network.
        task: What it was trained on.
        settings: The size of the matrix.
    """

    def __init__(self, network: nn.Module, task: Task, settings: Settings) -> None:
        x, y = task.train
        # Softmax Hessians have one dimension less than there are outputs.
        rows = settings.exact_size // max(task.outputs - 1, 1)
        self._laplace = LinearizedLaplace(
            network, task.likelihood, prior_precision=settings.prior_precision
        ).fit((x[:rows], y[:rows]))
        self.link = link_of(task, PROBIT)

    @property
    def prior_precision(self) -> float:
        """As tuned."""
        return self._laplace.prior_precision

    @property
    def noise_var(self) -> float:
        """As tuned."""
        return self._laplace.noise_var

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise as the library does, by its probit approximation."""
        self._laplace.tune(by="validation", validation=validation)

    def moments(self, x: Tensor) -> Moments:
        """Means and covariances of the linearised outputs."""
        return self._laplace.predict_outputs(x)

    def novelty(self, x: Tensor) -> Float[Tensor, " n"] | None:
        """Distance from the training data, in tangent features and among the inputs."""
        return self._laplace.novelty(x)


class Ella(Exact):
    """The Nystrom approximation of farfield, of all samples or the part that validates best.

    Args:
        network: The network.
        task: What it was trained on.
        settings: M, and where the search over the data begins.
        features: K.
        link: From outputs to probabilities, for classes.
        alarms: Whether to compute the novelty, which is the same for any K and link.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        settings: Settings,
        features: int,
        link: str = MONTE_CARLO,
        alarms: bool = False,
    ) -> None:
        self._laplace = LinearizedLaplace(
            network,
            task.likelihood,
            prior_precision=settings.prior_precision,
            method="nystrom",
            inducing=settings.inducing,
            features=features,
            memory=_BUDGET,
        ).fit(task.train, validation=task.validation, search=settings.search, link=link)
        self._network, self.link, self._alarms = network, link_of(task, link), alarms

    def novelty(self, x: Tensor) -> Float[Tensor, " n"] | None:
        """Distance from the training data, if it is wanted."""
        return super().novelty(x) if self._alarms else None

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise by held-out data, whose features are computed once."""
        x, y = validation
        posterior = self._laplace.posterior
        assert isinstance(posterior, NystromPosterior)
        values, vectors = torch.linalg.eigh(posterior.gram)
        features = posterior.features(network_of(self._network, None, None, _BUDGET), x) @ vectors

        def unit(ridge: float) -> Tensor:
            weights = 1.0 / (values.clamp_min(0.0) + posterior.share * ridge)
            found: Tensor = (features * weights) @ features.mT
            return found

        with torch.no_grad():
            mean = self._network(x).double()
        found = tuned(self.link, mean, unit, y)
        self._laplace.prior_precision, self._laplace.noise_var = found


def _possible(network: nn.Module, task: Task, settings: Settings) -> str:
    return ""


def only_classes(network: nn.Module, task: Task, settings: Settings) -> str:
    """Why a method that differs only in the probabilities of classes is not run."""
    if task.likelihood == "classification":
        return ""
    return "It differs only in the probabilities of classes, which a regression has not."


MAP = Method("map", "MAP", lambda n, t, s: Map(n, link_of(t, PROBIT), False), _possible)
TEMPERATURE = Method(
    "temperature",
    "MAP, temperature",
    lambda n, t, s: Map(n, link_of(t, PROBIT), True),
    only_classes,
)
ELLA = Method("ella", "ELLA", lambda n, t, s: Ella(n, t, s, s.features, alarms=True), _possible)
ELLA_MORE = Method(
    "ella_more", "ELLA, more features", lambda n, t, s: Ella(n, t, s, s.more_features), _possible
)
ELLA_PROBIT = Method(
    "ella_probit",
    "ELLA, more features, probit",
    lambda n, t, s: Ella(n, t, s, s.more_features, PROBIT),
    only_classes,
)
EXACT = Method("exact", "exact, some rows", Exact, _possible)
