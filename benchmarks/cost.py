"""What kernels and solves of any size cost, by rates that are measured here on one tile.

``make cost`` measures, on one thread, how fast a tile of the kernel is computed, written and read
with its checksum, multiplied with vectors, and taken into the sums of Nystrom's method; and prints
what these rates mean for 40,131 (the protein table), a million and five million rows: tiles, bytes,
hours of one worker, and what goes over the network when the store is not where the workers are.
Arithmetic is counted in processor time, so that other programs do not count; writing and reading in
wall time, with the page cache of the operating system (``--disk`` gives another rate in MB/s, such
as that of a network drive).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import farfield as ff
from farfield.regression.centres import basis_of
from farfield.regression.sums import Sums

_SIZES = (40_131, 1_000_000, 5_000_000)
_BYTES = 8  # of a number in float64


@dataclass(frozen=True)
class Rates:
    """Of one worker with one thread.

    Attributes:
        values: Kernel values per second.
        written: Bytes per second into a store, checksum and mirror image included.
        read: Bytes per second out of a store, checksum included.
        products: Multiplications and additions per second of a tile with vectors.
        sums: Multiplications and additions per second of Nystrom's basis and Gram matrix.
    """

    values: float
    written: float
    read: float
    products: float
    sums: float


def best(work: Callable[[], object], clock: Callable[[], float], repetitions: int) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def measured(
    kernel: ff.Kernel, tile: int, centres: int, targets: int, disk: float | None, repetitions: int
) -> Rates:
    x = torch.randn(tile, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = x.flip(0).contiguous()
    values = kernel(x, y)  # once before, so that no compiler counts
    rows = columns = slice(0, tile)
    vectors = np.ones((tile, targets))
    with tempfile.TemporaryDirectory() as name:
        stored = ff.scale.compute(kernel, x, y, Path(name) / "k.zarr", tile=tile)
        array = values.numpy()

        def write() -> None:
            stored.write(rows, columns, array)

        size = _BYTES * tile**2
        written = disk or size / best(write, time.perf_counter, repetitions)
        read = disk or size / best(
            lambda: stored.read(rows, columns), time.perf_counter, repetitions
        )
    z = torch.randn(centres, 9, dtype=torch.float64)
    basis = basis_of(kernel, z)
    sums = Sums.nothing(len(basis), 1)
    cross = kernel(x, basis.centres)

    def add() -> None:
        sums.add(basis.features_(cross), x[:, :1])

    cpu = time.process_time
    return Rates(
        tile**2 / best(lambda: kernel(x, y), cpu, repetitions),
        written,
        read,
        tile**2 * targets / best(lambda: array @ vectors, cpu, repetitions),
        2 * tile * len(basis) ** 2 / best(add, cpu, repetitions),
    )


def report(rates: Rates, rows: int, tile: int, centres: int, targets: int, steps: int) -> None:
    side = -(-rows // tile)
    half = rows * (rows + 1) / 2
    whole = _BYTES * rows**2
    hour = 3600.0
    products = rows**2 * targets / rates.products
    recomputed = steps * (half / rates.values + products)
    streamed = steps * (whole / 2 / rates.read + products)
    nystrom = rows * centres / rates.values + 2 * rows * centres**2 / rates.sums
    print(f"\n{rows:,} rows")
    print(f"  tiles of {tile} x {tile}: {side * (side + 1) // 2:,} to compute, {side**2:,} files")
    print(f"  store: {whole / 1e12:,.3g} TB, all of which goes to it over the network once")
    print(
        f"  computing it: {half / rates.values / hour:,.3g} worker-hours of arithmetic and "
        f"{whole / rates.written / hour:,.3g} of writing"
    )
    print(
        f"  conjugate gradients, {steps} steps, {targets} targets: from the store "
        f"{streamed / hour:,.3g} worker-hours and {steps * whole / 2 / 1e12:,.3g} TB read; "
        f"recomputed {recomputed / hour:,.3g} worker-hours and nothing read"
    )
    print(
        f"  Nystrom, {centres} centres: {nystrom / hour:,.3g} worker-hours, "
        f"{3 * _BYTES * centres**2 / 1e9:,.3g} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--centres", type=int, default=2000)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100, help="of conjugate gradients")
    parser.add_argument("--disk", type=float, help="MB/s of the store, instead of the measured")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ff.mlp(9, [128, 128], 1, norm="layer", norm_at="first")
    kernel = ff.infinite_width(model, weight_var=2.0, bias_var=0.01).ntk
    disk = options.disk and 1e6 * options.disk
    rates = measured(
        kernel, options.tile, options.centres, options.targets, disk, options.repetitions
    )
    print(
        f"one worker with one thread: {rates.values / 1e6:.1f} million values/s; store written at "
        f"{rates.written / 1e6:.0f} MB/s and read at {rates.read / 1e6:.0f} MB/s; products "
        f"{2 * rates.products / 1e9:.2f} GFLOP/s; Nystrom's sums {rates.sums / 1e9:.1f} GFLOP/s"
    )
    even = rates.values * _BYTES / 1e6
    print(
        "reading a value costs as much as computing it at "
        f"{even:.0f} MB/s for each worker; a slower store loses against computing again"
    )
    for rows in _SIZES:
        report(rates, rows, options.tile, options.centres, options.targets, options.steps)


if __name__ == "__main__":
    main()
