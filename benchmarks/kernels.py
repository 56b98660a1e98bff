"""The kernels of a ReLU network: farfield, its peer and plain PyTorch, side by side.

Run it with ``make bench-peers`` on an otherwise idle machine. Every contender computes the NNGP
and the NTK of the same network at the same inputs, in a process of its own; the processes take
turns. Printed are the best wall time of all repetitions, the time of the first call (which may
compile) and the peak of memory above the start, outputs included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import farfield as ff
from peer_kernels import forget_peak, memory

HERE = Path(__file__).parent


def inputs(n: int, features: int) -> Tensor:
    """The inputs, the same for every contender."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, features)))


def limit(features: int, depth: int) -> Any:
    """The network's limit; its widths mean nothing to the kernels."""
    return ff.infinite_width(ff.mlp(features, [8] * depth, 1), weight_var=2.0, bias_var=0.01)


def plain(x: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """The textbook recursion on whole matrices, as one would write it in a notebook."""
    k = 2.0 * x @ x.T / x.shape[1] + 0.01
    t = k.clone()
    for _ in range(depth):
        root = k.diagonal().sqrt()
        size = root.outer(root)
        angle = torch.acos((k / size).clamp(-1.0, 1.0))
        turn = math.pi - angle
        k = 2.0 * size * (torch.sin(angle) + turn * torch.cos(angle)) / (2 * math.pi) + 0.01
        t = k + 2.0 * t * turn / (2 * math.pi)
    return k, t


def measure(contender: str, n: int, features: int, depth: int, repeats: int) -> dict[str, Any]:
    """First call, best time and peak of memory in this process."""
    x = inputs(n, features)
    kernels = limit(features, depth)
    call = (lambda: kernels(x)) if contender.startswith("farfield") else (lambda: plain(x, depth))
    start = memory("VmRSS")
    begin = time.perf_counter()
    nngp, ntk = call()
    first = time.perf_counter() - begin
    means = {"nngp_mean": nngp.mean().item(), "ntk_mean": ntk.mean().item()}
    del nngp, ntk
    forget_peak()
    runs = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        runs.append(time.perf_counter() - begin)
    peak = memory("VmHWM") - start
    return {"seconds": min(runs), "compile_seconds": first, "peak_megabytes": peak, **means}


def command(contender: str, arguments: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """How to run a contender in a process of its own, and its environment."""
    sizes = ["--n", str(arguments.n), "--features", str(arguments.features)]
    sizes += ["--depth", str(arguments.depth), "--threads", str(arguments.threads)]
    sizes += ["--repeats", str(arguments.repeats)]
    if contender == "neural-tangents":
        return [arguments.peer_python, str(HERE / "peer_kernels.py"), *sizes], dict(os.environ)
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    if contender == "farfield, no compiler":
        environment["FARFIELD_NATIVE"] = "0"
    return [sys.executable, __file__, "--contender", contender, *sizes], environment


def compare(arguments: argparse.Namespace) -> None:
    """All contenders, taking turns."""
    contenders = ["farfield", "farfield, no compiler", "plain PyTorch"]
    if arguments.peer_python:
        contenders.insert(2, "neural-tangents")
    best: dict[str, dict[str, Any]] = {}
    for _ in range(arguments.rounds):
        for contender in contenders:
            line, environment = command(contender, arguments)
            done = subprocess.run(line, env=environment, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            if contender not in best or found["seconds"] < best[contender]["seconds"]:
                best[contender] = found
    own = best["farfield"]
    output = 2 * 8 * arguments.n**2 / 2**20
    print(
        f"{arguments.n} x {arguments.n}, {arguments.features} features, {arguments.depth} hidden "
        f"ReLU layers, NNGP and NTK, float64, {arguments.threads} threads, {platform.machine()}; "
        f"the outputs take {output:.0f} MB"
    )
    print(f"{'':24}{'best':>10}{'ratio':>8}{'first call':>12}{'peak memory':>14}")
    for contender, found in best.items():
        agree = all(math.isclose(found[k], own[k], rel_tol=1e-9) for k in ("nngp_mean", "ntk_mean"))
        print(
            f"{contender:24}{found['seconds']:8.3f} s{found['seconds'] / own['seconds']:8.1f}"
            f"{found['compile_seconds']:10.2f} s{found['peak_megabytes']:11.0f} MB"
            + ("" if agree else "   DIFFERENT VALUES")
        )


def scaling(largest: int) -> None:
    """Time against the number of inputs, and against depth."""
    kernels = limit(9, 3)
    kernels(inputs(1100, 9))  # compile first
    print("\ninputs      seconds   ns a pair   beyond the output")
    for n in [size for size in (1000, 2000, 5000, 10000, 20000) if size <= largest]:
        x, out = inputs(n, 9), torch.empty(n, n, dtype=torch.float64)
        out.fill_(0.0)
        kernels.ntk(x[:1100], out=out[:1100, :1100])
        start = memory("VmRSS")
        forget_peak()
        begin = time.perf_counter()
        kernels.ntk(x, out=out)
        seconds = time.perf_counter() - begin
        beyond = memory("VmHWM") - start
        print(f"{n:6} {seconds:12.3f} {seconds / n**2 * 1e9:11.1f} {beyond:16.0f} MB")
        del out
    print("\nhidden layers   seconds (2,000 inputs)")
    x = inputs(2000, 9)
    for depth in (1, 2, 4, 8, 16, 32):
        deep = limit(9, depth)
        runs = []
        for _ in range(3):
            begin = time.perf_counter()
            deep.ntk(x)
            runs.append(time.perf_counter() - begin)
        print(f"{depth:13} {min(runs):9.3f}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=3000, help="inputs")
    parser.add_argument("--features", type=int, default=9)
    parser.add_argument("--depth", type=int, default=3, help="hidden layers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="runs in each process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender")
    parser.add_argument("--largest", type=int, default=20000, help="inputs in the scaling table")
    parser.add_argument("--peer-python", help="Python with neural-tangents; without it, no peer")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.contender:
        sizes = (arguments.n, arguments.features, arguments.depth, arguments.repeats)
        print(json.dumps(measure(arguments.contender, *sizes)))
        return
    compare(arguments)
    scaling(arguments.largest)


if __name__ == "__main__":
    main()
