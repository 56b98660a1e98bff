"""The forms of the bound on the toy data, and widths of networks against their gradient flow.

``make toy-bounds`` prints the tables of docs/regression.md. The data are those of the toy study
(``farfield reproduce toy``) without noise: a sine, a line and a parabola at evenly spaced points on
[-3, 3]; the networks have two hidden ReLU layers in the paper's parametrisation (weight variance 1
in the first layer and 2 above, bias variance 0.01, LayerNorm without gain, bias and eps).
"""

from __future__ import annotations

import argparse
import warnings

import torch
from torch import Tensor, nn

import farfield as ff
from farfield.errors import ConditioningWarning
from farfield.infinite import InfiniteWidth
from farfield.studies.toy import FUNCTIONS

PLACES: dict[str, int | str | None] = {
    "LN first": 0,
    "LN last": 1,
    "LN every": "every",
    "no LN": None,
}


def network(norm_at: int | str | None) -> InfiniteWidth:
    norm = None if norm_at is None else "layer"
    model = ff.mlp(1, [128, 128], 1, norm=norm, norm_at=0 if norm_at is None else norm_at)
    for module in model:
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.0
            module.requires_grad_(False)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return ff.infinite_width(model, dict(zip(names, [1.0, 2.0, 2.0], strict=True)), 0.01)


def bounds(points: int) -> None:
    x = torch.linspace(-3, 3, points, dtype=torch.float64)[:, None]
    columns = "C", "lambda_min", "norm", "root", "linear", "largest found", "f(25)", "limit"
    print(f"| {points} points | function | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 2))
    for name, place in PLACES.items():
        limit = network(place)
        for function, values in FUNCTIONS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConditioningWarning)
                fit = ff.KernelRegression(limit.ntk).fit(x, values(x))
            cert = ff.certify(fit)
            ray = cert.along(torch.ones(1, dtype=torch.float64))
            forms = cert.forms
            found: list[float | str] = [cert.kernel_bound.value, fit.smallest_eigenvalue]
            found += (
                [float(f) for f in (forms.norm, forms.root, forms.linear)]
                if forms
                else 3 * ["none"]
            )
            found += [cert.worst_found.value, float(fit.predict(25.0 + 0 * x[:1]))]
            cells = [value if isinstance(value, str) else f"{value:.3g}" for value in found]
            growth = f" t^{ray.degree:g}" if ray.degree else ""
            cells.append(f"{float(ray.coefficient):.3g}{growth}")
            print(f"| {name} | {function} | {' | '.join(cells)} |", flush=True)


def gap(width: int, seed: int, steps: int = 100) -> float:
    """Root mean square difference of a trained network and its flow, at six new inputs."""
    x = torch.tensor([[-1.0], [-0.4], [0.5], [1.2]], dtype=torch.float64)
    y, new = torch.sin(2 * x), torch.linspace(-3, 3, 6, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(seed)
    model = ff.mlp(1, [width], 1).double()
    ff.gaussian_init_(model, 2.0, 0.1, generator)
    limit = ff.infinite_width(model, parameterization="standard")
    flow = ff.GradientFlow(limit.ntk, x, y, initial=model)
    step = 0.2 * flow.largest_stable_step
    expected = flow.predict(new, steps=steps, step_size=step)
    optimizer = torch.optim.SGD(model.parameters(), lr=step)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    difference: Tensor = model(new).detach() - expected
    return float(difference.square().mean().sqrt())


def widths(draws: int) -> None:
    print(
        "| width | difference of trained network and flow, root mean square | times sqrt(width) |"
    )
    print("|---|---|---|")
    for width in (64, 256, 1024, 4096):
        gaps = torch.tensor([gap(width, seed) for seed in range(draws)])
        mean = float(gaps.square().mean().sqrt())
        print(f"| {width} | {mean:.4f} | {mean * width**0.5:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[20])
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    for points in options.points:
        bounds(points)
        print()
    widths(options.draws)


if __name__ == "__main__":
    main()
