"""Kernel regression on the protein table by each solver: time, memory, iterations, agreement.

Run it with ``make bench-solvers`` on an otherwise idle machine; the folder that ``FARFIELD_DATA``
names holds protein.csv, else it is downloaded. All training rows take a matrix of 12 GB in memory,
and once more on the disk; ``--points 4000`` is a first look. Each solver has a process of its own,
whose largest memory is told (what the system caches of files is not in it).

The network is the one with a LayerNorm first, two hidden ReLU layers, weight variance 2, bias
variance 0.01; the ridge of 0.1 is the one that rows left out choose in ``make infinite-protein``.
Targets are standardised: differences of predictions are in their standard deviations.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import farfield as ff
from farfield.data import load_protein, prepare, split_by_threshold, train_test_rows
from farfield.kernel import Kernel
from farfield.regression import ConjugateReport

GIGABYTE = 2**30

PLAIN = "cg, no preconditioner"

WAYS = {
    "cholesky": "cholesky",
    "cg, from memory": "memory",
    "cg, from the store": "store",
    "cg, recomputed": "recompute",
    PLAIN: "memory",
}


def problem(points: int, seed: int) -> tuple[Kernel, Tensor, Tensor, Tensor]:
    """The kernel, training inputs and targets, and inputs to predict at: inside and outside."""
    table = prepare(load_protein(), "RMSD")
    domains = split_by_threshold(table, "F1", 20000.0)
    train, inside = train_test_rows(table, domains.inside, 0.9, seed)
    train = train[:points]
    mean, std = table.features[train].mean(0), table.features[train].std(0)
    level, spread = table.target[train].mean(), table.target[train].std()
    x = torch.from_numpy((table.features - mean) / std)
    y = torch.from_numpy((table.target - level) / spread)
    model = ff.mlp(9, [128, 128], 1, norm="layer", norm_at="first")
    kernel = ff.infinite_width(model, weight_var=2.0, bias_var=0.01).ntk
    return kernel, x[train], y[train], x[np.concatenate([inside, domains.outside])]


def run(way: str, options: argparse.Namespace) -> dict[str, object]:
    """Fit and predict by one way; the predictions go into a file."""
    kernel, x, y, new = problem(options.points, options.seed)
    products, plain = WAYS[way], way == PLAIN
    record: dict[str, object] = {"way": way}
    residuals: list[float] = []

    def tell(number: int, residual: float) -> None:
        residuals.append(residual)
        if number % 10 == 0:
            print(f"  iteration {number}: residual {residual:.1e}", file=sys.stderr, flush=True)

    begin = time.perf_counter()
    stored = None
    if products == "store":
        stored = ff.scale.compute(kernel, x, store=options.folder / "kernel.zarr")
        record["seconds: store"] = time.perf_counter() - begin
        begin = time.perf_counter()
    solver: ff.Cholesky | ff.ConjugateGradients = ff.Cholesky()
    if products != "cholesky":
        solver = ff.ConjugateGradients(
            options.tolerance,
            max_iterations=options.plain if plain else 1000,
            preconditioner_rank=0 if plain else options.rank,
            products=products,
            store=stored,
            progress=tell,
        )
    try:
        fit = ff.KernelRegression(kernel, options.ridge, solver=solver).fit(x, y)
    except ff.errors.ConvergenceError:  # without a preconditioner: as far as it got
        fit = None
    record["seconds: fit"] = time.perf_counter() - begin
    record["residual after iterations"] = {
        number: float(f"{residuals[number - 1]:.1e}")
        for number in (10, 20, 50, 100, 200, 500, 1000)
        if number <= len(residuals)
    }
    if fit is None:
        return record
    report = fit.report
    if isinstance(report, ConjugateReport):
        record["iterations"], record["rank"] = report.iterations, report.rank
    record["residual"] = report.residual
    record["certified error"] = float(fit.error_bound(new).max())
    record["distinct points"] = report.points
    np.save(options.folder / f"{list(WAYS).index(way)}.npy", fit.predict(new).numpy())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record["peak GB"] = peak * 1024 / GIGABYTE
    return record


def costs(options: argparse.Namespace) -> None:
    """What the cost model expects, with and without the memory for the matrix."""
    from farfield.regression.costs import measured
    from farfield.scale import open_kernel

    kernel, x, _, _ = problem(options.points, options.seed)
    store = options.folder / "kernel.zarr"
    model = measured(kernel, x, open_kernel(store) if store.exists() else None)
    print(
        f"cost model, a number of the kernel: {1e9 * model.compute:.3g} ns computed, "
        f"{1e9 * model.read:.3g} ns read, {1e9 * model.multiply:.3g} ns multiplied\n  {model}"
    )


def child(way: str, options: argparse.Namespace) -> dict[str, object]:
    """The same in a process of its own."""
    arguments = [
        *("--points", str(options.points), "--ridge", str(options.ridge)),
        *("--tolerance", str(options.tolerance), "--rank", str(options.rank or 0)),
        *("--seed", str(options.seed), "--plain", str(options.plain)),
        *("--folder", str(options.folder), "--only", way),
    ]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    record: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10**9, help="training rows at most")
    parser.add_argument("--ridge", type=float, default=0.1)
    parser.add_argument("--tolerance", type=float, default=1e-8)
    parser.add_argument("--rank", type=int, default=0, help="of the preconditioner [default: auto]")
    parser.add_argument(
        "--plain", type=int, default=200, help="iterations at most without the preconditioner"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="for the store [default: a temporary one]")
    parser.add_argument("--only", choices=WAYS, help="one way, in this process")
    options = parser.parse_args()
    options.rank = options.rank or None
    if options.only:
        print(json.dumps(run(options.only, options)))
        return
    with tempfile.TemporaryDirectory(prefix="farfield-solvers-") as folder:
        options.folder = options.folder or Path(folder)
        print(f"{torch.get_num_threads()} threads, ridge {options.ridge:g}", flush=True)
        first: np.ndarray | None = None
        for way in options.ways:
            record = child(way, options)
            if "residual" in record:
                predicted = np.load(options.folder / f"{list(WAYS).index(way)}.npy")
                first = predicted if first is None else first
                record["differs by"] = float(np.abs(predicted - first).max())
            print(
                ", ".join(
                    f"{key}: {value:.3g}" if isinstance(value, float) else f"{key}: {value}"
                    for key, value in record.items()
                ),
                flush=True,
            )
        costs(options)


if __name__ == "__main__":
    main()
