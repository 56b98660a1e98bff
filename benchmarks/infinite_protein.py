"""The row that infinitely wide networks add to the protein table: exact NTK regression.

Run it with ``make infinite-protein``; the folder that ``FARFIELD_DATA`` names holds protein.csv,
else it is downloaded. All training rows take a matrix of 10 GB and, on two cores, some minutes
for each network; ``--points 5000`` is a first look.

The split is the study's (``farfield reproduce protein``): 90 % of the rows with F1 < 20000 train,
the others are "inside", those with a larger F1 "outside"; duplicate rows stay on one side. A
tenth of the training rows chooses the ridge, on a path of ridges fitted to the first
``--ridge-points`` others. Features and target are standardised with the training rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import farfield as ff
from farfield.data import load_protein, prepare, split_by_threshold, train_test_rows
from farfield.regression import RidgePath, certify_fit

NETWORKS: dict[str, str | None] = {"standard": None, "LN first": "first", "LN every": "every"}
RIDGES = [10.0**exponent for exponent in np.arange(-3.0, 2.01, 0.5)]
GIGABYTE = 2**30


def r2(y: Tensor, predicted: Tensor) -> float:
    return float(1.0 - (y - predicted).square().mean() / (y - y.mean()).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10**9, help="training points at most")
    parser.add_argument("--ridge-points", type=int, default=5000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)[:2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for the numbers, as JSON lines")
    options = parser.parse_args()

    table = prepare(load_protein(), "RMSD")
    domains = split_by_threshold(table, "F1", 20000.0)
    train, inside = train_test_rows(table, domains.inside, 0.9, options.seed)
    fitted, chosen = train_test_rows(table, train, 0.9, options.seed + 1)
    fitted = fitted[: options.points]
    mean, std = table.features[fitted].mean(0), table.features[fitted].std(0)
    level, spread = table.target[fitted].mean(), table.target[fitted].std()
    x = torch.from_numpy((table.features - mean) / std)
    y = torch.from_numpy((table.target - level) / spread)
    print(
        f"{len(fitted)} rows train, {len(chosen)} choose the ridge, {len(inside)} inside, "
        f"{len(domains.outside)} outside; {torch.get_num_threads()} threads",
        flush=True,
    )
    for name in options.networks:
        start = time.perf_counter()
        at = NETWORKS[name]
        model = ff.mlp(9, [128, 128], 1, norm="layer" if at else None, norm_at=at or 0)
        limit = ff.infinite_width(model, weight_var=2.0, bias_var=0.01)
        some = fitted[: options.ridge_points]
        path = RidgePath(limit.ntk, x[some], y[some], RIDGES)
        errors = [r2(y[chosen], predicted) for predicted in path.predict(x[chosen])]
        ridge = RIDGES[int(np.argmax(errors))]
        del path
        ready = time.perf_counter()
        fit = ff.KernelRegression(limit.ntk, ridge).fit(x[fitted], y[fitted])
        done = time.perf_counter()
        scores = {
            "ridge part": r2(y[chosen], fit.predict(x[chosen])),
            "inside": r2(y[inside], fit.predict(x[inside])),
            "outside": r2(y[domains.outside], fit.predict(x[domains.outside])),
        }
        predicted = time.perf_counter()
        cert = certify_fit(fit)
        record = {
            "network": name,
            "distinct points": len(fit.support),
            "ridge": ridge,
            **scores,
            "seconds: ridge": ready - start,
            "seconds: fit": done - ready,
            "seconds: predict": predicted - done,
            "seconds: certify": time.perf_counter() - predicted,
            "smallest eigenvalue": fit.smallest_eigenvalue,
            "bounded": cert.bounded,
            "C": cert.kernel_bound.value,
            "bound": cert.bound.largest * spread,
            "worst found": cert.worst_found.value * spread,
            "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE,
        }
        for key, value in record.items():
            print(f"  {key}: {value:.6g}" if isinstance(value, float) else f"  {key}: {value}")
        print(flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
        del fit, cert


if __name__ == "__main__":
    main()
