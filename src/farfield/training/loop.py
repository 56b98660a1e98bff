"""Train a fleet: batched Adam or gradient descent on squared errors, resumable at any epoch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.errors import SettingsError, TrainingError
from farfield.training import checkpoint as checkpoints
from farfield.training.checkpoint import Checkpoint, State
from farfield.training.fleet import Fleet
from farfield.training.step import Step


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults are those of the protein experiment.

    Attributes:
        epochs: Passes over the data.
        learning_rate: The step size.
        batch_size: Rows in a batch; ``None`` takes all rows (full batch).
        momentum: ``None`` trains by Adam; a number by gradient descent with this momentum, by
            which linear models tend to the same solution as by gradient flow.
    """

    epochs: int = 2500
    learning_rate: float = 1e-3
    batch_size: int | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.epochs < 1:
            raise SettingsError(f"epochs is {self.epochs}; it must be at least 1.")
        if not 0.0 < self.learning_rate < float("inf"):
            raise SettingsError(
                f"learning_rate is {self.learning_rate}; it must be finite and above 0."
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError(
                f"batch_size is {self.batch_size}; it must be at least 1, or None for all rows."
            )
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            raise SettingsError(
                f"momentum is {self.momentum}; it must be from 0 to below 1, or None for Adam."
            )


@dataclass(frozen=True)
class TrainingLog:
    """What training a fleet gave besides the networks.

    Attributes:
        losses: Mean squared error of each network (column) over each epoch (row), as met
            during the epoch, that is before its last step.
    """

    losses: Float[Tensor, "epochs k"]


def train(
    fleet: Fleet,
    x: Float[Tensor, "k n *features"],
    y: Float[Tensor, "k n *outputs"],
    settings: TrainingSettings,
    *,
    seeds: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> TrainingLog:
    """Train every network of a fleet on its own data, in place.

    Minimises, for each network on its own, the mean over rows and outputs of
    ``(f(x) - y)**2`` by Adam with PyTorch's other defaults, or by gradient descent with momentum.
    The numbers are those of training each network alone with ``torch.optim.Adam`` or
    ``torch.optim.SGD`` from the same weights on the same batches, up to rounding.
    Full batches run in tiles of rows that fit the cache, whose gradients add up; with BatchNorm,
    which couples the rows, a batch is one tile.

    Args:
        fleet: The networks.
        x: Inputs, one set for each network.
        y: Targets.
        settings: Epochs, step size, batch size.
        seeds: One seed for each network, from which its batches are drawn (see
            :func:`batch_rows`); 0, 1, 2, ... by default. Unused with full batches.
        checkpoint: Where to keep progress; an existing file is read and training goes on from
            it, to the same numbers as without the interruption.
        on_epoch: Called after every epoch with the number of epochs done, also once at the
            start when a checkpoint has been read.

    Returns:
        The loss of each network over the epochs.

    Raises:
        SettingsError: Data whose shape does not suit the fleet.
        TrainingError: A loss that is not finite.
        DataError: A checkpoint that cannot be read or belongs to other settings or data.
        OutputError: A checkpoint that cannot be written.

    Example:
        >>> import torch, farfield as ff
        >>> x = torch.linspace(-1, 1, 20)[:, None].expand(2, 20, 1)
        >>> networks = [ff.gaussian_init_(ff.mlp(1, [32], 1)) for _ in range(2)]
        >>> fleet = ff.training.Fleet(networks)
        >>> settings = ff.training.TrainingSettings(epochs=200, learning_rate=1e-2)
        >>> log = ff.training.train(fleet, x, x**2, settings)
        >>> bool((log.losses[-1] < log.losses[0]).all())
        True
    """
    seeds = list(range(fleet.size)) if seeds is None else list(seeds)
    _check(fleet, x, y, seeds)
    x, y = (tensor.to(fleet.device, fleet.dtype) for tensor in (x, y))
    for tensor in fleet.parameters.values():
        tensor.requires_grad_(False)
    optimizer = _optimizer(settings, list(fleet.parameters.values()))
    state = State(0, optimizer, x.new_zeros(settings.epochs, fleet.size))
    mark = checkpoints.fingerprint(fleet, x, y, settings, seeds) if checkpoint is not None else ""
    if checkpoint is not None and checkpoint.path.exists():
        checkpoints.load(checkpoint.path, fleet, state, mark)
        if on_epoch is not None:
            on_epoch(state.epoch)
    _keep_freed_memory()
    step = Step(fleet, optimizer)
    saved = time.monotonic()
    while state.epoch < settings.epochs:
        state.losses[state.epoch] = _epoch(step, x, y, settings, seeds, state.epoch)
        state.epoch += 1
        if on_epoch is not None:
            on_epoch(state.epoch)
        last = state.epoch == settings.epochs
        if last or (checkpoint is not None and time.monotonic() - saved > checkpoint.every_seconds):
            _check_finite(fleet, state)
            if checkpoint is not None:
                checkpoints.save(checkpoint.path, fleet, state, mark)
            saved = time.monotonic()
    return TrainingLog(state.losses)


def batch_rows(seed: int, epoch: int, rows: int, batch_size: int) -> list[Int[Tensor, " batch"]]:
    """The batches of one network in one epoch: a random permutation, cut into pieces.

    They depend on nothing but these arguments, so that training can go on from any epoch.

    Args:
        seed: The network's seed.
        epoch: The epoch, from 0.
        rows: Number of rows of the data.
        batch_size: Rows in a batch; the last one may be smaller.

    Returns:
        Row indices of each batch.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return list(torch.randperm(rows, generator=generator).split(batch_size))


def _optimizer(settings: TrainingSettings, parameters: list[Tensor]) -> torch.optim.Optimizer:
    rate = settings.learning_rate
    if settings.momentum is None:
        return torch.optim.Adam(parameters, lr=rate, fused=True)
    return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, fused=True)


def _keep_freed_memory() -> None:
    # Without this, glibc hands the memory of each step back to the system and asks for it again,
    # page by page, in the next one (a quarter of the time of the protein study). Freeing a block
    # just below its largest threshold of 32 MB makes it keep up to 64 MB; the block itself is
    # never touched. Other allocators take no notice.
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _epoch(
    step: Step,
    x: Tensor,
    y: Tensor,
    settings: TrainingSettings,
    seeds: list[int],
    epoch: int,
) -> Tensor:
    """One pass over the data; the mean squared error of each network."""
    rows = x.shape[1]
    if settings.batch_size is None or settings.batch_size >= rows:
        return step(x, y) / y[0].numel()
    errors = x.new_zeros(len(seeds))
    plans = [batch_rows(seed, epoch, rows, settings.batch_size) for seed in seeds]
    members = torch.arange(len(seeds), device=x.device)[:, None]
    for batches in zip(*plans, strict=True):
        chosen = torch.stack(batches).to(x.device)
        errors += step(x[members, chosen], y[members, chosen])
    return errors / y[0].numel()


def _check(fleet: Fleet, x: Tensor, y: Tensor, seeds: list[int]) -> None:
    if x.dim() < 2 or y.dim() < 2 or x.shape[0] != fleet.size or x.shape[:2] != y.shape[:2]:
        raise SettingsError(
            f"Inputs {tuple(x.shape)} and targets {tuple(y.shape)} do not suit a fleet of "
            f"{fleet.size}: both must begin with ({fleet.size}, rows)."
        )
    if x.shape[1] == 0:
        raise SettingsError("There are no rows to train on.")
    if len(seeds) != fleet.size:
        raise SettingsError(f"{len(seeds)} seeds were given for {fleet.size} networks.")
    with torch.no_grad():
        one_row = x[:, :1].to(fleet.device, fleet.dtype)
        outputs = fleet.forward(fleet.parameters, fleet.buffers, one_row)
    if outputs.shape[2:] != y.shape[2:]:
        raise SettingsError(
            f"The networks give outputs of shape {tuple(outputs.shape[2:])} for each row, but "
            f"the targets have {tuple(y.shape[2:])}."
        )


def _check_finite(fleet: Fleet, state: State) -> None:
    finite = torch.isfinite(state.losses[state.epoch - 1])
    for tensor in fleet.parameters.values():  # the loss was met before the last step
        finite = finite & torch.isfinite(tensor).flatten(1).all(1)
    if not bool(finite.all()):
        network = int(torch.nonzero(~finite)[0])
        raise TrainingError(
            f"The loss or a weight of network {network} is not finite after {state.epoch} epochs; "
            "lower the learning rate, or look at the scale of inputs and targets."
        )
