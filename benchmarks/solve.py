"""The in-place factorisation against LAPACK's bare dpotrf, in alternation.

Run it with ``make bench-solve`` on an otherwise idle machine. Three factorise the same matrix in
place: farfield's panels, SciPy's dpotrf (OpenBLAS) and PyTorch's (MKL in its usual builds). Printed
are the best of the repetitions, wall time and processor time of all threads; the second is
steadier where the machine is shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg import lapack

from farfield.regression.solve import factorise


def farfield(matrix: np.ndarray) -> None:
    factorise(matrix, np.zeros(len(matrix)))


def with_eigenvalues(matrix: np.ndarray) -> None:
    factor = factorise(matrix, np.zeros(len(matrix)))
    assert not isinstance(factor, int)
    print(f"  (eigenvalues {factor.smallest_eigenvalue:.4g} to {factor.largest_eigenvalue:.4g})")


def openblas(matrix: np.ndarray) -> None:
    lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)


def mkl(matrix: np.ndarray) -> None:
    columns = torch.from_numpy(matrix).mT
    torch.linalg.cholesky_ex(columns, out=(columns, torch.zeros((), dtype=torch.int32)))


SOLVERS: dict[str, Callable[[np.ndarray], None]] = {
    "farfield, in panels": farfield,
    "farfield, with eigenvalues": with_eigenvalues,
    "SciPy's dpotrf": openblas,
    "PyTorch's": mkl,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[4000, 8000])
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    for n in options.points:
        generator = np.random.default_rng(0)
        features = generator.standard_normal((n, 100))
        whole = features @ features.T
        whole = 0.5 * (whole + whole.T)
        whole.ravel()[:: n + 1] += 10.0
        best = dict.fromkeys(SOLVERS, (np.inf, np.inf))
        for _ in range(options.repetitions):
            for name, solver in SOLVERS.items():
                matrix = whole.copy()
                wall, processor = time.perf_counter(), time.process_time()
                solver(matrix)
                taken = time.perf_counter() - wall, time.process_time() - processor
                best[name] = min(best[name], taken, key=lambda times: times[1])
        for name, (seconds, cpu) in best.items():
            rate = n**3 / 3 / cpu / 1e9
            print(f"{n} points, {name}: {seconds:.2f} s, processor {cpu:.2f} s, {rate:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
