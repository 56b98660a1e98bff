"""A program that the compiled library runs, one tile at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

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

    Attributes:
        longest_side: Rows and columns of a tile that is worth a call of its own.
    """

    longest_side = 512

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered
        self._steps = (library.Step * len(lowered.steps))(*lowered.steps)
        self._alive = [_contiguous(directions) for directions in lowered.inputs]
        self._inputs = [_input(directions) for directions in self._alive]
        self._units = [(part.unit.left, part.unit.right.mT) for part in self._alive]
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
        registers, groups, cosines = self._scratch(tall, wide, len(tiles))
        inputs = (library.Input * len(self._inputs))(*self._inputs)
        for place, (left, right), cosine in zip(inputs, self._units, cosines, strict=True):
            torch.mm(left[rows], right[:, columns], out=cosine)
            place.cosine = cosine.data_ptr()
        outputs = (library.Output * len(tiles))()
        for number, tile in enumerate(tiles):
            outputs[number].values, outputs[number].stride = tile.data_ptr(), tile.stride(0)
        for number, mirror in enumerate(mirrors):
            outputs[number].mirror = mirror.data_ptr()
            outputs[number].mirror_stride = mirror.stride(0)
        run.run(
            self._steps, len(self._steps), inputs, outputs, len(tiles),
            library.coefficients().ctypes.data, registers, groups, rows.start, tall,
            columns.start, wide,
        )  # fmt: skip

    def values(self, rows: slice, columns: slice) -> list[Tensor]:
        """The tile of each kernel, (rows, columns)."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        tiles = [torch.empty(shape, dtype=torch.float64) for _ in range(self._lowered.outputs)]
        self.run(rows, columns, tiles, [])
        return tiles

    def _scratch(self, tall: int, wide: int, outputs: int) -> tuple[int, int, list[Tensor]]:
        """This thread's registers, the rows that are written together, and cosines of a tile.

        Memory is kept from tile to tile: a fresh page costs more than what is computed in it.
        """
        registers = self._lowered.registers * library.STRIP
        groups = outputs * library.GROUP * library.PITCH
        size = registers + groups + len(self._inputs) * tall * wide
        scratch: Tensor | None = getattr(self._own, "scratch", None)
        if scratch is None or scratch.numel() < size:
            scratch = self._own.scratch = torch.empty(size, dtype=torch.float64)
        cosines = scratch[registers + groups : size].view(len(self._inputs), tall, wide)
        return scratch.data_ptr(), scratch[registers:].data_ptr(), list(cosines)


def _input(directions: Directions) -> library.Input:
    """The vectors as the library knows them; the cosines are another matter for each tile."""
    place = library.Input(features=directions.unit.left.shape[-1])
    for name in ("shrunk", "unit", "scale", "norm"):
        vectors = getattr(directions, name)
        setattr(place, f"left_{name}", vectors.left.data_ptr())
        setattr(place, f"right_{name}", vectors.right.data_ptr())
    return place


def _contiguous(directions: Directions) -> Directions:
    parts = (directions.shrunk, directions.scale, directions.norm, directions.unit)
    return Directions(*(Vectors.of(part, Tensor.contiguous) for part in parts))
