"""Tangent kernels of random networks of every depth: all at once against a plain loop.

Run it with ``make bench-dispersion`` on an otherwise idle machine. Both sides compute, for the same
random ReLU networks, Theta(x, x') of the first input with all eleven for networks of 1 to 49 hidden
layers, in single precision, in this process, in alternation. The plain loop is what one writes in
PyTorch: for each network and depth the gradients of all outputs by autograd, and their products.
The study gets all values of sigma_w squared from one pass; the loop would run for each.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from farfield.studies.dispersion import Settings
from farfield.studies.dispersion.draws import drawn_networks
from farfield.studies.dispersion.kernels import products

Draw = tuple[Tensor, list[Tensor], Tensor]


def at_once(draw: Draw, scales: list[float]) -> Tensor:
    """All depths, inputs and variances: (variances, networks, depths, inputs)."""
    from_weights, from_biases = products(*draw).kernels(scales)
    return from_weights + from_biases


def plain(draw: Draw, depths: int) -> Tensor:
    """One network and depth after the other, for one variance: (networks, depths, inputs)."""
    x, weights, readouts = draw
    found = x.new_zeros(len(x), depths, x.shape[1])
    for network in range(len(x)):
        for depth in range(1, depths + 1):
            layers: list[nn.Module] = []
            for weight in [
                *(w[network] for w in weights[:depth]),
                readouts[network, depth - 1, None],
            ]:
                linear = nn.Linear(weight.shape[1], weight.shape[0])
                with torch.no_grad():
                    linear.weight.copy_(weight)
                    linear.bias.zero_()
                layers += [linear, nn.ReLU()]
            model = nn.Sequential(*layers[:-1])
            outputs = model(x[network])[:, 0]
            rows = [
                torch.cat(
                    [
                        part.flatten()
                        for part in torch.autograd.grad(
                            output, list(model.parameters()), retain_graph=True
                        )
                    ]
                )
                for output in outputs
            ]
            gradients = torch.stack(rows)
            found[network, depth - 1] = gradients @ gradients[0]
    return found


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--plain-draws", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    settings = Settings(draws=given.draws, further_draws=2)
    scales = [variance / 2.0 for variance in settings.weight_vars]
    critical = scales.index(1.0)
    x, weights, readouts = next(iter(drawn_networks(settings, 0, given.draws)))
    drawn = len(x)
    few = min(given.plain_draws, drawn)
    part = x[:few], [weight[:few] for weight in weights], readouts[:few]
    times: dict[str, list[float]] = {"all at once": [], "plain loop": []}
    for _ in range(given.repetitions):
        begin = time.perf_counter()
        found = at_once((x, weights, readouts), scales)
        times["all at once"].append((time.perf_counter() - begin) / drawn)
        begin = time.perf_counter()
        expected = plain(part, settings.depths)
        times["plain loop"].append((time.perf_counter() - begin) / few)
    error = float((found[critical, :few] / expected.double() - 1.0).abs().max())
    fast, slow = (min(times[side]) for side in ("all at once", "plain loop"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{settings.depths} depths, width {settings.width}, {x.shape[1]} inputs")
    print(f"plain loop, one sigma_w^2:        {1e3 * slow:9.1f} ms a draw")
    print(f"all at once, {len(scales)} sigma_w^2:        {1e3 * fast:9.1f} ms a draw")
    print(f"times faster for one sigma_w^2:   {slow / fast:9.1f}")
    print(f"times faster for all {len(scales)}:          {len(scales) * slow / fast:9.1f}")
    print(f"largest relative difference:      {error:9.1e}")


if __name__ == "__main__":
    main()
