"""The tangent kernel of deep networks while they train: Seleznova and Kutyniok (2021, 2022).

Whether it stays what it was, and whether it learns which inputs belong together, on each side of
the edge of chaos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from farfield.data.digits import Digits, balanced, load_digits
from farfield.empirical import empirical_ntk
from farfield.errors import DataError, SettingsError
from farfield.networks import gaussian_init_, mlp
from farfield.studies.dynamics import story
from farfield.studies.shared.checks import check_at_least, check_increasing
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace
from farfield.training import Checkpoint, Fleet, TrainingSettings, train

CLASSES = 10
SCORES = ("loss", "accuracy", "accuracy_other")

QUICK = {"epochs": 100, "rows": 500}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the training study; the defaults are the paper's where it states them.

    Attributes:
        width: M, the width of all hidden layers.
        depth: L, the hidden layers.
        weight_vars: sigma_w squared of the networks; biases start at 0.
        epochs: Steps of full-batch Adam; 3000 in the paper, which end within an hour.
        learning_rate: Adam's.
        rows: Images trained on, as many of each digit. The paper's 60,000 take 60 times as long.
        per_class: Of these, the images of each digit on which the kernel is computed.
        seed: Of the initial weights, which differ by their scale alone, and of the choice of
            images.
        device: Where to train.
    """

    width: int = 300
    depth: int = 20
    weight_vars: tuple[float | int, ...] = (1.0, 2.0, 2.2)
    epochs: int = 2000
    learning_rate: float = 1e-4
    rows: int = 1000
    per_class: int = 10
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_at_least(self, {"width": 1, "depth": 1, "per_class": 1})
        check_increasing(self, "weight_vars")
        TrainingSettings(epochs=self.epochs, learning_rate=self.learning_rate)
        if self.rows % CLASSES or self.rows < CLASSES * self.per_class:
            raise SettingsError(
                f"rows is {self.rows}; give a multiple of {CLASSES} from "
                f"{CLASSES * self.per_class} on (per_class is {self.per_class})."
            )

    def measured(self) -> tuple[int, ...]:
        """The epochs after which the kernel is computed: 0, 1, 10, 20, 50, 100, 200, 300, ..."""
        early = [epoch for epoch in (0, 1, 10, 20, 50) if epoch < self.epochs]
        return (*early, *range(100, self.epochs, 100), self.epochs)

    def shown(self) -> tuple[int, ...]:
        """The epochs of the heat-maps: those of the paper, as far as there are."""
        return tuple(sorted({min(epoch, self.epochs) for epoch in (0, 100, 500, 2000)}))


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        metrics: For each sigma_w squared and epoch: mean squared error and accuracy on the
            training images, accuracy on others, ``|K_t - K_0| / |K_0|`` in Frobenius norms, and the
            mean of the blocks of the same class and of others over the mean of the diagonal.
        predictions: The kernels of the epochs shown: sigma_w squared, epoch, row, column, value;
            ten rows of each digit one behind the other.
        record: Settings, data, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def claims(self) -> tuple[Claim, ...]:
        """The papers' claims beside what was found."""
        return story.claims(self)

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
    """Train one deep network of each variance on digits, and follow its tangent kernel.

    The kernel is the inner product of the gradients of all parameters, summed over the ten outputs.

    Args:
        settings: The settings.
        data: MNIST, as of :func:`farfield.data.digits.load_digits`; scikit-learn's digits by
            default.
        out: A folder for settings, weights and kernels; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Losses, accuracies and kernels.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        DataError: The images cannot be read, or are too few.
        OutputError: The folder holds a run, or cannot be written to.
        TrainingError: A loss that is not finite.

    Source: Seleznova and Kutyniok (ICML 2022), arXiv 2202.00553, section 4.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.dynamics.Settings(
        ...     width=8, depth=2, epochs=2, rows=20, per_class=2, device="cpu")
        >>> result = ff.studies.dynamics.run(settings)
        >>> sorted(result.metrics["epoch"].unique().tolist())
        [0, 1, 2]
    """
    settings = settings if settings is not None else Settings()
    device = resolve_device(settings.device)
    digits = load_digits(data)
    split = _Split.of(settings, digits)
    workspace = Workspace.open(
        out,
        "dynamics",
        settings,
        data={"source": digits.source, "sha256": digits.digest, "images": len(digits.labels)},
        resume=resume,
        overwrite=overwrite,
    )
    count = len(settings.weight_vars)
    fleet = Fleet([_network(settings, v, digits).to(device) for v in settings.weight_vars])
    kept: dict[int, pd.DataFrame] = {}

    with Steps(settings.epochs, progress) as steps:
        done = steps.stage(f"{count} networks", settings.epochs)

        def measure(epoch: int) -> None:
            if epoch in settings.measured() and epoch not in kept:
                kept[epoch] = workspace.part(f"epoch-{epoch}", lambda: _measured(fleet, split))
            done(epoch)

        measure(0)
        train(
            fleet,
            split.x.expand(count, -1, -1),
            split.y.expand(count, -1, -1),
            TrainingSettings(epochs=settings.epochs, learning_rate=settings.learning_rate),
            checkpoint=_seldom(workspace.checkpoint("networks")),
            on_epoch=measure,
        )
    for epoch in settings.measured():  # those of an earlier run
        if epoch not in kept:
            kept[epoch] = workspace.part(f"epoch-{epoch}", _gone)
    metrics = _metrics(settings, kept)
    predictions = pd.concat([_kernels(settings, epoch, kept[epoch]) for epoch in settings.shown()])
    predictions = predictions.reset_index(drop=True)
    workspace.save(metrics, predictions)
    workspace.finish()
    return Result(settings, metrics, predictions, workspace.record)


def _seldom(checkpoint: Checkpoint | None) -> Checkpoint | None:
    """Deep networks with Adam's moments are tens of megabytes; at most once a minute is enough."""
    return None if checkpoint is None else replace(checkpoint, every_seconds=60.0)


@dataclass(frozen=True, eq=False)
class _Split:
    """Images to train on with one-hot targets, those of the kernel, and all others."""

    x: Tensor
    y: Tensor
    probe: Tensor
    labels: Tensor
    other_x: Tensor
    other_labels: Tensor

    @classmethod
    def of(cls, settings: Settings, digits: Digits) -> _Split:
        generator = np.random.default_rng(settings.seed)
        rows = balanced(digits.labels, settings.rows // CLASSES, generator)
        others = np.setdiff1d(np.arange(len(digits.labels)), rows)
        images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
        x, own = images[rows], labels[rows]
        probe = torch.cat([x[own == digit][: settings.per_class] for digit in range(CLASSES)])
        y = nn.functional.one_hot(own, CLASSES).to(x)
        return cls(x, y, probe, own, images[others], labels[others])


def _network(settings: Settings, weight_var: float | int, digits: Digits) -> nn.Module:
    network = mlp(digits.images.shape[1], [settings.width] * settings.depth, CLASSES)
    generator = torch.Generator().manual_seed(settings.seed)
    return gaussian_init_(network, float(weight_var), 0.0, generator)


def _measured(fleet: Fleet, split: _Split) -> pd.DataFrame:
    """Kernels of all networks, one behind the other, and their scores in further columns."""
    kernels = [
        CLASSES * empirical_ntk(network)(split.probe.to(fleet.device)).cpu().double()
        for network in fleet.networks()
    ]
    frame = pd.DataFrame(torch.cat(kernels).numpy()).rename(columns=str)
    outputs = fleet.predict(split.x).cpu()
    scores = {
        "loss": (outputs - split.y).square().mean((1, 2)),
        "accuracy": _accuracy(outputs, split.labels),
        "accuracy_other": _accuracy(fleet.predict(split.other_x).cpu(), split.other_labels),
    }
    rows = len(split.probe)
    return frame.assign(
        **{n: t.double().repeat_interleave(rows).numpy() for n, t in scores.items()}
    )


def _accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Of each network; not a number without images."""
    return (outputs.argmax(-1) == labels).double().mean(1)


def _gone() -> pd.DataFrame:
    raise DataError(
        "The kernels of an earlier epoch are no longer in the folder; start again with --overwrite."
    )


def _matrices(settings: Settings, frame: pd.DataFrame) -> np.ndarray:
    """The kernels of one epoch: (variances, n, n)."""
    size = CLASSES * settings.per_class
    table = frame[[str(column) for column in range(size)]].to_numpy()
    return table.reshape(len(settings.weight_vars), size, size)


def _metrics(settings: Settings, kept: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    first = _matrices(settings, kept[0])
    size = CLASSES * settings.per_class
    digit = np.arange(size) // settings.per_class
    same = digit[:, None] == digit
    rows = []
    for epoch in settings.measured():
        frame = kept[epoch]
        for number, (variance, kernel) in enumerate(
            zip(settings.weight_vars, _matrices(settings, frame), strict=True)
        ):
            start = first[number]
            diagonal = kernel.diagonal().mean()
            rows.append(
                {
                    "weight_var": float(variance),
                    "epoch": epoch,
                    **{name: frame[name][number * size] for name in SCORES},
                    "change": np.linalg.norm(kernel - start) / np.linalg.norm(start),
                    "diagonal": diagonal,
                    "same_class": kernel[same].mean() / diagonal,
                    "other_class": kernel[~same].mean() / diagonal,
                }
            )
    return pd.DataFrame(rows)


def _kernels(settings: Settings, epoch: int, frame: pd.DataFrame) -> pd.DataFrame:
    size = CLASSES * settings.per_class
    row, column = np.divmod(np.arange(size * size), size)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "weight_var": float(variance),
                    "epoch": epoch,
                    "row": row,
                    "column": column,
                    "value": kernel.flatten(),
                }
            )
            for variance, kernel in zip(
                settings.weight_vars, _matrices(settings, frame), strict=True
            )
        ]
    )
