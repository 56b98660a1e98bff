"""The kernels of a ReLU network by neural-tangents (JAX): how long they take.

``benchmarks/kernels.py`` runs it in the peer library's environment, which ``make bench-peers``
sets up from ``requirements-peers.txt``; it needs nothing of farfield. It prints one line of JSON:
the best and all wall times of the repeated runs, the time to the end of the first one (which
compiles), the peak of memory above the start, and the kernels' means, by which both sides can be
seen to compute the same thing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np


def timed(call: Callable[[], object], repeats: int, seconds: float = 0.0) -> list[float]:
    """Seconds of each of so many calls at least, and of more until so much time is over.

    Short calls need many: the first ones find cold caches.
    """
    runs: list[float] = []
    end = time.perf_counter() + seconds
    while len(runs) < repeats or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        runs.append(time.perf_counter() - begin)
    return runs


def limit_threads(threads: int) -> None:
    """Let this process compute on so many cores; to be called before JAX is imported.

    XLA has no number of threads to set: its pool is as large as the process's set of cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("Only Linux can limit XLA to a number of threads.")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        sys.exit(f"--threads is {threads}; this process may use 1 to {len(cores)} cores.")
    os.sched_setaffinity(0, cores[:threads])
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    os.environ["JAX_PLATFORMS"] = "cpu"


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Compile, warm up, run, and tell what it took."""
    # The peer imports TensorFlow for an experimental module, which nothing here uses.
    experimental = "neural_tangents.experimental"
    sys.modules[experimental] = types.ModuleType(experimental)
    import jax  # type: ignore[import-not-found]
    from neural_tangents import stax  # type: ignore[import-not-found]

    jax.config.update("jax_enable_x64", arguments.dtype == "float64")
    points = np.random.default_rng(0).standard_normal((arguments.n, arguments.features))
    x = jax.device_put(points.astype(arguments.dtype))

    def dense() -> object:
        return stax.Dense(1, W_std=2.0**0.5, b_std=0.1)  # its width means nothing to the kernels

    hidden = [layer for _ in range(arguments.depth) for layer in (dense(), stax.Relu())]
    _, _, kernel_fn = stax.serial(*hidden, dense())
    compiled = jax.jit(lambda inputs: tuple(kernel_fn(inputs, None, ("nngp", "ntk"))))
    jax.block_until_ready(x)
    start = memory("VmRSS")

    begin = time.perf_counter()
    nngp, ntk = jax.block_until_ready(compiled(x))
    compile_seconds = time.perf_counter() - begin
    means = {"nngp_mean": float(nngp.mean()), "ntk_mean": float(ntk.mean())}
    del nngp, ntk
    forget_peak()
    runs = timed(lambda: jax.block_until_ready(compiled(x)), arguments.repeats)
    return {
        "seconds": min(runs),
        "runs": runs,
        "peak_megabytes": memory("VmHWM") - start,
        "compile_seconds": compile_seconds,
        **means,
    }


def memory(field: str) -> float:
    """Megabytes of resident memory: now (VmRSS) or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"/proc/self/status has no {field}.")


def forget_peak() -> None:
    """Start VmHWM anew, so that the compiler's own memory does not count."""
    with suppress(OSError):  # some containers forbid it; the compiler counts then
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=3000, help="inputs")
    parser.add_argument("--features", type=int, default=9)
    parser.add_argument("--depth", type=int, default=3, help="hidden layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
