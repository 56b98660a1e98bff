"""More norms and placements than the paper: which choice extrapolates best, and is it shown?

"Just One Layer Norm Guarantees Stable Extrapolation" compares LayerNorm at the first, the last
and every hidden layer. Here its kind, its order with the activation, its gain, depth and width vary
too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from farfield.errors import SettingsError, TrainingError
from farfield.studies.placements import claims, story
from farfield.studies.placements.designs import LADDER, Design, crossing, ladder
from farfield.studies.placements.tasks import TASKS, Family, Task, check_tasks, load
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.statistics import scores, spread
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import check_scale, draw
from farfield.studies.shared.workspace import Workspace
from farfield.training import Fleet, TrainingSettings, train

FARTHER = 10.0
"""How many times further away than the rows out of domain the last measurement is made."""

QUICK = {
    "seeds": 2,
    "depths": (1, 2, 4),
    "widths": (32, 128, 256),
    "toy_epochs": 200,
    "table_epochs": 10,
    "table_rows": 1024,
}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the placement study.

    The full crossing of all choices would be hundreds of designs. So the
    kind, place, order and gain of the norm are crossed at one depth and width, and depth and width
    vary one at a time, for the network without norm and those with LayerNorm first and every.

    Attributes:
        seeds: Networks of each design and task, from the seeds 0, 1, ...; for the tables also the
            split.
        tasks: What is learned, of ``sine``, ``linear``, ``quadratic``, ``protein``, ``abalone``.
        depth: Hidden layers of the crossing.
        width: Units of each, also of the networks of other depths.
        depths: The hidden layers of the ladder of depths.
        widths: The units of the ladder of widths.
        activation: The activation.
        points: Training points of a function, evenly spaced.
        interval: Their first and last.
        far: Functions are asked for from there to -far and far.
        toy_epochs: Steps of Adam for functions, on the full batch.
        table_rows: A table trains on so many random rows of its training part at most, rounded
            down to whole batches.
        batch_size: Rows in a batch of a table.
        table_epochs: Passes over a table.
        learning_rate: Adam's step size, the same for all.
        weight_var: Weights are N(0, weight_var / fan_in); 2 is Kaiming's normal draw.
        bias_var: Biases are N(0, bias_var).
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
    """

    seeds: int = 6
    tasks: tuple[str, ...] = TASKS
    depth: int = 2
    width: int = 128
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    activation: str = "relu"
    points: int = 100
    interval: tuple[float, float] = (-3.0, 3.0)
    far: float = 25.0
    toy_epochs: int = 1000
    table_rows: int = 4096
    batch_size: int = 256
    table_epochs: int = 40
    learning_rate: float = 1e-3
    weight_var: float = 2.0
    bias_var: float = 0.01
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_tasks(self.tasks)
        if self.depth < 2:
            raise SettingsError(
                f"depth is {self.depth}; with fewer than 2 hidden layers the places coincide."
            )
        for name, values in (("depths", self.depths), ("widths", self.widths)):
            if len(set(values)) < 2 or min(values) < 1 or list(values) != sorted(set(values)):
                raise SettingsError(
                    f"{name} is {values}; give at least two numbers above 0, in increasing order."
                )
        check_scale(
            self.seeds,
            (self.width,) * self.depth,
            self.activation,
            self.weight_var,
            self.bias_var,
        )
        low, high = self.interval
        if self.points < 2 or not -self.far < low < high < self.far < float("inf"):
            raise SettingsError(
                f"{self.points} points from {low:g} to {high:g}, asked up to {self.far:g}: there "
                "must be 2 at least, on an increasing interval within the range asked."
            )
        if self.table_rows < 2:
            raise SettingsError(f"table_rows is {self.table_rows}; it must be at least 2.")
        TrainingSettings(self.toy_epochs, self.learning_rate)
        TrainingSettings(self.table_epochs, self.learning_rate, self.batch_size)

    def crossing(self) -> tuple[Design, ...]:
        """Every norm, place, order and gain; the base first, that without norm last."""
        return crossing(self.depth, self.width)

    def depth_ladder(self) -> dict[str, tuple[Design, ...]]:
        """By place of LayerNorm: the designs of all depths."""
        sizes = [(depth, self.width) for depth in self.depths]
        return {place: ladder(place, sizes) for place in LADDER}

    def width_ladder(self) -> dict[str, tuple[Design, ...]]:
        """By place of LayerNorm: the designs of all widths."""
        sizes = [(self.depth, width) for width in self.widths]
        return {place: ladder(place, sizes) for place in LADDER}

    def designs(self) -> tuple[Design, ...]:
        """All designs, each once."""
        ladders = (*self.depth_ladder().values(), *self.width_ladder().values())
        return tuple(dict.fromkeys([*self.crossing(), *(one for own in ladders for one in own)]))


@dataclass(frozen=True)
class Result:
    """What the placement study measured.

    Attributes:
        settings: The settings.
        metrics: For each design, task and seed: the error in and out of domain (root mean square,
            in standard deviations of the targets there; 1 is a constant's), R2 likewise, the
            largest absolute prediction out of domain and ten times further away (in standard
            deviations of the training targets), and the mean squared error of the last epoch.
        record: Settings, data, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    record: Mapping[str, object]

    @property
    def predictions(self) -> pd.DataFrame:
        """Nothing: those of all networks would fill gigabytes, so their scores alone are kept."""
        return pd.DataFrame()

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return claims.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    settings: Settings | None = None,
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Train every design on every task, all seeds at once.

    A part of the run is one design on the functions or on one table; a resumed run goes on with
    the first part that is not complete.

    Args:
        settings: The settings.
        data: A folder with the tables; see :func:`farfield.data.locate`.
        out: A folder for settings and metrics; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Metrics.

    Raises:
        DataError: A table is not there and cannot be downloaded.
        SettingsError: Settings that mean nothing, or other ones than those to resume.
        TrainingError: A loss or a prediction that is not finite.
        OutputError: The folder holds a run, or cannot be written to.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.placements.Settings(
        ...     seeds=1, tasks=("sine",), width=4, depths=(1, 2), widths=(4, 8), toy_epochs=2
        ... )
        >>> len(settings.designs())
        30
    """
    settings = settings if settings is not None else Settings()
    device = resolve_device(settings.device)
    families, tables = load(settings, data)
    workspace = Workspace.open(
        out, "placements", settings, data=tables, resume=resume, overwrite=overwrite
    )
    designs = settings.designs()
    parts = [(design, family) for design in designs for family in families]
    total = sum(_cost(design) * family.training.epochs for design, family in parts)
    frames: list[pd.DataFrame] = []
    with Steps(total, progress) as steps:
        for design, family in parts:
            cost = _cost(design)
            count = steps.stage(
                f"{design.label}, {design.depth} x {design.width}: {family.name}",
                cost * family.training.epochs,
            )

            def measure(
                design: Design = design,
                family: Family = family,
                cost: int = cost,
                count: Callable[[int], None] = count,
            ) -> pd.DataFrame:
                return _measure(
                    design, family, settings, device, lambda epochs: count(cost * epochs)
                )

            frames.append(workspace.part(f"{family.name}-{design.key}", measure))
            if family is families[-1]:
                workspace.save(pd.concat(frames, ignore_index=True), pd.DataFrame())
    workspace.finish()
    return Result(settings, pd.concat(frames, ignore_index=True), workspace.record)


def _cost(design: Design) -> int:
    """About how long a step takes: that of a small network, and what its weights add."""
    return 2 + design.width**2 * (design.depth - 1) // 10_000


def _measure(
    design: Design,
    family: Family,
    settings: Settings,
    device: torch.device,
    on_epoch: Callable[[int], None],
) -> pd.DataFrame:
    """Train one design on the tasks of a family and score it."""
    tasks, seeds = family.tasks, settings.seeds
    networks = [
        draw(
            design.variant(),
            tasks[0].x.shape[-1],
            design.hidden,
            1,
            activation=settings.activation,
            weight_var=settings.weight_var,
            bias_var=settings.bias_var,
            seed=seed,
        ).to(device)
        for _ in tasks
        for seed in range(seeds)
    ]
    fleet = Fleet(networks)
    log = train(
        fleet,
        torch.cat([task.x for task in tasks]),
        torch.cat([task.y for task in tasks]),
        family.training,
        seeds=[seed for _ in tasks for seed in range(seeds)],
        on_epoch=on_epoch,
    )

    def predict(rows: list[torch.Tensor]) -> np.ndarray:
        found: np.ndarray = fleet.predict_each(torch.cat(rows))[..., 0].cpu().double().numpy()
        if not np.isfinite(found).all():
            raise TrainingError(
                f"The network {design.label!r} predicts numbers that are not finite; lower the "
                "learning rate."
            )
        return found

    inside = predict([task.inside[0] for task in tasks])
    outside = predict([task.outside[0] for task in tasks])
    farther = predict([FARTHER * task.outside[0] for task in tasks])
    rows = []
    for index in range(fleet.size):
        task, seed = tasks[index // seeds], index % seeds
        rows.append(
            {
                "design": design.key,
                "norm": design.norm,
                "place": design.place,
                "before": design.before,
                "gain": design.gain,
                "depth": design.depth,
                "width": design.width,
                "task": task.name,
                "seed": seed,
                **_scores(task, seed, inside[index], outside[index], farther[index]),
                "train_mse": float(log.losses[-1, index]),
            }
        )
    return pd.DataFrame(rows)


def _scores(
    task: Task, seed: int, inside: np.ndarray, outside: np.ndarray, farther: np.ndarray
) -> dict[str, float]:
    found: dict[str, float] = {}
    for domain, (_, y), values in (("in", task.inside, inside), ("out", task.outside, outside)):
        target = y[seed].double().numpy()
        own = scores(target, values)
        found[f"error_{domain}"] = own["rmse"] / float(spread(target))
        found[f"r2_{domain}"] = own["r2"]
    unit = float(spread(task.y[seed, :, 0].double().numpy()))
    found["largest_out"] = float(np.abs(outside).max()) / unit
    found["largest_farther"] = float(np.abs(farther).max()) / unit
    return found
