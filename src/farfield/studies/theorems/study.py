"""The theorems of "Just One Layer Norm Guarantees Stable Extrapolation" as experiments.

Each theorem is computed where it can be: on the exact kernels of infinite width, on predictors
fitted with them, and for proposition 3.4 on a trained network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from farfield.errors import SettingsError
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace
from farfield.studies.theorems import bounds, bypass, constants, growth, story
from farfield.training import TrainingSettings

_ACTIVATIONS = ("relu", "gelu", "silu", "tanh")

QUICK = {"depth": 3, "points": (5, 10, 20), "epochs": 500, "activations": ("relu", "gelu")}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the theorems' experiments; the paper has none of them.

    Attributes:
        depth: Theorem 3.2 is shown for 1 to this number of hidden layers.
        points: Theorem 3.3 is shown for training sets of these sizes, increasing.
        hidden: Hidden widths of the network of proposition 3.4, two or more.
        epochs: Steps of Adam for the network of proposition 3.4.
        channels: eps of proposition 3.4, decreasing: the constant channels are 1 / eps and
            -1 / eps.
        activations: Of the section on activations: relu, gelu, silu or tanh.
    """

    depth: int = 6
    points: tuple[int, ...] = (5, 10, 20, 40, 80)
    hidden: tuple[int, ...] = (32, 32)
    epochs: int = 2000
    channels: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
    activations: tuple[str, ...] = _ACTIVATIONS

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.depth < 1:
            raise SettingsError(f"depth is {self.depth}; it must be at least 1.")
        if not self.points or self.points[0] < 2 or list(self.points) != sorted(set(self.points)):
            raise SettingsError(f"points are {self.points}; they must increase from 2 or more.")
        falling = sorted(set(self.channels), reverse=True)
        if not falling or falling != list(self.channels) or not 0.0 < falling[-1] <= 1.0:
            raise SettingsError(
                f"channels are {self.channels}; they must decrease and lie between 0 and 1."
            )
        if len(self.hidden) < 2 or min(self.hidden) < 1:
            raise SettingsError(f"hidden is {self.hidden}; give two or more widths above 0.")
        unknown = sorted(set(self.activations) - set(_ACTIVATIONS))
        if unknown or set(self.activations) <= {"tanh"}:
            raise SettingsError(
                f"activations are {self.activations}; choose of {', '.join(_ACTIVATIONS)}, at "
                "least one of them other than tanh."
            )
        TrainingSettings(self.epochs, 1e-2)


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        metrics: item (the theorem), case, quantity, value.
        predictions: item, case, x, value of f: curves of theorem 3.1 and proposition 3.4.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def of(self, item: str) -> pd.DataFrame:
        """All numbers of an item.

        Args:
            item: Its name, as in ``metrics``.

        Returns:
            Numbers and curves.
        """
        everything = pd.concat([self.metrics, self.predictions])
        return everything[everything["item"] == item]

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return (
            *growth.claims(self.of(growth.ITEM)),
            *constants.claims_largest(self.of(constants.LARGEST)),
            *bounds.claims(self.of(bounds.ITEM)),
            *constants.claims_constant(self.of(constants.CONSTANT)),
            *constants.claims_activations(self.of(constants.ACTIVATIONS)),
            *bypass.claims(self.of(bypass.ITEM)),
        )

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
    """Compute what each theorem says.

    Args:
        settings: The settings.
        out: A folder for settings and numbers; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        The numbers.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), sections 3 and C.

    Example:
        >>> import farfield as ff
        >>> small = ff.studies.theorems.Settings(1, (3,), (4, 4), 2, (0.1,), ("relu",))
        >>> result = ff.studies.theorems.run(small)
        >>> result.claims()[0].item, result.claims()[0].agrees
        ('Theorem 3.1', True)
    """
    settings = settings if settings is not None else Settings()
    workspace = Workspace.open(out, "theorems", settings, resume=resume, overwrite=overwrite)
    parts: dict[str, Callable[[], pd.DataFrame]] = {
        growth.ITEM: growth.measure,
        constants.LARGEST: lambda: constants.measure_largest(settings.depth),
        bounds.ITEM: lambda: bounds.measure(settings.points),
        constants.CONSTANT: constants.measure_constant,
        constants.ACTIVATIONS: lambda: constants.measure_activations(settings.activations),
        bypass.ITEM: lambda: bypass.measure(settings.hidden, settings.epochs, settings.channels),
    }
    found: list[pd.DataFrame] = []
    with Steps(len(parts), progress) as steps:
        for item, measure in parts.items():
            done = steps.stage(item, 1)
            found.append(workspace.part(item, measure))
            done(1)
            metrics, curves = _split(pd.concat(found, ignore_index=True))
            workspace.save(metrics, curves)
    workspace.finish()
    return Result(settings, metrics, curves, workspace.record)


def _split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    scalar = frame["x"].isna()
    return frame[scalar].reset_index(drop=True), frame[~scalar].reset_index(drop=True)
