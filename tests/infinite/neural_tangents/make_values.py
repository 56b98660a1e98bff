"""Write the kernels of 40 random architectures, as neural-tangents computes them in float64.

Run it in the peer library's environment (``make .venv-peers/.ready`` makes that)::

    .venv-peers/bin/python tests/infinite/neural_tangents/make_values.py

The architectures and the values go to ``values.json``, which ``test_neural_tangents.py`` reads.

All values were compared once with the closed forms in 80 digits (mpmath), and those closed forms
with quadrature. On every pair of different points the peer's relative error is at most 2e-15. On
a point with itself, behind a function with a kink or a jump, it takes the angle from a rounded
cosine, and its NTK is off by up to 1e-6: those entries are kept, and the test is lenient there.
Its NTK behind the sign counts the slope as zero, as it is almost everywhere. Norms whose fourth
power overflows and almost equal points, where the peer gives NaN or loses digits, are not drawn.
"""

from __future__ import annotations

import json
import platform
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20251
CASES = 40
OUT = Path(__file__).with_name("values.json")

Layer = dict[str, Any]


def draw_case(rng: np.random.Generator) -> dict[str, Any]:
    """One architecture, as a list of layers, with two batches of inputs."""
    features = int(rng.integers(2, 6))
    return {
        # Deeper ones more often: a single dense layer tells little.
        "layers": draw_layers(rng, int(rng.choice(6, p=np.arange(1, 7) / 21)) + 1),
        "x1": draw_points(rng, 4, features),
        "x2": draw_points(rng, 3, features),
    }


def draw_layers(rng: np.random.Generator, depth: int) -> list[Layer]:
    """``depth`` dense layers, those in branches counted, with what stands between them."""
    layers = [draw_dense(rng)]
    depth -= 1
    while depth:
        # What is summed must be Gaussian: a branch starts from a dense layer and ends with one.
        if rng.random() < 0.3:
            inside = min(depth, int(rng.integers(1, 3)))
            layers.append({"kind": "residual", "branch": draw_blocks(rng, inside)})
            depth -= inside
        else:
            layers += draw_blocks(rng, 1)
            depth -= 1
    return layers


def draw_blocks(rng: np.random.Generator, depth: int) -> list[Layer]:
    """LayerNorm (now and then), activation, dense; ``depth`` times."""
    layers: list[Layer] = []
    for _ in range(depth):
        if rng.random() < 0.3:
            layers.append({"kind": "layer_norm", "eps": 1e-5})
        layers += [draw_activation(rng), draw_dense(rng)]
    return layers


def draw_dense(rng: np.random.Generator) -> Layer:
    """Variances between those of W_std = 0.5 and 2, and of b_std = 0, 0.1 and 1."""
    return {
        "kind": "dense",
        "weight_var": float(rng.uniform(0.5, 2.0)) ** 2,
        "bias_var": float(rng.choice([0.0, 0.01, 1.0])),
    }


def draw_activation(rng: np.random.Generator) -> Layer:
    """A function that the peer has a closed form for."""
    names = ["relu", "leaky_relu", "abs", "erf", "sin", "cos", "gelu", "rbf", "sign"]
    layer: Layer = {"kind": "activation", "name": str(rng.choice(names))}
    if layer["name"] == "leaky_relu":
        layer["slope"] = float(rng.choice([0.01, 0.2, 0.5]))
    if layer["name"] == "rbf":
        layer["gamma"] = float(rng.uniform(0.1, 1.0))
    return layer


def draw_points(rng: np.random.Generator, count: int, features: int) -> list[list[float]]:
    """Random directions with norms between 0.1 and 10."""
    directions = rng.standard_normal((count, features))
    norms = 10.0 ** rng.uniform(-1.0, 1.0, (count, 1))
    points: list[list[float]] = (
        directions / np.linalg.norm(directions, axis=1, keepdims=True) * norms
    ).tolist()
    return points


def peer_layer(stax: types.ModuleType, layer: Layer) -> Any:
    """A layer in the peer's words; its widths mean nothing to the kernels."""
    if layer["kind"] == "dense":
        return stax.Dense(4, W_std=layer["weight_var"] ** 0.5, b_std=layer["bias_var"] ** 0.5)
    if layer["kind"] == "layer_norm":
        return stax.LayerNorm(eps=layer["eps"])
    if layer["kind"] == "residual":
        branch = stax.serial(*(peer_layer(stax, part) for part in layer["branch"]))
        return stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), branch), stax.FanInSum())
    made = {
        "relu": stax.Relu,
        "leaky_relu": lambda: stax.LeakyRelu(layer["slope"]),
        "abs": stax.Abs,
        "erf": stax.Erf,
        "sin": stax.Sin,
        "cos": stax.Cos,
        "gelu": stax.Gelu,
        "rbf": lambda: stax.Rbf(layer["gamma"]),
        "sign": stax.Sign,
    }
    return made[layer["name"]]()


def main() -> None:
    """Draw, compute, write."""
    # The peer imports TensorFlow for an experimental module, which nothing here uses.
    name = "neural_tangents.experimental"
    sys.modules[name] = types.ModuleType(name)
    import jax
    import jaxlib
    import neural_tangents
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(SEED)
    cases = []
    for _ in range(CASES):
        case = draw_case(rng)
        _, _, kernel = stax.serial(*(peer_layer(stax, layer) for layer in case["layers"]))
        x1, x2 = np.array(case["x1"]), np.array(case["x2"])
        for label, other in [("", x2), ("_same", None)]:
            both = kernel(x1, other, ("nngp", "ntk"))
            case["nngp" + label] = np.asarray(both.nngp).tolist()
            case["ntk" + label] = np.asarray(both.ntk).tolist()
        cases.append(case)
    head = {
        "neural_tangents": neural_tangents.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "seed": SEED,
    }
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f'{{"made_with": {json.dumps(head)},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
