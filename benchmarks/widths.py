"""How fast the tangent kernel of a random network tends to that of infinite width.

Prints, for each width, the bias of the mean over random networks (it falls like 1 / width) and the
deviation of a single network (like 1 / sqrt(width)), both relative to the limit. The networks have
a LayerNorm before every ReLU, which keeps the noise down; the bias is small, and needs thousands of
draws to stand out of it.
"""

from __future__ import annotations

import argparse

import torch

import farfield as ff


def main() -> None:
    """Parse, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--widths", type=int, nargs="*", default=[8, 16, 32, 64])
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    print("width   bias of the mean (+- error)   x width   deviation   x sqrt(width)")
    for width in arguments.widths:
        drawn = []
        for _ in range(arguments.draws):
            model = ff.mlp(5, [width, width], 1, norm="layer").double()
            ff.gaussian_init_(model, 2.0, 0.1, generator)
            drawn.append(ff.empirical_ntk(model, parameterization="ntk")(points))
        limit = ff.infinite_width(model).ntk(points)
        kernels = torch.stack(drawn) / limit.norm()
        aim = limit / limit.norm()
        # The direction of the limit itself has the least noise.
        along = (kernels * aim).sum((1, 2)) - 1.0
        bias, error = along.mean().item(), along.std().item() / len(drawn) ** 0.5
        deviation = kernels.std(0).norm().item()
        print(
            f"{width:5} {bias:15.4f} +- {error:.4f} {bias * width:15.2f} {deviation:11.4f} "
            f"{deviation * width**0.5:13.2f}"
        )


if __name__ == "__main__":
    main()
