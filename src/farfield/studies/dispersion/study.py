"""Dispersion of the tangent kernel over random networks: Seleznova and Kutyniok (ICML 2022).

How random the kernel is at initialisation, as the networks get deeper and their weights larger;
beside it, what the papers leave open: other angles, sigmoids in three phases, LayerNorm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from farfield.errors import SettingsError
from farfield.studies.dispersion import claims, story
from farfield.studies.dispersion import draws as draws
from farfield.studies.dispersion.bootstrap import dispersion
from farfield.studies.shared.checks import check_at_least, check_increasing
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace
from farfield.theory import dispersion as theory

QUICK = {"draws": 1000, "further_draws": 200}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the dispersion study; the defaults are the paper's where it states them.

    Attributes:
        width: M, the width of all hidden layers and the number of inputs.
        depths: Networks have 1, 2, ..., depths hidden layers; the paper's end below M / 2.
        weight_vars: sigma_w squared, increasing; weights are N(0, sigma_w^2 / fan_in), biases 0.
        draws: Networks, each with weights and inputs of its own. The paper draws 500 for each of
            its 16 values of sigma_w squared; ReLU networks are homogeneous, so that a network gives
            the kernels of all values, and as many in all serve every value.
        further_draws: How many of these are also asked for other angles; and the number of sigmoid
            networks for each variance.
        cosines: Of the angles between x and x', decreasing from 1.
        shown_depths: Depths at which other angles are kept.
        sigmoid_vars: sigma_w squared of the sigmoid networks. Their values are not stated.
        resamples: Of the bootstrap.
        seed: Of all draws.
    """

    width: int = 100
    depths: int = 49
    weight_vars: tuple[float | int, ...] = (
        *(0.5, 0.8, 1.0, 1.2, 1.4, 1.5, 1.6, 1.7),
        *(1.8, 1.9, 2.0, 2.1, 2.2, 2.5, 3.0, 3.5),
    )
    draws: int = 8000
    further_draws: int = 1000
    cosines: tuple[float, ...] = tuple(round(1.0 - 0.1 * step, 1) for step in range(11))
    shown_depths: tuple[int, ...] = (5, 10, 20, 30, 40, 49)
    sigmoid_vars: tuple[float | int, ...] = (1.0, 16.0, 64.0, 128.0, 256.0)
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_at_least(self, {"width": 2, "depths": 1, "further_draws": 2, "resamples": 2})
        check_increasing(self, "weight_vars", "sigmoid_vars")
        if self.draws < self.further_draws:
            raise SettingsError(
                f"draws is {self.draws} and further_draws {self.further_draws}; the further ones "
                "are some of the draws, so give at least as many draws."
            )
        if self.cosines[:1] != (1.0,) or not all(-1.0 <= r <= 1.0 for r in self.cosines):
            raise SettingsError(
                f"cosines is {self.cosines}; give numbers from -1 to 1, the first one 1."
            )
        if not self.shown_depths or not all(1 <= d <= self.depths for d in self.shown_depths):
            raise SettingsError(
                f"shown_depths is {self.shown_depths}; give depths from 1 to {self.depths}."
            )

    def phases(self) -> tuple[float, ...]:
        """The values of sigma_w squared nearest to 1, 2 and 2.5: ordered, critical, chaotic."""
        found = [float(_nearest(self.weight_vars, at)) for at in (1.0, 2.0, 2.5)]
        return tuple(dict.fromkeys(found))


def _nearest(values: tuple[float | int, ...], wanted: float) -> float | int:
    return min(values, key=lambda value: abs(value - wanted))


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        metrics: For each network (``relu``; ``angles``, some of the same; ``first``, ``last``,
            ``every``, the place of LayerNorm; ``sigmoid``), counted gradients (``all`` or
            ``weights``; the latter's dispersion is the same for every sigma_w, which stands as
            0), sigma_w squared, depth and cosine:
            the mean of Theta, its dispersion E[T^2] / E[T]^2 with the ends of a 95 % interval and
            its standard deviation by the bootstrap, the median of log T, the part of the
            largest draw in the sum of T^2; and, of ReLU networks at cosine 1, the theory: ``exact``
            at this depth and width, ``limit`` and ``published``.
        predictions: Theta(x, x) of every ReLU network of the greatest depth, for one sigma_w
            squared of each phase.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def claims(self) -> tuple[Claim, ...]:
        """The papers' claims beside what was found."""
        return claims.claims(self)

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
    """Draw networks of every depth and variance, and see how much their kernels differ.

    All draws of a depth are run at once, all depths in one pass
    (:mod:`farfield.studies.dispersion.kernels`), and all variances follow from one.

    Args:
        settings: The settings; the paper's by default.
        out: A folder for settings and values; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Dispersions, with theory beside them.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Seleznova and Kutyniok (ICML 2022), arXiv 2202.00553.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.dispersion.Settings(
        ...     width=8, depths=3, draws=20, further_draws=4, shown_depths=(3,), resamples=10)
        >>> result = ff.studies.dispersion.run(settings)
        >>> bool((result.metrics["dispersion"] >= 1).all())
        True
    """
    settings = settings if settings is not None else Settings()
    workspace = Workspace.open(out, "dispersion", settings, resume=resume, overwrite=overwrite)
    blocks, further = (
        len(draws.blocks(count)) for count in (settings.draws, settings.further_draws)
    )
    with Steps(4 * blocks + 2 * further, progress) as steps:

        def collected(name: str, draw: Callable[[int], pd.DataFrame], count: int) -> pd.DataFrame:
            done = steps.stage(name, len(draws.blocks(count)))
            parts = []
            for block in draws.blocks(count):
                parts.append(workspace.part(f"{name}-{block}", functools.partial(draw, block)))
                done(block + 1)
            return pd.concat(parts, ignore_index=True)

        relu = collected(
            "relu", functools.partial(draws.networks_of_relu, settings), settings.draws
        )
        metrics = [_by_depth(settings, "relu", relu)]
        angles = functools.partial(draws.networks_at_angles, settings)
        metrics.append(_by_angle(settings, collected("angles", angles, settings.further_draws)))
        for place in ("first", "last", "every"):
            normed = functools.partial(draws.networks_with_norm, settings, norm_at=place)
            metrics.append(_by_depth(settings, place, collected(place, normed, settings.draws)))
        sigmoid = functools.partial(draws.networks_of_sigmoid, settings)
        kernels = collected("sigmoid", sigmoid, settings.further_draws)
        metrics.append(_by_depth(settings, "sigmoid", kernels))
    frame = _with_theory(settings, pd.concat(metrics, ignore_index=True))
    deepest = relu.iloc[settings.depths - 1 :: settings.depths]
    shown = deepest[[f"{variance:g}" for variance in settings.phases()]].reset_index(drop=True)
    workspace.save(frame, shown)
    workspace.finish()
    return Result(settings, frame, shown, workspace.record)


def _by_depth(settings: Settings, network: str, kernels: pd.DataFrame) -> pd.DataFrame:
    """Statistics of Theta(x, x) for each column and depth."""
    rows = [
        pd.DataFrame(
            {
                "network": network,
                "counted": "weights" if name == "weights" else "all",
                "weight_var": 0.0 if name == "weights" else float(str(name)),
                "depth": np.arange(1, settings.depths + 1),
                "cosine": 1.0,
                **_statistics(settings, kernels[name], settings.depths),
            }
        )
        for name in kernels
    ]
    return pd.concat(rows)


def _by_angle(settings: Settings, kernels: pd.DataFrame) -> pd.DataFrame:
    """Statistics of Theta(x, x') for each column, shown depth and cosine below 1."""
    cosines, depths = np.array(settings.cosines), np.array(settings.shown_depths)
    rows = [
        pd.DataFrame(
            {
                "network": "relu",
                "counted": "all",
                "weight_var": float(str(name)),
                "depth": depths.repeat(len(cosines)),
                "cosine": np.tile(cosines, len(depths)),
                **_statistics(settings, kernels[name], len(cosines) * len(depths)),
            }
        )
        for name in kernels
    ]
    found = pd.concat(rows)
    return found.assign(network="angles")


def _statistics(settings: Settings, kernels: pd.Series, cells: int) -> dict[str, np.ndarray | int]:
    table = kernels.to_numpy(dtype=float).reshape(-1, cells)
    found = dispersion(table, settings.resamples, settings.seed)
    return {
        "draws": len(table),
        "mean": found.mean,
        "dispersion": found.ratio,
        "low": found.low,
        "high": found.high,
        "error": found.error,
        "median_log": found.median_log,
        "largest": found.largest,
    }


def _with_theory(settings: Settings, metrics: pd.DataFrame) -> pd.DataFrame:
    """Columns exact, limit and published, where there is a theory: ReLU without norm, cosine 1."""
    known = metrics[metrics["network"] == "relu"]
    found = {method: np.full(len(metrics), np.nan) for method in ("exact", "limit", "published")}
    cells = zip(known.index, known["depth"], known["weight_var"], known["counted"], strict=True)
    for place, depth, variance, counted in cells:
        of_any = float(variance) or 2.0  # of weights alone, any will do
        for method, column in found.items():
            column[place] = theory(
                int(depth), settings.width, of_any, counted == "all", method=method
            )
    return metrics.assign(**found)
