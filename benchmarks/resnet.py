"""A finished example: the tangent kernel of a full-size ResNet-18 with random weights.

The model is Hugging Face's, made from its config (11 million parameters, nothing is downloaded).
Prints the spectrum of the kernel of some random images, its effective rank, which stages of the
network it comes from, and time and peak memory. Needs transformers
(``pip install transformers``).
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from transformers import ResNetConfig, ResNetForImageClassification

import farfield as ff


def main() -> None:
    """Parse, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--memory", default="1GB")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = ResNetConfig(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], num_labels=10
    )
    model = ResNetForImageClassification(config).eval()
    size = sum(parameter.numel() for parameter in model.parameters())
    images = torch.randn(arguments.images, 3, arguments.pixels, arguments.pixels)
    print(f"{size:,} parameters, {len(images)} images of {arguments.pixels} x {arguments.pixels}")
    before = peak()
    started = time.perf_counter()
    kernels = ff.empirical_ntk(
        model, by="module", output="logits",
        memory=arguments.memory,
    )(images)  # fmt: skip
    print(
        f"mean over 10 outputs: {time.perf_counter() - started:.1f} s, peak memory "
        f"{before / 1e9:.2f} GB before, {peak() / 1e9:.2f} GB after "
        f"(the Jacobian would take {4e-9 * 10 * len(images) * size:.0f} GB)"
    )
    whole = torch.stack(list(kernels.values())).double().sum(0)
    values = torch.linalg.eigvalsh(whole).flip(0)
    places = [place for place in (1, 2, 3, 10, len(images)) if place <= len(images)]
    print(f"eigenvalues {', '.join(map(str, places))}: "
          + ", ".join(f"{values[place - 1]:.4g}" for place in places))  # fmt: skip
    print(f"effective rank {values.sum() ** 2 / values.square().sum():.2f}")
    stages: dict[str, float] = {}
    for name, kernel in kernels.items():
        stages[stage_of(name)] = stages.get(stage_of(name), 0.0) + kernel.trace().item()
    for stage, trace in stages.items():
        print(f"{stage:9} {trace / whole.trace().item():6.1%} of the trace")


def stage_of(name: str) -> str:
    """The part of the network that a module belongs to."""
    parts = name.split(".")
    return f"stage {int(parts[3]) + 1}" if "stages" in parts else (
        "stem" if "embedder" in parts else "head"
    )  # fmt: skip


def peak() -> float:
    """Peak memory of the process, in bytes."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
