"""Kernel matrices as the solvers want them: float64 numbers on the CPU, from checked inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import DataError, SettingsError
from farfield.kernel import Kernel

TILE_BYTES = 128 * 2**20
"""Bytes that the kernel between some new inputs and all training points may take."""

_BLOCK = 2048  # rows that are computed at once in another dtype


def check_points(x: Tensor, y: Tensor) -> Tensor:
    """The targets as (n, outputs) in float64, on the CPU.

    Raises:
        SettingsError: No points, or another number of targets than of inputs.
        DataError: A target is NaN or infinite.
    """
    _check_tensor(y, "targets")
    if len(x) == 0:
        raise SettingsError("There are no training points; at least one is needed.")
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise SettingsError(
            f"The targets have shape {tuple(y.shape)} for {len(x)} inputs; they must have shape "
            f"({len(x)},) or ({len(x)}, outputs)."
        )
    if y.is_complex():
        raise SettingsError("The targets are complex; they must be real numbers.")
    targets = y.detach().to("cpu", torch.float64).reshape(len(y), -1)
    if targets.shape[1] == 0:
        raise SettingsError("The targets have no column; at least one is needed.")
    bad = int((~targets.isfinite()).sum())
    if bad:
        raise DataError(
            f"{bad} of the {targets.numel()} target values are NaN or infinite; remove or fill "
            "those rows."
        )
    return targets


def check_inputs(x: Tensor, train: Tensor | None = None) -> None:
    """Refuse inputs that cannot be computed with, before anything is.

    Args:
        x: Inputs.
        train: Training inputs, whose features new ones must have.

    Raises:
        SettingsError: Not a batch of real, finite numbers, or other features than in training.
    """
    _check_tensor(x, "inputs")
    if train is not None and x.shape[1:] != train.shape[1:]:
        raise SettingsError(
            f"The new inputs have shape {tuple(x.shape)}; with the features of the training "
            f"inputs it must be (m, {', '.join(map(str, train.shape[1:]))})."
        )
    if x.ndim < 2 or x.is_complex():
        raise SettingsError(
            f"The inputs have shape {tuple(x.shape)} and dtype {x.dtype}; they must be real and "
            "have shape (n, features), one row for each point (x[:, None] for a single feature)."
        )
    bad = int((~x.isfinite()).sum())
    if bad:
        raise SettingsError(
            f"{bad} of the {x.numel()} numbers of the inputs are NaN or infinite; remove or fill "
            "those rows."
        )


def _check_tensor(values: object, name: str) -> None:
    """Refuse arrays and lists with a sentence."""
    if not isinstance(values, Tensor):
        raise SettingsError(
            f"The {name} are a {type(values).__name__}; they must be a torch.Tensor "
            "(torch.as_tensor(values))."
        )


def train_matrix(kernel: Kernel, x: Tensor, dtype: torch.dtype) -> Float[np.ndarray, "n n"]:
    """``kernel(x, x)`` in float64, in C's order: one matrix, and nothing else of its size."""
    with torch.no_grad():
        if dtype == torch.float64:
            return kernel(x).cpu().numpy()
        matrix = np.empty((len(x), len(x)))
        for start in range(0, len(x), _BLOCK):
            rows = slice(start, start + _BLOCK)
            # From the diagonal on, and its mirror image: symmetric to the bit.
            values = cross_matrix(kernel, x[rows], x[start:])
            matrix[rows, start:] = values
            matrix[start:, rows] = values.T
            own = kernel(x[rows]).cpu().double().numpy()
            matrix[rows, rows] = own
        return matrix


def cross_matrix(kernel: Kernel, x1: Tensor, x2: Tensor) -> np.ndarray:
    """``kernel(x1, x2)`` in float64."""
    with torch.no_grad():
        values: np.ndarray = kernel(x1, x2).cpu().double().numpy()
        return values


def diagonal_of(kernel: Kernel, x: Tensor) -> np.ndarray:
    """``kernel.diagonal(x)`` in float64."""
    with torch.no_grad():
        values: np.ndarray = kernel.diagonal(x).cpu().double().numpy()
        return values


def tiles(x: Tensor, train: int) -> Iterator[slice]:
    """Ranges of new inputs whose kernel with all training points fits in ``TILE_BYTES``."""
    side = max(1, TILE_BYTES // (8 * max(train, 1)))
    for start in range(0, len(x), side):
        yield slice(start, start + side)
