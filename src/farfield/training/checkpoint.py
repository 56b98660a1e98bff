"""Progress of a training on disk, from which it goes on to the same bits."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from farfield import files
from farfield.errors import DataError
from farfield.training.fleet import Fleet

# What torch.load and the look into its result raise for a file that is no checkpoint.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    pickle.PickleError,
)


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often to keep a fleet's progress.

    Attributes:
        path: The file; training goes on from there if it exists.
        every_seconds: Time between two saves; the end of training is always saved.
    """

    path: Path
    every_seconds: float = 5.0


@dataclass
class State:
    """All that training needs to go on, besides the fleet: saving and loading loses no bit.

    Attributes:
        epoch: Epochs done.
        optimizer: Adam with its moments, or gradient descent with its momentum.
        losses: The loss of each network (column) in each epoch (row); those not done are 0. One
            tensor from the start: small ones kept from each step would scatter over the heap,
            which then grows with every step.
    """

    epoch: int
    optimizer: torch.optim.Optimizer
    losses: Tensor


def fingerprint(fleet: Fleet, x: Tensor, y: Tensor, settings: object, seeds: list[int]) -> str:
    """Tell whether a checkpoint belongs to this start, these data and these settings.

    Args:
        fleet: The networks before training.
        x: Their inputs.
        y: Their targets.
        settings: How they are trained, a data class.
        seeds: The seeds of their batches.

    Returns:
        A checksum of all of these.
    """
    digest = hashlib.sha256(repr((settings, seeds)).encode())
    for tensor in [*fleet.parameters.values(), *fleet.buffers.values(), x, y]:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        for member in tensor:  # one by one: data that all share are expanded, and stay small
            digest.update(member.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, fleet: Fleet, state: State, mark: str) -> None:
    """Write a checkpoint, complete or not at all.

    Args:
        path: The file.
        fleet: The networks.
        state: The rest.
        mark: The fingerprint of this training.

    Raises:
        OutputError: It cannot be written.
    """
    content = io.BytesIO()
    torch.save(
        {
            "mark": mark,
            "epoch": state.epoch,
            "losses": state.losses[: state.epoch],
            "parameters": fleet.parameters,
            "buffers": fleet.buffers,
            "optimizer": state.optimizer.state_dict(),
        },
        content,
    )
    files.write_bytes(path, content.getvalue())


def load(path: Path, fleet: Fleet, state: State, mark: str) -> None:
    """Read a checkpoint into a fleet and its state.

    Args:
        path: The file.
        fleet: The networks, changed in place.
        state: The rest, changed in place.
        mark: The fingerprint that the checkpoint must have.

    Raises:
        DataError: It cannot be read, or belongs to another training.
    """
    try:
        saved = torch.load(path, map_location=fleet.device, weights_only=True)
        found = saved["mark"]
    except _UNREADABLE as error:
        raise DataError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); delete it to train "
            "these networks from the start."
        ) from error
    if found != mark:
        raise DataError(
            f"The checkpoint {path} belongs to other data, settings or initial weights; start "
            "again in another folder, or delete it."
        )
    for name, tensor in {**fleet.parameters, **fleet.buffers}.items():
        own = saved["parameters"] if name in fleet.parameters else saved["buffers"]
        tensor.copy_(own[name])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.epoch = saved["epoch"]
    state.losses[: state.epoch] = saved["losses"]
