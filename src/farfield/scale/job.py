"""What a stored kernel is: whether two runs compute the same matrix."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield.errors import SettingsError
from farfield.kernel import Kernel
from farfield.scale.rows import Rows

KEY = "farfield"
"""Under which the attributes of a store hold the description of its job."""

SAME = "the same as x1"
"""What stands for the second inputs of a symmetric matrix."""

_STORED = (torch.float64, torch.float32, torch.float16)
_PROBES = 8  # rows whose kernel values are remembered
_AGREEING = {"float64": 1e-9, "float32": 1e-3}  # relative to the largest: other machines round


@dataclass(frozen=True)
class Job:
    """A matrix of kernel values, tile by tile.

    Attributes:
        kernel: The kernel.
        rows: Its first inputs.
        columns: Its second inputs; the same object for the symmetric matrix.
        side: Rows and columns of a tile.
        device: Where tiles are computed, if not where the inputs are.
    """

    kernel: Kernel
    rows: Rows
    columns: Rows
    side: int
    device: str | None = None

    @property
    def symmetric(self) -> bool:
        """Whether both sides are the same inputs."""
        return self.rows is self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return len(self.rows), len(self.columns)

    def places(self) -> list[tuple[int, int]]:
        """The tiles to compute, by their row and column in tiles: half of a symmetric matrix."""
        high, wide = (-(-size // self.side) for size in self.shape)
        return [(i, j) for i in range(high) for j in range(i if self.symmetric else 0, wide)]

    def span(self, place: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of a tile."""
        row, column = (
            slice(k * self.side, min((k + 1) * self.side, size))
            for k, size in zip(place, self.shape, strict=True)
        )
        return row, column

    @torch.no_grad()
    def tile(self, place: tuple[int, int]) -> np.ndarray:
        """The values of one tile."""
        rows, columns = self.span(place)
        first = self._inputs(self.rows, rows)
        same = self.symmetric and rows == columns
        values = self.kernel(first, None if same else self._inputs(self.columns, columns))
        result: np.ndarray = values.cpu().numpy()
        return result

    def _inputs(self, source: Rows, rows: slice) -> Tensor:
        block = source.read(rows)
        return block if self.device is None else block.to(self.device)

    def description(self) -> dict[str, Any]:
        """What a store remembers of the job, in JSON's terms."""
        values = self._probe()
        described = {
            **self.kernel.origin,
            "x1": self.rows.description,
            "x2": SAME if self.symmetric else self.columns.description,
            "tile": self.side,
            "dtype": str(values.dtype),
            "versions": {
                name: importlib.metadata.version(name) for name in ("farfield", "torch", "numpy")
            },
        }
        return {"job": described, "probe": values.astype(float).tolist()}

    def _probe(self) -> np.ndarray:
        """The kernel of a few rows, spread over all of them."""
        chosen = [
            torch.cat([source.read(slice(k, k + 1)) for k in _spread(len(source))])
            for source in (self.rows, self.columns)
        ]
        if self.device is not None and is_here(self.device):  # else only workers have it
            chosen = [rows.to(self.device) for rows in chosen]
        with torch.no_grad():
            values = self.kernel(chosen[0], chosen[1])
        if values.ndim != 2:
            raise SettingsError(
                f"The kernel gives arrays of shape {tuple(values.shape)}; a store holds one number "
                'for each pair of inputs, such as an empirical kernel with outputs="mean".'
            )
        if values.dtype not in _STORED:
            raise SettingsError(
                f"The kernel gives {values.dtype}, which a store cannot hold; give "
                "dtype=torch.float32 or torch.float64."
            )
        result: np.ndarray = values.cpu().numpy()
        return result


def is_here(device: str) -> bool:
    """Whether this process can compute on a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # what PyTorch raises for devices it was built without
        return False
    return True


def _spread(size: int) -> list[int]:
    return sorted({int(k) for k in np.linspace(0, size - 1, min(_PROBES, size))})


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """How the job of a store differs from another: nothing, if they compute the same matrix.

    Args:
        old: The description in the store.
        new: That of the job at hand.

    Returns:
        One phrase for each difference.
    """
    before, after = _flat(old.get("job")), _flat(new.get("job"))
    found = [
        f"{name} is {_short(after.get(name))} and was {_short(before.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if not found:
        first, second = np.asarray(old.get("probe")), np.asarray(new.get("probe"))
        allowed = _AGREEING.get(str(after.get("dtype")), 0.1)
        scale = np.abs(second).max(initial=0.0)
        if first.shape != second.shape or np.abs(first - second).max(initial=0.0) > allowed * scale:
            found.append("the kernel has other values for the same inputs")
    return found


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = (_flat(part, f"{name}.{key}".strip(".")) for key, part in value.items())
    return {key: part for flat in parts for key, part in flat.items()}


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
