"""Kernels against those of neural-tangents, the peer library in JAX, on random architectures.

The values were computed once and are kept (``neural_tangents/make_values.py``), so that the peer
need not be installed here.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Elementwise
from torch import nn

import farfield as ff

Layer = dict[str, Any]

VALUES = json.loads(Path(__file__).with_name("neural_tangents").joinpath("values.json").read_text())
CASES = VALUES["cases"]
WIDTH = 4  # means nothing in the limit
BENT = {"relu", "leaky_relu", "abs", "sign"}


class Sum(nn.Module):
    """A residual connection."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Network:
    """A module built from plain data, and the variances of its linear layers by name."""

    def __init__(self, layers: list[Layer], features: int) -> None:
        self.bent = False
        self._dense: dict[nn.Module, Layer] = {}
        self._inputs = features
        self.model = self._stack(layers)
        named = [(name, self._dense.get(module)) for name, module in self.model.named_modules()]
        dense = {name: layer for name, layer in named if layer is not None}
        self.weight_var = {name: layer["weight_var"] for name, layer in dense.items()}
        self.bias_var = {name: layer["bias_var"] for name, layer in dense.items()}

    def _stack(self, layers: list[Layer]) -> nn.Module:
        return nn.Sequential(*(self._module(layer) for layer in layers))

    def _module(self, layer: Layer) -> nn.Module:
        if layer["kind"] == "dense":
            module = nn.Linear(self._inputs, WIDTH)
            self._inputs = WIDTH
            self._dense[module] = layer
            return module
        if layer["kind"] == "layer_norm":
            return nn.LayerNorm(WIDTH, eps=layer["eps"], elementwise_affine=False)
        if layer["kind"] == "residual":
            return Sum(self._stack(layer["branch"]))
        self.bent |= layer["name"] in BENT
        return activation(layer)


def activation(layer: Layer) -> nn.Module:
    """An elementwise function by the name it has in the stored values."""
    if layer["name"] == "leaky_relu":
        return nn.LeakyReLU(layer["slope"])
    if layer["name"] == "rbf":
        rate = math.sqrt(2.0 * layer["gamma"])
        return Elementwise(lambda u: math.sqrt(2.0) * torch.sin(rate * u + math.pi / 4))
    return {
        "relu": nn.ReLU(),
        "gelu": nn.GELU(),
        "abs": Elementwise(torch.abs),
        "erf": Elementwise(torch.erf),
        "sin": Elementwise(torch.sin),
        "cos": Elementwise(torch.cos),
        "sign": Elementwise(torch.sign),
    }[layer["name"]]


def spelled(layers: list[Layer]) -> str:
    """The layers in a few words, to know a case by."""
    words = []
    for layer in layers:
        inside = f"({spelled(layer['branch'])})" if layer["kind"] == "residual" else ""
        words.append(inside or layer.get("name", layer["kind"]))
    return "-".join(words)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{at} {spelled(case['layers'])}" for at, case in enumerate(CASES)]
)
def test_kernels_of_neural_tangents(case) -> None:
    x1, x2 = (torch.tensor(case[name], dtype=torch.float64) for name in ("x1", "x2"))
    network = Network(case["layers"], x1.shape[1])
    limit = ff.infinite_width(network.model, network.weight_var, network.bias_var)
    for label, batches in [("", (x1, x2)), ("_same", (x1,))]:
        for name, kernel in zip(("nngp", "ntk"), limit(*batches), strict=True):
            expected = torch.tensor(case[name + label], dtype=torch.float64)
            if label and network.bent:
                # The peer takes the angle of a point with itself from a rounded cosine, whose
                # arccos at 1 keeps only half of the digits, and fewer behind a jump;
                # test_accuracy has the diagonals of such functions to 12 digits.
                mine, theirs = kernel.diagonal(), expected.diagonal()
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0.0)
                expected.diagonal().copy_(mine)
            torch.testing.assert_close(kernel, expected, rtol=1e-10, atol=0.0)
