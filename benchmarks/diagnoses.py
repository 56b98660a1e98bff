"""The diagnoses of three networks, as docs/diagnose.md shows them."""

from __future__ import annotations

import time

import torch
from torch import nn

import farfield as ff


def toy() -> nn.Module:
    return ff.gaussian_init_(ff.mlp(10, [128, 128], 1), weight_var=2.0, bias_var=0.01)


def deep(norm: str | None = None) -> nn.Module:
    model = ff.mlp(10, [64] * 40, 1, norm=norm)
    return ff.gaussian_init_(model, weight_var=2.5, bias_var=0.0)


NETWORKS = {
    "toy: 2 x 128, weight_var 2": toy,
    "40 x 64, weight_var 2.5": deep,
    "the same with LayerNorm": lambda: deep("layer"),
}


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 10, generator=generator)
    columns: dict[str, list[str]] = {}
    for name, build in NETWORKS.items():
        begin = time.perf_counter()
        told = ff.diagnose(build, x, x[:, 0] * x[:, 1])
        seconds = time.perf_counter() - begin
        spread, flow, training = told.dispersion, told.gradients, told.training
        assert training is not None
        tails = f", the largest draw has {spread.largest_share:.0%}" if spread.heavy_tailed else ""
        predicted = "none" if spread.predicted is None else f"{spread.predicted:.3g}"
        columns[name] = [
            told.verdict,
            f"{told.depth_to_width:.3g}",
            f"{spread.value:.3g} [{spread.interval[0]:.3g}, {spread.interval[1]:.3g}]{tails}",
            predicted,
            f"{spread.median_log:.3g}, {spread.spread_log:.2g}",
            f"{flow.phase}, {flow.slope:+.3f} [{flow.interval[0]:+.3f}, {flow.interval[1]:+.3f}]",
            f"{told.agreement.correlation:.2f}",
            f"{training.change:.2f}",
            f"{training.loss_before:.3g} to {training.loss_after:.2g}",
            f"{seconds:.0f} s",
        ]
    rows = [
        "verdict",
        "depth / width",
        "dispersion",
        "predicted",
        "log T: median, between quartiles",
        "gradients, slope of the log variance per layer",
        "correlation with infinite width",
        "change of the kernel in training",
        "loss",
        "time",
    ]
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for place, row in enumerate(rows):
        print(f"| {row} | {' | '.join(cells[place] for cells in columns.values())} |")


if __name__ == "__main__":
    main()
