"""Tiles on one worker process against two: the ratio of speed, and the time beside arithmetic.

``make bench-workers`` computes the same kernel with ``ff.scale.compute`` on a LocalCluster of one
and of two processes with one thread each, in alternation, each time into a new store. The workers
have computed a small kernel before, so that imports and compilers do not count. A tile's time is
told apart: arithmetic (the values of the kernel); the rest of its task (reading rows, the mirror
image, checksums, writing); and the time that a worker has no task. Processor time of the arithmetic
stands beside its wall time: where it is less, other programs had the processors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from distributed import Client, LocalCluster, get_task_stream

import farfield as ff
from farfield.destination import Output
from farfield.kernel import Kernel


class Timed(Kernel):
    """A kernel that writes down how long each of its matrices took."""

    def __init__(self, inner: Kernel, log: Path) -> None:
        self._prepare = inner.prepare
        self.memory_budget = inner.memory_budget
        self.log = log

    def __call__(
        self, x1: torch.Tensor, x2: torch.Tensor | None = None, out: Output | None = None
    ) -> torch.Tensor:
        wall, processor = time.perf_counter(), time.thread_time()
        values = super().__call__(x1, x2, out)
        taken = time.perf_counter() - wall, time.thread_time() - processor
        if len(x1) > 8:  # the few rows that tell what a store holds are no tile
            with self.log.open("a") as file:
                file.write(f"{taken[0]} {taken[1]}\n")
        return values


@dataclass(frozen=True)
class Run:
    """Seconds of one run, of all workers together but for ``wall``."""

    workers: int
    wall: float
    tasks: float
    arithmetic: float
    processor: float

    def __str__(self) -> str:
        whole = self.workers * self.wall
        shares = (self.tasks - self.arithmetic, whole - self.tasks)
        beside, idle = (f"{100 * seconds / whole:.1f} %" for seconds in shares)
        return (
            f"{self.workers} worker(s): {self.wall:.2f} s; arithmetic "
            f"{100 * self.arithmetic / whole:.1f} % (processor {self.processor:.2f} of "
            f"{self.arithmetic:.2f} s), rest of the tasks {beside}, no task {idle}"
        )


def run(workers: int, kernel: Kernel, rows: Path, tile: int, folder: Path) -> Run:
    log = folder / "times"
    log.write_text("")
    timed = Timed(kernel, log)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        warm = folder / "warm.npy"
        np.save(warm, np.load(rows, mmap_mode="r")[: 2 * workers * 1024])
        ff.scale.compute(kernel, warm, store=folder / f"warm{time.monotonic_ns()}", client=client,
                         tile=1024)  # fmt: skip
        begin = time.perf_counter()
        with get_task_stream(client) as stream:
            ff.scale.compute(
                timed, rows, store=folder / f"k{time.monotonic_ns()}", client=client, tile=tile
            )
        wall = time.perf_counter() - begin
        tasks = sum(
            part["stop"] - part["start"]
            for task in stream.data
            for part in task["startstops"]
            if part["action"] == "compute"
        )
    times = np.loadtxt(log, ndmin=2)
    return Run(workers, wall, float(tasks), *times.sum(0).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=3, help="hidden layers of the network")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    model = ff.mlp(9, [64] * options.layers, 1, activation=options.activation, norm="layer")
    kernel = ff.infinite_width(model, 2.0, 0.1).ntk
    best: dict[int, Run] = {}
    for _ in range(options.repetitions):
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as name:
                rows = Path(name) / "rows.npy"
                np.save(rows, np.random.default_rng(0).standard_normal((options.rows, 9)))
                found = run(workers, kernel, rows, options.tile, Path(name))
            print(found, flush=True)
            best[workers] = min(best.get(workers, found), found, key=lambda one: one.wall)
    print(
        f"the best of each: two workers are {best[1].wall / best[2].wall:.2f} times as fast as one"
    )


if __name__ == "__main__":
    main()
