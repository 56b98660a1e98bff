"""Fig. 1 of "Just One Layer Norm Guarantees Stable Extrapolation": three functions on a line.

Small networks learn a sinusoid, a line and a parabola on an interval and are asked far outside
it. With ``activation="gelu"`` or ``"silu"`` this is Fig. 5, with ``norm="batch"`` Fig. 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from farfield import files
from farfield.errors import SettingsError, UnsupportedOperation
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import NORM_NAMES, Variant, check_scale, draw, variants
from farfield.studies.shared.workspace import THEORY, Workspace
from farfield.studies.toy import claims, story, theory
from farfield.training import Fleet, TrainingSettings, train

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": torch.sin,
    "linear": lambda x: x,
    "quadratic": torch.square,
}
_GRID = 501
_WIDE = 10.0  # times the training interval, for what theory says
_WIDE_GRID = 241

QUICK = {"seeds": 3, "epochs": 300}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the toy study; the defaults are the paper's where it states them.

    Attributes:
        seeds: Networks of each kind, drawn from the seeds 0, 1, ...
        norm: ``"layer"`` (Fig. 1), ``"batch"`` (Fig. 6) or ``"rms"``.
        activation: ``"relu"`` (Fig. 1), ``"gelu"`` or ``"silu"`` (Fig. 5), or another name.
        hidden: Hidden widths.
        epochs: Steps of Adam on the full batch.
        learning_rate: Adam's step size.
        points: Training points, evenly spaced. Not stated in the paper: their placement.
        interval: Ends of the training interval. Not stated in the paper.
        noise_std: Standard deviation of Gaussian noise on the targets. Not stated in the paper.
        far: Predictions are made from -far to far. Not stated in the paper.
        weight_var: Weights are N(0, weight_var / fan_in); 2 is Kaiming's normal draw.
        bias_var: Biases are N(0, bias_var).
        overlays: Whether to compute what theory says: the exact prediction of infinite width, its
            limits and bound, and certificates of trained networks.
        certified: How many seeds of each kind are certified, if so.
        ridge: Added to the exact kernel matrix where that is singular.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
    """

    seeds: int = 5
    norm: str = "layer"
    activation: str = "relu"
    hidden: tuple[int, ...] = (128, 128)
    epochs: int = 3000
    learning_rate: float = 1e-3
    points: int = 100
    interval: tuple[float, float] = (-3.0, 3.0)
    noise_std: float = 0.0
    far: float = 25.0
    weight_var: float = 2.0
    bias_var: float = 0.01
    overlays: bool = True
    certified: int = 1
    ridge: float = 1e-4
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_scale(self.seeds, self.hidden, self.activation, self.weight_var, self.bias_var)
        if self.norm not in NORM_NAMES:
            raise SettingsError(
                f"The norm {self.norm!r} is unknown; choose one of {', '.join(NORM_NAMES)}."
            )
        if self.points < 2:
            raise SettingsError(f"points is {self.points}; it must be at least 2.")
        if not 0.0 < self.far < float("inf"):
            raise SettingsError(f"far is {self.far}; it must be finite and above 0.")
        low, high = self.interval
        if not -self.far <= low < high <= self.far:
            raise SettingsError(
                f"The training interval from {low:g} to {high:g} must be increasing and lie "
                f"within the range of predictions, from {-self.far:g} to {self.far:g}."
            )
        if not 0.0 <= self.noise_std < float("inf"):
            raise SettingsError(f"noise_std is {self.noise_std}; it must be 0 or more.")
        if not 0 <= self.certified <= self.seeds:
            raise SettingsError(
                f"certified is {self.certified}; it must be from 0 to the number of seeds, "
                f"{self.seeds}."
            )
        if not 0.0 < self.ridge < float("inf"):
            raise SettingsError(f"ridge is {self.ridge}; it must be finite and above 0.")
        self.training()

    def training(self) -> TrainingSettings:
        """How each network is trained."""
        return TrainingSettings(self.epochs, self.learning_rate)


@dataclass(frozen=True)
class Result:
    """What the toy study measured.

    Attributes:
        settings: The settings.
        metrics: For each function, variant and seed: the final training loss, the predictions at
            -far, -far/2, far/2 and far, and the largest absolute prediction between.
        predictions: For each function, variant and seed: x and prediction on a grid.
        theory: What theory says of each function and variant (``theory.csv``): quantity, seed,
            x, value; empty without overlays. See :mod:`farfield.studies.toy.theory`.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    theory: pd.DataFrame
    record: Mapping[str, object]

    def summary(self) -> pd.DataFrame:
        """|f(far)| for each function (row) and variant (column), mean and interval over seeds."""
        frame = self.metrics.assign(size=self.metrics["at_far"].abs())
        labels = {variant.key: variant.label for variant in self.compared()}
        table = frame.pivot_table(
            index="function",
            columns="variant",
            values="size",
            aggfunc=lambda values: str(mean(values)),
            sort=False,
        )
        return table[list(labels)].rename(columns=labels)

    def growth(self) -> pd.DataFrame:
        """How much the prediction still changes far away, by function (row) and variant (column).

        The larger of ``|f(far) - f(far/2)|`` and ``|f(-far) - f(-far/2)|``, divided by the range
        of the training targets; median over seeds. A network that has settled has 0, one that
        goes on like a line through the training interval has (far/2) / (length of the interval).
        """
        spread = {name: float(np.ptp(y)) for name, (_, y) in self.training_points().items()}
        frame = self.metrics
        change = np.maximum(
            (frame["at_far"] - frame["at_half_far"]).abs(),
            (frame["at_minus_far"] - frame["at_minus_half_far"]).abs(),
        )
        table = (
            frame.assign(change=change / frame["function"].map(spread))
            .groupby(["function", "variant"], sort=False)["change"]
            .median()
            .unstack()
        )
        labels = {variant.key: variant.label for variant in self.compared()}
        return table[list(labels)].rename(columns=labels)

    def compared(self) -> tuple[Variant, ...]:
        """The networks compared, in order."""
        return _variants(self.settings)

    def training_points(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Inputs and the first seed's targets of each function."""
        x, targets = _data(self.settings)
        return {name: (x.numpy()[:, 0], y[0].numpy()[:, 0]) for name, y in targets.items()}

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
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
    """Train all networks of the toy study and predict far outside the training interval.

    The standard network and one with the norm at the first, the last and every hidden layer,
    each for three functions and several seeds; all networks of a variant train at once.

    Args:
        settings: The settings; the paper's by default.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Metrics and predictions.

    Raises:
        SettingsError: Settings that mean nothing, or other ones than those to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), section 4.1 and Figures 1, 5 and 6.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.toy.Settings(seeds=1, epochs=5, hidden=(8, 8))
        >>> result = ff.studies.toy.run(settings)
        >>> sorted(result.metrics["function"].unique())
        ['linear', 'quadratic', 'sine']
    """
    settings = settings if settings is not None else Settings()
    device = resolve_device(settings.device)
    compared = _variants(settings)
    workspace = Workspace.open(out, "toy", settings, resume=resume, overwrite=overwrite)
    x, targets = _data(settings)
    grid = torch.linspace(-settings.far, settings.far, _GRID)[:, None]
    probe = settings.far * torch.tensor([[-1.0], [-0.5], [0.5], [1.0]])
    members = [(name, seed) for name in FUNCTIONS for seed in range(settings.seeds)]
    y = torch.stack([targets[name][seed] for name, seed in members])
    metrics, predictions = pd.DataFrame(), pd.DataFrame()
    told = [pd.DataFrame(columns=theory.COLUMNS)]
    with Steps(settings.epochs * len(compared), progress) as steps:
        for variant in compared:
            fleet = Fleet([_draw(settings, variant, seed).to(device) for _, seed in members])
            log = train(
                fleet,
                x.expand(fleet.size, *x.shape),
                y,
                settings.training(),
                checkpoint=workspace.checkpoint(variant.key),
                on_epoch=steps.stage(f"{variant.label}: {fleet.size} networks", settings.epochs),
            )
            on_grid = fleet.predict(grid).cpu().numpy()[:, :, 0]
            at_probe = fleet.predict(probe).cpu().numpy()[:, :, 0]
            losses = log.losses[-1].cpu().numpy()
            metrics = pd.concat([metrics, _metrics(variant, members, losses, at_probe, on_grid)])
            predictions = pd.concat(
                [predictions, _predictions(variant, members, grid.numpy()[:, 0], on_grid)]
            )
            workspace.save(metrics, predictions)
            if settings.overlays:
                told += _theory(settings, variant, fleet, members, workspace)
    said = pd.concat([frame for frame in told if len(frame)] or told, ignore_index=True)
    if workspace.folder is not None:
        files.write_text(workspace.folder / THEORY, said.to_csv(index=False))
    workspace.finish()
    return Result(
        settings,
        metrics.reset_index(drop=True),
        predictions.reset_index(drop=True),
        said,
        workspace.record,
    )


def _theory(
    settings: Settings,
    variant: Variant,
    fleet: Fleet,
    members: list[tuple[str, int]],
    workspace: Workspace,
) -> list[pd.DataFrame]:
    """What theory says of one variant, beside its trained networks on the same wide grid."""
    end = _WIDE * max(map(abs, settings.interval))
    grid = torch.linspace(-end, end, _WIDE_GRID)[:, None]
    x, targets = _data(settings)
    networks = dict(zip(members, fleet.networks(), strict=True))
    chosen = {key: one for key, one in networks.items() if key[1] < settings.certified}

    def exact() -> pd.DataFrame:
        own = {name: y[0] for name, y in targets.items()}
        network = _draw(settings, variant, 0)
        try:
            return theory.exact(network, variant.key, x, own, grid, settings.ridge)
        except UnsupportedOperation:  # BatchNorm has no such limit
            return pd.DataFrame(columns=theory.COLUMNS)

    return [
        theory.trained(fleet.predict(grid).cpu()[:, :, 0], grid, members, variant.key),
        workspace.part(f"exact-{variant.key}", exact),
        workspace.part(f"proven-{variant.key}", lambda: theory.proven(chosen, variant.key)),
    ]


def _variants(settings: Settings) -> tuple[Variant, ...]:
    return variants(settings.norm, len(settings.hidden))


def _draw(settings: Settings, variant: Variant, seed: int) -> torch.nn.Module:
    return draw(
        variant,
        1,
        settings.hidden,
        1,
        activation=settings.activation,
        weight_var=settings.weight_var,
        bias_var=settings.bias_var,
        seed=seed,
    )


def _data(settings: Settings) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """Training inputs (points, 1), and for each function the targets of each seed."""
    x = torch.linspace(*settings.interval, settings.points)[:, None]
    targets: dict[str, list[Tensor]] = {}
    for index, (name, function) in enumerate(FUNCTIONS.items()):
        targets[name] = []
        for seed in range(settings.seeds):
            generator = torch.Generator().manual_seed(1_000_000 * (index + 1) + seed)
            noise = torch.randn(x.shape, generator=generator)
            targets[name].append(function(x) + settings.noise_std * noise)
    return x, targets


def _metrics(
    variant: Variant,
    members: list[tuple[str, int]],
    losses: np.ndarray,
    at_probe: np.ndarray,
    on_grid: np.ndarray,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "function": [name for name, _ in members],
            "variant": variant.key,
            "seed": [seed for _, seed in members],
            "train_mse": losses,
            "at_minus_far": at_probe[:, 0],
            "at_minus_half_far": at_probe[:, 1],
            "at_half_far": at_probe[:, 2],
            "at_far": at_probe[:, 3],
            "max_abs_prediction": np.abs(on_grid).max(axis=1),
        }
    )


def _predictions(
    variant: Variant, members: list[tuple[str, int]], grid: np.ndarray, on_grid: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "function": np.repeat([name for name, _ in members], len(grid)),
            "variant": variant.key,
            "seed": np.repeat([seed for _, seed in members], len(grid)),
            "x": np.tile(grid, len(members)),
            "prediction": on_grid.ravel(),
        }
    )
