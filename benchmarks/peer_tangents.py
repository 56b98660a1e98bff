"""The tangent kernel of a finite network by neural-tangents (JAX): how long it takes.

``benchmarks/empirical.py`` runs it in the peer library's environment. It needs nothing of farfield.
It prints one line of JSON: the best time of the repeated runs of one of the peer's
implementations, compiled before.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from typing import Any

import numpy as np

from peer_kernels import limit_threads, timed

METHODS = {"Jacobian contraction": 1, "NTK-vector products": 2, "structured derivatives": 3}


def measure(case: str, method: str, repeats: int, seconds: float) -> dict[str, object]:
    """Seconds of an implementation."""
    # The peer imports TensorFlow for an experimental module, which nothing here uses.
    experimental = "neural_tangents.experimental"
    sys.modules[experimental] = types.ModuleType(experimental)
    import jax  # type: ignore[import-not-found]
    import neural_tangents as nt  # type: ignore[import-not-found]
    from neural_tangents import stax

    outputs = 1 if case == "mlp" else 10
    if case in ("mlp", "mlp, 10 outputs"):
        layers = [part for _ in range(3) for part in (stax.Dense(512), stax.Relu())]
        shape: tuple[int, ...] = (256, 64) if case == "mlp" else (128, 64)
    elif case == "cnn":
        pool = stax.AvgPool((2, 2), (2, 2))
        layers = [stax.Conv(32, (3, 3), padding="SAME"), stax.Relu(), pool]
        layers += [stax.Conv(32, (3, 3), padding="SAME"), stax.Relu(), pool]
        layers += [stax.Conv(64, (3, 3), padding="SAME"), stax.Relu(), stax.GlobalAvgPool()]
        shape = (32, 32, 32, 3)
    else:
        sys.exit(f"The peer has no case {case!r}.")
    init, apply, _ = stax.serial(*layers, stax.Dense(outputs))
    points = np.random.default_rng(0).standard_normal(shape).astype("float32")
    x = jax.device_put(points)
    _, parameters = init(jax.random.PRNGKey(0), (-1, *shape[1:]))
    axes: Any = (-1,) if case == "mlp" else ()
    kernel = nt.empirical_ntk_fn(apply, axes, vmap_axes=0, implementation=METHODS[method])
    compiled = jax.jit(lambda inputs, p: kernel(inputs, None, p))
    jax.block_until_ready(compiled(x, parameters))
    runs = timed(lambda: jax.block_until_ready(compiled(x, parameters)), repeats, seconds)
    return {"seconds": min(runs)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="mlp")
    parser.add_argument("--method", default="structured derivatives", choices=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    found = measure(arguments.case, arguments.method, arguments.repeats, arguments.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
