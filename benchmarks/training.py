"""Batched training against a plain PyTorch loop over the same networks, side by side.

Run it with ``make bench`` on an otherwise idle machine. Both sides train the same networks from
the same weights on the same full batches with Adam, in this process, in alternation; printed are
the best wall time of the repetitions and the peak of memory above the start.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from farfield.data import load_protein
from farfield.studies.shared.variants import Variant, draw, variants
from farfield.training import Fleet, TrainingSettings, train

MEGABYTE = 2**20


@dataclass
class Task:
    """Networks of one architecture with their data (k, n, ...)."""

    networks: list[nn.Module]
    x: Tensor
    y: Tensor


def toy_tasks(seeds: int) -> list[Task]:
    """The toy study: three functions and four variants, 12 kinds of network."""
    x = torch.linspace(-3, 3, 100)[:, None]
    functions: list[Callable[[Tensor], Tensor]] = [torch.sin, lambda x: x, torch.square]
    y = torch.stack([function(x) for function in functions for _ in range(seeds)])
    return [
        Task(
            [_draw(variant, 1, seed) for _ in functions for seed in range(seeds)],
            x.expand(len(y), *x.shape).contiguous(),
            y,
        )
        for variant in variants("layer", 2)
    ]


def protein_tasks(seeds: int) -> list[Task]:
    """The protein study: four variants on 40,132 rows of the training domain."""
    table = load_protein()
    table = table[table["F1"] < 20000].iloc[:40132]
    values = ((table - table.mean()) / table.std(ddof=0)).to_numpy(dtype=np.float32)
    x = torch.from_numpy(values[:, 1:]).expand(seeds, -1, -1).contiguous()
    y = torch.from_numpy(values[:, :1]).expand(seeds, -1, -1).contiguous()
    return [
        Task([_draw(variant, 9, seed) for seed in range(seeds)], x, y)
        for variant in variants("layer", 2)
    ]


def _draw(variant: Variant, features: int, seed: int) -> nn.Module:
    return draw(
        variant,
        features,
        (128, 128),
        1,
        activation="relu",
        weight_var=2.0,
        bias_var=0.01,
        seed=seed,
    )


def batched(task: Task, epochs: int) -> list[nn.Module]:
    """All networks of a task at once."""
    fleet = Fleet(task.networks)
    train(fleet, task.x, task.y, TrainingSettings(epochs=epochs))
    return fleet.networks()


def plain(task: Task, epochs: int) -> list[nn.Module]:
    """One network after the other, as one writes it in PyTorch."""
    trained = []
    for network, x, y in zip(task.networks, task.x, task.y, strict=True):
        model = copy.deepcopy(network)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        trained.append(model)
    return trained


class PeakMemory:
    """Samples this process's resident memory while a block runs (Linux; elsewhere nothing)."""

    def __enter__(self) -> PeakMemory:
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.start = self.peak = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, _resident())

    @property
    def megabytes(self) -> float:
        return (self.peak - self.start) / MEGABYTE


def _resident() -> int:
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * 4096 if path.exists() else 0


def compare(name: str, tasks: list[Task], epochs: int, repetitions: int) -> None:
    """Train every task both ways, in alternation, and print a line."""
    # Loading libraries is not what is compared; tracing each shape is part of the batched time.
    first = Task(tasks[0].networks[:1], tasks[0].x[:1], tasks[0].y[:1])
    batched(first, 1)
    plain(first, 1)
    times: dict[str, list[float]] = {"batched": [], "plain": []}
    memory = dict.fromkeys(times, 0.0)
    for _ in range(repetitions):
        totals = dict.fromkeys(times, 0.0)
        for task in tasks:
            for side, run in (("batched", batched), ("plain", plain)):
                with PeakMemory() as peak:
                    begin = time.perf_counter()
                    run(task, epochs)
                    totals[side] += time.perf_counter() - begin
                memory[side] = max(memory[side], peak.megabytes)
        for side, total in totals.items():
            times[side].append(total)
    networks = sum(len(task.networks) for task in tasks)
    best = {side: min(values) for side, values in times.items()}
    ratios = sorted(p / b for p, b in zip(times["plain"], times["batched"], strict=True))
    print(
        f"{name:8} {networks:3} networks x {epochs:4} epochs | batched {best['batched']:7.1f} s "
        f"{memory['batched']:6.0f} MB | plain {best['plain']:7.1f} s {memory['plain']:6.0f} MB | "
        f"plain / batched {best['plain'] / best['batched']:.2f} "
        f"(runs {ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--toy-epochs", type=int, default=1000)
    parser.add_argument("--protein-epochs", type=int, default=30)
    parser.add_argument("--repetitions", type=int, default=2)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    compare("toy", toy_tasks(arguments.seeds), arguments.toy_epochs, arguments.repetitions)
    compare(
        "protein", protein_tasks(arguments.seeds), arguments.protein_epochs, arguments.repetitions
    )


if __name__ == "__main__":
    main()
