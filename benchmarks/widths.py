"""How fast the tangent kernel of a random network tends to that of infinite width.

For each width, random networks (by default two hidden layers, each with a LayerNorm before tanh)
are drawn. Printed are the bias of their mean kernel, relative to ``ff.infinite_width`` (in theory
like 1 / width), and the deviation of a single network (like 1 / sqrt(width)), with standard errors,
and the slopes of both in log-log axes. A bias of c / width is seen through noise of
s / sqrt(width draws), so that ``--draws`` times the width are drawn; many networks run as one
module. Takes about three minutes. At widths above 128 ``--numbers`` bounds what is drawn (about two
minutes each): enough for the deviation, less and less for the bias.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import farfield as ff

WEIGHT_VAR, BIAS_VAR = 2.0, 0.1


class Networks(nn.Module):
    """Independent networks side by side, drawn from N(0, 1) and scaled as they are used.

    They share no parameters, so that the kernel of the sum of their outputs is the sum of their
    kernels.
    """

    def __init__(self, networks: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.empty(networks, first, second, dtype=torch.float64)
            for first, second in pairwise(widths)
        )
        self.biases = nn.ParameterList(
            torch.empty(networks, width, dtype=torch.float64) for width in widths[1:]
        )

    def draw(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, None].expand(-1, len(self.weights[0]), -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number > 0:
                h = torch.tanh(F.layer_norm(h, h.shape[-1:]))
            scale = sqrt(WEIGHT_VAR / weight.shape[1])
            h = scale * torch.einsum("nek,ekm->nem", h, weight) + sqrt(BIAS_VAR) * bias
        return h.squeeze(-1)


@dataclass(frozen=True)
class Line:
    """What was measured at one width; numbers and their standard errors."""

    width: int
    draws: int
    bias: float
    bias_error: float
    deviation: float
    deviation_error: float


def limit(points: Tensor, depth: int) -> Tensor:
    """The kernel at infinite width, of plain PyTorch modules."""
    model = ff.mlp(points.shape[1], [2] * depth, 1, activation="tanh", norm="layer").double()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(False)
    return ff.infinite_width(model, weight_var=WEIGHT_VAR, bias_var=BIAS_VAR).ntk(points)


def measure(
    width: int, depth: int, draws: int, points: Tensor, aim: Tensor, generator: torch.Generator
) -> Line:
    """Draw networks of one width; their kernels are read along the limit."""
    together = max(min(32, 4096 // width), 2048 // width)
    groups = max(32, draws // together)
    networks = Networks(together, [points.shape[1], *[width] * depth, 1])
    kernel = ff.empirical_ntk(networks, outputs="sum")
    means = []
    for _ in range(groups):
        networks.draw(generator)
        means.append((kernel(points) / together * aim).sum().item() / aim.square().sum().item())
    found = np.array(means) - 1.0
    spread = found.std(ddof=1)
    # The deviation of one network from that of means of independent ones, whose squares' kurtosis
    # is nearly that of a normal law.
    deviation = spread * sqrt(together)
    return Line(
        width, groups * together, found.mean(), spread / sqrt(groups), deviation,
        deviation / sqrt(2 * (groups - 1)),
    )  # fmt: skip


def slope(widths: Sequence[int], values: Sequence[float], errors: Sequence[float]) -> str:
    """Of log value against log width, by weighted least squares, with its standard error."""
    x, y = np.log(widths), np.log(np.abs(values))
    weights = (np.abs(values) / np.array(errors)) ** 2
    centred = x - np.average(x, weights=weights)
    total = (weights * centred**2).sum()
    return f"{(weights * centred * y).sum() / total:.3f} +- {1 / sqrt(total):.3f}"


def main() -> None:
    """Parse, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300, help="networks for each unit of width")
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument(
        "--numbers", type=int, default=700_000_000, help="most random numbers at one width"
    )
    parser.add_argument("--depth", type=int, default=2, help="hidden layers")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    aim = limit(points, arguments.depth)
    lines = []
    print("width   draws   bias of the mean       z   bias x width   deviation x sqrt(width)")
    for width in arguments.widths:
        each = points.shape[1] * width + (arguments.depth - 1) * width**2
        draws = min(arguments.draws * width, arguments.numbers // each)
        line = measure(width, arguments.depth, draws, points, aim, generator)
        lines.append(line)
        print(
            f"{width:5} {line.draws:7} {line.bias:8.5f} +- {line.bias_error:.5f} "
            f"{line.bias / line.bias_error:6.1f} {line.bias * width:14.3f} "
            f"{line.deviation:11.4f} {line.deviation * sqrt(width):13.3f}",
            flush=True,
        )
    for first in (0, 1):  # the first width is the farthest from the limit
        some = lines[first:]
        widths = [line.width for line in some]
        of_bias = slope(widths, [line.bias for line in some], [line.bias_error for line in some])
        of_deviation = slope(
            widths, [line.deviation for line in some], [line.deviation_error for line in some]
        )
        print(f"slopes from width {widths[0]}: bias {of_bias}, deviation {of_deviation}")


if __name__ == "__main__":
    main()
