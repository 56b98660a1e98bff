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

from farfield.studies.ella_tasks import Labelled, Task
from farfield.uncertainty import LinearizedLaplace

if TYPE_CHECKING:
    from farfield.studies.ella import Settings

Moments = tuple[Float[Tensor, "n o"], Float[Tensor, "n o"]]


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

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise by the negative log likelihood of held-out data."""
        ...

    def moments(self, x: Tensor) -> Moments:
        """Means and variances of the outputs, without noise, in float64."""
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


def probabilities(moments: Moments) -> Float[Tensor, "n classes"]:
    """``softmax(m / sqrt(1 + pi v / 8))``: the probit approximation, the same for all methods.

    Args:
        moments: Means and variances of the outputs.

    Returns:
        Probabilities of the classes.

    Source: MacKay (1992); Eschenhagen et al. (2021).
    """
    mean, variance = moments
    return (mean / (1.0 + math.pi / 8.0 * variance).sqrt()).softmax(1)


def negative_log_likelihood(task: str, moments: Moments, noise_var: float, y: Tensor) -> float:
    """The mean negative log likelihood that prior precision and noise are chosen by.

    Args:
        task: ``"classification"`` or ``"regression"``.
        moments: Means and variances of the outputs.
        noise_var: Of the observations of a regression.
        y: The targets.

    Returns:
        In nats.
    """
    if task == "classification":
        return float(-probabilities(moments).log().gather(1, y[:, None]).mean())
    mean, variance = moments
    total = variance + noise_var
    losses = (y.double() - mean).square() / total + total.log() + math.log(2.0 * math.pi)
    return float(losses.mean()) / 2.0


def lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """The positive number at which a function is lowest: powers of ten, then a search around.

    Args:
        function: Of a positive number.
        low: Decimal logarithm of the smallest.
        high: Of the largest.

    Returns:
        The number.
    """
    steps = torch.arange(low, high + 1.0).tolist()
    best = min(steps, key=lambda step: function(10.0**step))
    bounds = (max(best - 1.0, low), min(best + 1.0, high))
    found = minimize_scalar(
        lambda step: function(10.0**step), bounds=bounds, method="bounded", options={"xatol": 0.05}
    )
    return float(10.0 ** (found.x if found.fun <= function(10.0**best) else best))


class Map:
    """The network itself, with the noise of a regression; with a temperature if wanted.

    Args:
        network: The network.
        likelihood: ``"classification"`` or ``"regression"``.
        scaled: Whether outputs are divided by a temperature, chosen by held-out data.
    """

    def __init__(self, network: nn.Module, likelihood: str, scaled: bool) -> None:
        self._network, self._likelihood, self._scaled = network, likelihood, scaled
        self._temperature = 1.0
        self.prior_precision, self.noise_var = math.nan, 1.0

    def tune(self, validation: Labelled) -> None:
        """Choose the noise, or the temperature, by held-out data."""
        x, y = validation
        mean, variance = self.moments(x)
        if self._likelihood == "regression":
            self.noise_var = float((y.double() - mean).square().mean())
        elif self._scaled:
            self._temperature = lowest(
                lambda t: negative_log_likelihood(self._likelihood, (mean / t, variance), 1.0, y),
                -2.0,
                2.0,
            )

    def moments(self, x: Tensor) -> Moments:
        """The outputs, and variances of 0."""
        with torch.no_grad():
            mean = self._network(x).double() / self._temperature
        return mean, torch.zeros_like(mean)

    def novelty(self, x: Tensor) -> None:
        """There is none."""


class Ours:
    """The linearised Laplace posterior of farfield.

    Args:
        network: The network.
        task: What it was trained on.
        settings: The approximation's.
        features: K of ELLA; ``None`` for the exact posterior.
    """

    def __init__(
        self, network: nn.Module, task: Task, settings: Settings, features: int | None
    ) -> None:
        x, y = task.train
        self._laplace = LinearizedLaplace(
            network,
            task.likelihood,
            prior_precision=settings.prior_precision,
            method="exact" if features is None else "nystrom",
            inducing=settings.inducing,
            features=features or 1,
        )
        if features is not None:
            self._laplace.fit((x, y), validation=task.validation, search=settings.search)
        else:
            # Softmax Hessians have one dimension less than there are outputs.
            rows = settings.exact_size // max(task.outputs - 1, 1)
            self._laplace.fit((x[:rows], y[:rows]))

    @property
    def prior_precision(self) -> float:
        """As tuned."""
        return self._laplace.prior_precision

    @property
    def noise_var(self) -> float:
        """As tuned."""
        return self._laplace.noise_var

    def tune(self, validation: Labelled) -> None:
        """Choose prior precision and noise by held-out data."""
        self._laplace.tune(by="validation", validation=validation)

    def moments(self, x: Tensor) -> Moments:
        """Means and variances of the linearised outputs."""
        mean, covariance = self._laplace.predict_outputs(x)
        return mean, covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0)

    def novelty(self, x: Tensor) -> Float[Tensor, " n"]:
        """Distance from the training data in tangent features."""
        return self._laplace.novelty(x)


def _possible(network: nn.Module, task: Task, settings: Settings) -> str:
    return ""


def _needs_classes(network: nn.Module, task: Task, settings: Settings) -> str:
    if task.likelihood == "classification":
        return ""
    return "Of a regression it is MAP, whose noise is chosen by the validation data anyway."


def _needs_numbers(network: nn.Module, task: Task, settings: Settings) -> str:
    if task.likelihood == "regression":
        return ""
    return (
        "Each further feature costs a pass of the network over all images; the ablation says what "
        "more of them give."
    )


MAP = Method("map", "MAP", lambda n, t, s: Map(n, t.likelihood, False), _possible)
TEMPERATURE = Method(
    "temperature", "MAP, temperature", lambda n, t, s: Map(n, t.likelihood, True), _needs_classes
)
ELLA = Method("ella", "ELLA", lambda n, t, s: Ours(n, t, s, s.features), _possible)
ELLA_MORE = Method(
    "ella_more", "ELLA, larger K", lambda n, t, s: Ours(n, t, s, s.more_features), _needs_numbers
)
EXACT = Method("exact", "exact, some rows", lambda n, t, s: Ours(n, t, s, None), _possible)
