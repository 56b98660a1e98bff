"""Nystrom's method on a million rows: time, memory, and how close it comes to the exact solution.

``make bench-million`` makes the rows with a fixed seed: rows of the protein table, drawn with
replacement, with noise of a tenth of each column's spread on the standardised features, and the
target of the row that they were drawn from. They are written to a file, of which the fit reads tile
after tile. Printed are the seconds and memory of the fit and where the time goes, beside the floor:
n m values of the kernel, n m^2 multiplications and additions to make the basis of each tile
(a triangular solve) and as many for half of the Gram matrix, at the rates of single tiles that are
measured first. Then, on the first rows, the error of the centres against the exact regression on
the same rows, both in predictions and in the score on rows that neither has seen.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import farfield as ff
from farfield.regression.centres import Basis, basis_of
from farfield.regression.sums import Sums, tile_rows

_NEW = 2000  # rows that are predicted
_BLOCK = 50_000  # rows that are made at once


def regression(ridge: float, solver: str | ff.regression.Solver) -> ff.KernelRegression:
    model = ff.mlp(9, [128, 128], 1, norm="layer", norm_at="first")
    limit = ff.infinite_width(model, weight_var=2.0, bias_var=0.01)
    return ff.KernelRegression(limit.ntk, ridge, solver=solver)


def make(table: Path, rows: int, folder: Path) -> tuple[Path, Path]:
    """The rows and their targets, in files."""
    values = pd.read_csv(table).to_numpy(dtype=float)
    y, x = values[:, :1], values[:, 1:]
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0)
    generator = np.random.default_rng(0)
    paths = folder / "x.npy", folder / "y.npy"
    files = [
        np.lib.format.open_memmap(path, "w+", float, (rows, part.shape[1]))
        for path, part in zip(paths, (x, y), strict=True)
    ]
    for start in range(0, rows, _BLOCK):
        part = slice(start, min(start + _BLOCK, rows))
        drawn = generator.integers(len(x), size=part.stop - part.start)
        noise = 0.1 * generator.standard_normal((len(drawn), x.shape[1]))
        files[0][part], files[1][part] = x[drawn] + noise, y[drawn]
    for file in files:
        file.flush()
    return paths


def seconds_of(work: Callable[[], object], repetitions: int = 3) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


class Peak:
    """The largest memory of the process, without what files are mapped to."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._done.wait(0.05):
            _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
            self.bytes = max(self.bytes, (int(resident) - int(shared)) * page)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._done.set()
        self._thread.join()


def floor(regression: ff.KernelRegression, basis: Basis, x: torch.Tensor, rows: int) -> float:
    """Seconds of the tiles' arithmetic alone, at the rates of one tile."""
    tile = x[: tile_rows(len(basis))]
    share = rows / len(tile)
    cross = regression.kernel(tile, basis.centres)
    sums = Sums.nothing(len(basis), 1)
    features = basis.features_(cross.clone())
    parts = {
        "kernel": seconds_of(lambda: regression.kernel(tile, basis.centres)),
        "basis": seconds_of(lambda: basis.features_(cross.copy_(features))),
        "Gram matrix": seconds_of(lambda: sums.add(features, tile[:, :1])),
    }
    flops = len(tile) * len(basis) ** 2
    for name, seconds in parts.items():
        rate = (
            f"{len(tile) * len(basis) / seconds / 1e6:.1f} million values/s"
            if name == "kernel"
            else f"{flops / seconds / 1e9:.1f} GFLOP/s"
        )
        print(f"  {name}: {seconds:.3f} s a tile of {len(tile)} rows, {rate}")
    return share * sum(parts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the protein table, a CSV file")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--centres", type=int, default=2000)
    parser.add_argument("--choice", default="random", help="random or pivoted")
    parser.add_argument("--ridge", type=float, default=1.0)
    parser.add_argument("--subset", type=int, default=10_000, help="rows of the exact regression")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as name:
        x, y = make(options.data, options.rows + _NEW, Path(name))
        mapped = [np.load(path, mmap_mode="r") for path in (x, y)]
        train = [part[: options.rows] for part in mapped]
        new, truth = (torch.from_numpy(np.array(part[options.rows :])) for part in mapped)
        nystrom = regression(options.ridge, ff.Nystrom(options.centres, options.choice))
        basis = basis_of(nystrom.kernel, torch.from_numpy(np.array(train[0][: options.centres])))
        sample = torch.from_numpy(np.array(train[0][: tile_rows(len(basis))]))
        least = floor(nystrom, basis, sample, options.rows)
        print(f"floor: {least:.1f} s for {options.rows:,} rows and {len(basis):,} centres")
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        with Peak() as peak:
            fit = ff.scale.fit(nystrom, *train, progress=told)
        taken = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"\nfit: {taken:.1f} s ({taken / least:.2f} of the floor), {cpu:.0f} s of processor, "
            f"{peak.bytes / 1e9:.2f} GB"
        )
        print(fit.report)
        cert = ff.certify(fit)
        print(f"|f(x)| <= {cert.bound.largest:.4g} everywhere; found {cert.worst_found.value:.4g}")
        score("all rows", fit, new, truth)
        part = [torch.from_numpy(np.array(values[: options.subset])) for values in train]
        few = nystrom.fit(*part)
        exact = regression(options.ridge, "cholesky").fit(*part)
        score(f"{options.subset:,} rows, the same number of centres", few, new, truth)
        score(f"{options.subset:,} rows, exact", exact, new, truth)
        gap = (few.predict(new) - exact.predict(new)).square().mean().sqrt()
        print(f"difference of the last two: {gap / exact.predict(new).std():.2e} of the spread")


def told(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} rows", end="", file=sys.stderr, flush=True)


def score(name: str, fit: ff.regression.KernelFit, x: torch.Tensor, y: torch.Tensor) -> None:
    left = (fit.predict(x) - y).square().mean() / (y - y.mean()).square().mean()
    print(f"{name}: R^2 {1.0 - float(left):.4f} on {len(y):,} new rows, {fit.report.seconds:.1f} s")


if __name__ == "__main__":
    main()
