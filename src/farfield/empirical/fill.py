"""Kernels of many samples, block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from farfield.destination import Output
from farfield.empirical.engine import Engine, Size
from farfield.empirical.memory import block_side
from farfield.empirical.plan import SAMPLES
from farfield.empirical.streams import Stream
from farfield.errors import SettingsError


def fill(
    engine: Engine, first: Stream, second: Stream | None, outs: Mapping[str, Output] | None
) -> dict[str, Tensor]:
    """All kernels between two streams of samples.

    Args:
        engine: Computes blocks.
        first: The rows.
        second: The columns; the rows when ``None``.
        outs: Where to write each kernel.

    Returns:
        Name of a kernel -> matrix.

    Raises:
        SettingsError: A place that a kernel does not fit into, or no samples.
    """
    other = first if second is None else second
    n1, n2 = len(first), len(other)
    side, start = _start(engine, first, other)
    shape = engine.mode.shape(n1, n2, start.outputs)
    given = _known(outs, engine)
    targets = {name: _target(out, shape, start.like) for name, out in given.items()}
    if second is None and side >= n1:
        for _, inputs in first.blocks(side):
            left = engine.gradients(inputs)
            return _placed(targets, engine.tile(left, left))
    for name in engine.groups:
        if name not in targets:
            targets[name] = torch.empty(shape, dtype=start.like.dtype, device=start.like.device)
    kept = None
    for rows, inputs in first.blocks(side):
        left = engine.gradients(inputs)
        if second is None:
            _write(targets, engine.tile(left, left), rows, rows)
            for columns, more in first.blocks(side, rows.stop):
                tiles = engine.tile(left, engine.gradients(more))
                _write(targets, tiles, rows, columns)
                _write(targets, {n: _mirrored(t, engine) for n, t in tiles.items()}, columns, rows)
            continue
        for columns, more in other.blocks(side):
            right = kept or engine.gradients(more)
            kept = right if n2 <= side else None
            _write(targets, engine.tile(left, right), rows, columns)
    return targets


def diagonals(engine: Engine, data: Stream) -> dict[str, Tensor]:
    """The kernels of every sample with itself.

    Args:
        engine: Computes blocks.
        data: The samples.

    Returns:
        Name of a kernel -> (n,), or (n, o) for ``diagonal``, or (n, o, o) for ``full``.
    """
    side, _ = _start(engine, data, data)
    parts = [engine.own(engine.gradients(inputs)) for _, inputs in data.blocks(side)]
    return {name: torch.cat([part[name] for part in parts]) for name in engine.groups}


def _start(engine: Engine, first: Stream, other: Stream) -> tuple[int, Size]:
    """The number of samples of a block, and what the kernel is made of."""
    for _, inputs in first.blocks(SAMPLES):
        size = engine.size(inputs)
        longest = max(len(first), len(other))
        return block_side(size.need, engine.budget, longest), size
    raise SettingsError("There are no inputs; a kernel needs at least one.")


def _write(
    targets: Mapping[str, Tensor], tiles: Mapping[str, Tensor], rows: slice, columns: slice
) -> None:
    for name, tile in tiles.items():
        if tile.ndim == 4:
            targets[name][rows, :, columns] = tile
        else:
            targets[name][rows, columns] = tile


def _mirrored(tile: Tensor, engine: Engine) -> Tensor:
    """The tile of exchanged rows and columns."""
    return tile.permute(2, 3, 0, 1) if engine.mode.kind == "full" else tile.transpose(0, 1)


def _placed(targets: dict[str, Tensor], tiles: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels that are a single tile: the tiles themselves where there is no place for them."""
    for name, tile in tiles.items():
        if name in targets:
            targets[name].copy_(tile)
        else:
            targets[name] = tile.contiguous()
    return targets


def _target(out: Output, shape: tuple[int, ...], like: Tensor) -> Tensor:
    if isinstance(out, np.ndarray):
        fit = out.flags.writeable and out.dtype.isnative and min(out.strides, default=0) >= 0
        if not fit or out.dtype.kind != "f":
            raise SettingsError(
                f"out is an array of {out.dtype} that is "
                f"{'' if out.flags.writeable else 'not '}writable, with strides {out.strides}; it "
                "must be writable (a memory map of mode 'r+' or 'w+'), of real numbers in the "
                "machine's byte order, with no negative stride."
            )
        target = torch.from_numpy(out)
    elif not isinstance(out, Tensor):
        raise SettingsError(
            f"out is of type {type(out).__name__}; give a tensor or a NumPy array, and with by=... "
            "a mapping from names to such."
        )
    elif out.requires_grad or out.device.type != like.device.type or 0 in _steps(out):
        raise SettingsError(
            "out needs a gradient, is on another device than the model, or has several entries at "
            "one place in memory; give a plain tensor, such as of torch.empty."
        )
    else:
        target = out
    if target.shape != shape or target.dtype != like.dtype:
        raise SettingsError(
            f"out has shape {tuple(target.shape)} and dtype {target.dtype}; it must have "
            f"{shape} and {like.dtype}, as the kernel has."
        )
    return target


def _steps(tensor: Tensor) -> list[int]:
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


def _known(outs: Mapping[str, Output] | None, engine: Engine) -> Mapping[str, Output]:
    """Where to write which kernel."""
    if outs is None:
        return {}
    if not isinstance(outs, Mapping):
        raise SettingsError(
            f"out is of type {type(outs).__name__}; with by=... it must be a mapping from names of "
            "kernels to where to write each."
        )
    unknown = [name for name in outs if name not in engine.groups]
    if unknown:
        raise SettingsError(
            f"out names {unknown[0]!r}, which is no kernel; those are "
            f"{', '.join(map(repr, engine.groups))}."
        )
    if len({id(out) for out in outs.values()}) < len(outs):
        raise SettingsError("out has the same place for two kernels; each needs its own.")
    return outs
