"""The variance of trained networks' outputs over initialisations, in theory and by ensembles.

The framework of Seleznova and Kutyniok (2021): as depth and the variance of the weights change,
where do the kernels of infinite width still say how much networks trained from different weights
differ?
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from farfield.empirical import empirical_ntk
from farfield.errors import TrainingError
from farfield.infinite import infinite_width
from farfield.networks import gaussian_init_, mlp
from farfield.regression import KernelRegression
from farfield.studies.shared.checks import check_at_least, check_increasing
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace
from farfield.studies.variance import story
from farfield.training import Fleet, TrainingSettings, train

QUICK = {"depths": (1, 4, 16), "weight_vars": (1.0, 2.0, 3.0), "seeds": 30, "steps": 300}
"""Settings of a first look."""

_STEP = 0.05
# Times the largest eigenvalue of the kernel. Small, since with momentum a larger step overshoots so
# far that networks leave the regime of their first kernel.
_RESAMPLES = 2000


@dataclass(frozen=True)
class Settings:
    """Settings of the study; the paper states the formula, but none of these numbers.

    Attributes:
        width: M, the width of all hidden layers.
        depths: Numbers of hidden layers, increasing.
        weight_vars: sigma_w squared, increasing; biases start at 0 and are trained.
        seeds: Networks in an ensemble.
        features: Inputs are random points of the sphere of radius sqrt(features).
        rows: Training points; their targets are the first coordinate.
        test_rows: Points at which variances are compared.
        steps: Of full-batch gradient descent.
        momentum: Of gradient descent; it changes the pace, not the goal.
    """

    width: int = 100
    depths: tuple[int, ...] = (1, 2, 4, 8, 16)
    weight_vars: tuple[float | int, ...] = (1.0, 1.5, 2.0, 2.5, 3.0)
    seeds: int = 100
    features: int = 10
    rows: int = 8
    test_rows: int = 20
    steps: int = 500
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        least = {"width": 1, "seeds": 3, "features": 1, "rows": 1, "test_rows": 1, "steps": 1}
        check_at_least(self, least)
        check_increasing(self, "depths", "weight_vars")
        TrainingSettings(epochs=self.steps, momentum=self.momentum)


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        metrics: For each depth and sigma_w squared: the mean over test points of the ensemble's
            variance and of the theory's, before and after training; their ratio after training with
            a 95 % interval; the root mean square of the difference of means over the standard
            deviation; the median part of the loss that training leaves; the
            condition number of the training kernel.
        predictions: For each of these and test point: mean and standard deviation of the trained
            ensemble and of the theory.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return story.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    settings: Settings | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    r"""Train ensembles of finite networks, and compare their variance with the formula.

    With the kernels K (NNGP) and T (NTK) of infinite width, the outputs of networks trained to the
    end by gradient flow have, over random initial weights, the variance

        K(x, x) + T(x, X) T^{-1} K(X, X) T^{-1} T(X, x) - 2 T(x, X) T^{-1} K(X, x)

    Args:
        settings: The settings.
        out: A folder for settings and values; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Variances and their ratios.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Seleznova and Kutyniok (MSML 2021), arXiv 2012.04477; Lee et al. (2019), equation 16.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.variance.Settings(
        ...     width=16, depths=(1,), weight_vars=(2.0,), seeds=3, rows=2, steps=5)
        >>> result = ff.studies.variance.run(settings)
        >>> list(result.metrics["depth"])
        [1]
    """
    settings = settings if settings is not None else Settings()
    workspace = Workspace.open(out, "variance", settings, resume=resume, overwrite=overwrite)
    cells = [(depth, float(v)) for depth in settings.depths for v in settings.weight_vars]
    metrics, predictions = [], []
    with Steps(len(settings.weight_vars) * sum(settings.depths), progress) as steps:
        for depth, variance in cells:
            done = steps.stage(f"depth {depth}, sigma_w^2 {variance:g}", depth)
            theory = _theory(settings, depth, variance)
            draw = functools.partial(_ensemble, settings, depth, variance)
            outputs = workspace.part(f"depth-{depth}-{variance:g}", draw)
            cell = {"depth": depth, "weight_var": variance}
            metrics.append({**cell, **_scores(settings, outputs, theory)})
            predictions.append(_points_of(outputs, theory).assign(**cell))
            done(depth)
    frame, points = pd.DataFrame(metrics), pd.concat(predictions, ignore_index=True)
    workspace.save(frame, points)
    workspace.finish()
    return Result(settings, frame, points, workspace.record)


@dataclass(frozen=True, eq=False)
class _Theory:
    """Mean and standard deviation after training at the test points, variance before it."""

    mean: np.ndarray
    std: np.ndarray
    prior: np.ndarray
    condition: float


def data(settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Training points, their targets, test points.

    Args:
        settings: The settings.

    Returns:
        In float64; the same for all networks.
    """
    generator = torch.Generator().manual_seed(0)
    shape = settings.rows + settings.test_rows, settings.features
    points = torch.randn(shape, generator=generator, dtype=torch.float64)
    points = points / points.norm(dim=1, keepdim=True) * settings.features**0.5
    x, other = points[: settings.rows], points[settings.rows :]
    return x, x[:, :1].clone(), other


def _network(settings: Settings, depth: int, variance: float, seed: int) -> nn.Module:
    network = mlp(settings.features, [settings.width] * depth, 1)
    return gaussian_init_(network, variance, 0.0, torch.Generator().manual_seed(seed))


def _theory(settings: Settings, depth: int, variance: float) -> _Theory:
    x, y, other = data(settings)
    # The kernel that gradient descent on plain linear layers has: of the standard parametrisation.
    limit = infinite_width(_network(settings, depth, variance, 0), parameterization="standard")
    fit = KernelRegression(limit.ntk, prior=limit.nngp).fit(x, y)
    mean, std = fit.predict(other, return_std=True)
    return _Theory(
        mean.flatten().numpy(),
        std.flatten().numpy(),
        limit.nngp.diagonal(other).numpy(),
        float(torch.linalg.cond(limit.ntk(x))),
    )


def _ensemble(settings: Settings, depth: int, variance: float) -> pd.DataFrame:
    """A row for each network: outputs at the test points, prior outputs, the part of the loss left.

    Outputs and losses are no numbers where training diverged.
    """
    x, y, other = (tensor.float() for tensor in data(settings))
    fleet = Fleet([_network(settings, depth, variance, seed) for seed in range(settings.seeds)])
    largest = max(
        float(torch.linalg.eigvalsh(empirical_ntk(network)(x).detach().double())[-1])
        for network in fleet.networks()
    )
    prior = fleet.predict(other)[..., 0]
    # On the mean squared error each step moves outputs by rate * (2 / n) * kernel * error.
    rate = _STEP * settings.rows / (2.0 * largest)
    how = TrainingSettings(epochs=settings.steps, learning_rate=rate, momentum=settings.momentum)
    try:
        log = train(fleet, x.expand(settings.seeds, -1, -1), y.expand(settings.seeds, -1, -1), how)
        outputs, losses = fleet.predict(other)[..., 0], log.losses[-1] / log.losses[0]
    except TrainingError:
        outputs, losses = (
            torch.full_like(prior, torch.nan),
            prior.new_full((len(prior),), torch.nan),
        )
    frame = pd.DataFrame(torch.cat([outputs, prior], 1).double().numpy()).rename(columns=str)
    return frame.assign(loss=losses.double().numpy())


def _split(outputs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Trained and initial outputs: (networks, points) each."""
    table = outputs.drop(columns="loss").to_numpy()
    half = table.shape[1] // 2
    return table[:, :half], table[:, half:]


def _scores(settings: Settings, outputs: pd.DataFrame, theory: _Theory) -> dict[str, float]:
    trained, prior = _split(outputs)
    expected = float((theory.std**2).mean())
    generator = np.random.default_rng(0)
    chosen = generator.integers(settings.seeds, size=(_RESAMPLES, settings.seeds))
    # The variance of a resampled set is too small by 1 - 1 / k on average.
    resampled = trained[chosen].var(axis=1, ddof=1).mean(axis=1) / (1.0 - 1.0 / settings.seeds)
    low, high = np.percentile(resampled, [2.5, 97.5]) / expected
    measured = float(trained.var(axis=0, ddof=1).mean())
    difference = trained.mean(axis=0) - theory.mean
    return {
        "prior_measured": float(prior.var(axis=0, ddof=1).mean()),
        "prior_theory": float(theory.prior.mean()),
        "measured": measured,
        "theory": expected,
        "ratio": measured / expected,
        "low": float(low),
        "high": float(high),
        "mean_off": float(np.sqrt((difference**2).mean() / expected)),
        "loss": float(outputs["loss"].median()),
        "condition": theory.condition,
    }


def _points_of(outputs: pd.DataFrame, theory: _Theory) -> pd.DataFrame:
    trained, _ = _split(outputs)
    return pd.DataFrame(
        {
            "point": np.arange(trained.shape[1]),
            "measured_mean": trained.mean(axis=0),
            "measured_std": trained.std(axis=0, ddof=1),
            "theory_mean": theory.mean,
            "theory_std": theory.std,
        }
    )
