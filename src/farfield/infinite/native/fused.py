"""A program that the compiled library runs, one tile at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from farfield.infinite.angles import Directions
from farfield.infinite.native import library
from farfield.infinite.native.lowering import Lowered, lower
from farfield.infinite.pairs import Program, Vectors


def fuse(program: Program) -> Fused | None:
    """The compiled form of a program.

    Args:
        program: Any program.

    Returns:
        ``None`` where PyTorch must run it: something in it is not known to the library, has
        positions, needs gradients or is not float64 on a CPU; or there is no compiler.
    """
    lowered = lower(program)
    if lowered is None or library.load() is None:
        return None
    return Fused(lowered)


class Fused:
    """A program as steps of the compiled library.

    Args:
        lowered: The steps and what they work on.
    """

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered
        self._steps = (library.Step * len(lowered.steps))(*lowered.steps)
        self._inputs = [_contiguous(directions) for directions in lowered.inputs]
        self._own = threading.local()

    def run(
        self, rows: slice, columns: slice, tiles: Sequence[Tensor], mirrors: Sequence[Tensor]
    ) -> None:
        """Compute one tile of each kernel.

        Args:
            rows: Rows of the tile.
            columns: Its columns.
            tiles: Where to write, one float64 matrix for each kernel with contiguous rows.
            mirrors: Where to write the transposed tiles, likewise; empty if nowhere.
        """
        run = library.load()
        assert run is not None
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        cosines = [directions.tile(rows, columns).cosine() for directions in self._inputs]
        outputs = (library.Output * len(tiles))()
        for number, tile in enumerate(tiles):
            outputs[number].values, outputs[number].stride = tile.data_ptr(), tile.stride(0)
        for number, mirror in enumerate(mirrors):
            outputs[number].mirror = mirror.data_ptr()
            outputs[number].mirror_stride = mirror.stride(0)
        run.run(
            self._steps, len(self._steps), self._tile_inputs(cosines), outputs, len(tiles),
            library.coefficients().ctypes.data, *self._scratch(wide, len(tiles)),
            rows.start, tall, columns.start, wide,
        )  # fmt: skip

    def values(self, rows: slice, columns: slice) -> list[Tensor]:
        """The tile of each kernel, (rows, columns)."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        tiles = [torch.empty(shape, dtype=torch.float64) for _ in range(self._lowered.outputs)]
        self.run(rows, columns, tiles, [])
        return tiles

    def _scratch(self, wide: int, outputs: int) -> tuple[int, int]:
        """Addresses of this thread's registers, and of the rows that are written together."""
        sizes = (self._lowered.registers * wide, outputs * library.GROUP * wide)
        scratch: Tensor | None = getattr(self._own, "scratch", None)
        if scratch is None or scratch.numel() < sum(sizes):
            scratch = self._own.scratch = torch.empty(sum(sizes), dtype=torch.float64)
        return scratch.data_ptr(), scratch[sizes[0] :].data_ptr()

    def _tile_inputs(self, cosines: Sequence[Tensor]) -> Any:
        inputs = (library.Input * len(cosines))()
        for place, directions, cosine in zip(inputs, self._inputs, cosines, strict=True):
            place.cosine = cosine.data_ptr()
            for name in ("shrunk", "unit", "scale", "norm"):
                vectors = getattr(directions, name)
                setattr(place, f"left_{name}", vectors.left.data_ptr())
                setattr(place, f"right_{name}", vectors.right.data_ptr())
            place.features = directions.unit.left.shape[-1]
        return inputs


def _contiguous(directions: Directions) -> Directions:
    parts = (directions.shrunk, directions.scale, directions.norm, directions.unit)
    return Directions(*(Vectors.of(part, Tensor.contiguous) for part in parts))
