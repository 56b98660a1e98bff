"""The tangent kernels of finite networks: farfield, PyTorch's tutorial and neural-tangents.

Run it with ``make bench-empirical`` on an otherwise idle machine. Every contender computes the same
kernel in a process of its own; the processes take turns. Printed are the best wall time of all
repetitions, the peak of memory above the start, and how close farfield comes to the floor, measured
in the same process: PyTorch's own passes forwards and, once for each output, backwards to the
layers, and the operations of the cheapest products at this machine's rate of matrix products.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

import farfield as ff
from farfield.empirical.costs import Pair, clusters, costs
from farfield.empirical.graph import graph_of
from farfield.empirical.masked import cost, masks_of
from farfield.empirical.signals import signals_at
from peer_kernels import forget_peak, memory, timed
from peer_tangents import METHODS

HERE = Path(__file__).parent


def mlp(outputs: int, width: int = 512, depth: int = 3) -> nn.Module:
    return ff.mlp(64, [width] * depth, outputs)


def cnn() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, following in ((3, 32), (32, 32)):
        layers += [nn.Conv2d(channels, following, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    layers += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


class Basic(nn.Module):
    """The block of ResNet-18."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.short: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.short = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, h: Tensor) -> Tensor:
        return torch.relu(self.inner(h) + self.short(h))


def resnet18() -> nn.Module:
    """11 million parameters, as He et al. (2016) have them, with 10 outputs."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    channels = 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Basic(channels, out, stride), Basic(out, out, 1)]
        channels = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(*layers, *head).eval()


class Encoder(nn.Module):
    """Six transformer layers on sequences of 64, with one output."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(128, 1)

    def forward(self, h: Tensor) -> Tensor:
        mixed: Tensor = self.head(self.layers(h).mean(1))
        return mixed


Case = tuple[Callable[[], nn.Module], tuple[int, ...], str]
CASES: dict[str, Case] = {
    "mlp": (lambda: mlp(1), (256, 64), "mean"),
    "mlp, 10 outputs": (lambda: mlp(10), (128, 64), "full"),
    "cnn": (cnn, (32, 3, 32, 32), "full"),
    "resnet-18": (resnet18, (64, 3, 64, 64), "full"),
    "transformer": (lambda: Encoder().eval(), (128, 64, 128), "mean"),
}
WITH_PEER = ("mlp", "mlp, 10 outputs", "cnn")
PARTS = {"resnet-18": 8}
"""Samples whose Jacobian the tutorial holds at once, where that of all does not fit."""


def tutorial(model: nn.Module, x: Tensor, kind: str, part: int) -> Tensor:
    """PyTorch's tutorial: vmap of jacrev, contracted parameter by parameter.

    Where the Jacobian of all samples does not fit, those of two parts are held at a time, and made
    again for each other part; what is below the diagonal is copied then.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(values: dict[str, Tensor], point: Tensor) -> Tensor:
        result: Tensor = functional_call(model, values, (point[None],))[0]
        return result

    def rows_of(points: Tensor) -> list[Tensor]:
        found = vmap(jacrev(outputs), (None, 0))(parameters, points)
        return [jacobian.flatten(2) for jacobian in found.values()]

    def product(left: list[Tensor], right: list[Tensor]) -> Tensor:
        form = "iap,jbp->iajb" if kind == "full" else "iap,jap->ij"
        total: Any = 0
        for first, second in zip(left, right, strict=True):
            total = total + torch.einsum(form, first, second)
        kernel: Tensor = total if kind == "full" else total / left[0].shape[1]
        return kernel

    if part >= len(x):
        rows = rows_of(x)
        return product(rows, rows)
    if kind != "full":
        raise AssertionError("parts are put together only for all pairs of outputs")
    found: list[list[Tensor]] = [[] for _ in x.split(part)]
    for number, points in enumerate(x.split(part)):
        left = rows_of(points)
        found[number] = [found[above][number].permute(2, 3, 0, 1) for above in range(number)]
        found[number].append(product(left, left))
        for others in x.split(part)[number + 1 :]:
            found[number].append(product(left, rows_of(others)))
    return torch.cat([torch.cat(row, 2) for row in found])


def floor(model: nn.Module, x: Tensor, kind: str) -> tuple[float, float]:
    """Operations of the passes through the model and of the products, in 10^9."""
    engine = ff.empirical_ntk(model, outputs=kind)._engine
    engine.gradients(x[:4])  # what is learnt once
    with FlopCounterMode(display=False) as counter:
        block = engine.gradients(x)
    passes = counter.get_total_flops()
    products = 0.0
    for names in block.block.plan.units:
        for cluster in clusters([Pair(f, f) for f in map(block.factor, names)]):
            if masks_of(cluster, engine.mode.kind, True):
                products += 2 * cost(cluster, engine.mode.kind, True)
                continue
            first, second = costs(cluster, engine.mode.kind, True)
            gram, dense = costs(cluster, engine.mode.kind, True, counted=False)
            products += 2 * (gram if first <= second else dense)
    return passes / 1e9, products / 1e9


def pass_seconds(model: nn.Module, x: Tensor, kind: str, repeats: int, seconds: float) -> float:
    """Best time of a pass forwards and one backwards to the layers for each direction."""
    engine = ff.empirical_ntk(model, outputs=kind)._engine
    engine.gradients(x)
    plan = engine.gradients(x).block.plan  # the first call learns it
    ordered = any(plan is other for other in engine._passes._channels_last.values())
    forward = replace(engine.forward, channels_last=ordered)
    names = {id(parameter): name for name, parameter in engine.parameters.items()}

    def passes() -> None:
        outputs = forward(x)
        graph = graph_of(outputs, names)
        for cotangent in engine.mode.cotangents(outputs.detach()):
            signals_at(outputs, graph, plan.nodes, cotangent)

    return min(timed(passes, repeats, seconds))


def tutorial_operations(model: nn.Module, x: Tensor, kind: str) -> float:
    """Operations of vmap of jacrev and of the products of its Jacobians, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        outputs = model(x[:1])
    forward = counter.get_total_flops()
    parameters = list(model.parameters())
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(outputs[0, 0], parameters)
    samples, directions = len(x), outputs.shape[1]
    pairs = (samples * directions) ** 2 if kind == "full" else samples**2 * directions
    entries = sum(parameter.numel() for parameter in parameters)
    passes = samples * (forward + directions * counter.get_total_flops())
    return float(passes + 2 * entries * pairs) / 1e9


def gemm_rate(seconds: float = 0.5) -> float:
    """10^9 operations a second of square products, best of several."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        a @ b
        best = max(best, 2 * 1024**3 / (time.perf_counter() - begin) / 1e9)
    return best


def measure(contender: str, case: str, repeats: int, seconds: float, budget: str) -> dict[str, Any]:
    """Best time and peak of memory in this process."""
    make, shape, kind = CASES[case]
    torch.manual_seed(0)
    model, x = make(), torch.randn(*shape)
    call: Callable[[], Tensor]
    if contender == "farfield":
        call = partial(ff.empirical_ntk(model, outputs=kind, memory=budget), x)
    else:
        call = partial(tutorial, model, x, kind, PARTS.get(case, len(x)))
    start = memory("VmRSS")
    forget_peak()
    begin = time.perf_counter()
    mean = call().double().norm().item()
    runs = [time.perf_counter() - begin]
    peak = memory("VmHWM") - start
    if runs[0] < 60:
        runs += timed(call, repeats - 1, seconds)
    found = {"seconds": min(runs), "first": runs[0], "megabytes": peak, "norm": mean}
    if contender == "farfield":
        passes, products = floor(model, x, kind)
        rate = gemm_rate()
        found |= {"passes": passes, "products": products, "rate": rate}
        found["pass_seconds"] = pass_seconds(model, x, kind, repeats, seconds)
        found["tutorial"] = tutorial_operations(model, x, kind)
    return found


def run(line: list[str], threads: int, limit: int = 1800) -> dict[str, Any] | None:
    """What a contender prints; ``None`` if it has run out of memory or time."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            line, env=environment, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr.splitlines()[-1] if done.stderr else f"ended with {done.returncode}")
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(arguments: argparse.Namespace) -> None:
    """All contenders on all cases, taking turns."""
    for case in arguments.cases:
        sizes = ["--repeats", str(arguments.repeats), "--threads", str(arguments.threads)]
        sizes += ["--seconds", str(arguments.seconds)]
        options = [*sizes, "--memory", arguments.memory]
        best: dict[str, dict[str, Any]] = {}
        for _ in range(arguments.rounds):
            for contender in ("farfield", "tutorial"):
                line = [sys.executable, __file__, "--contender", contender, "--case", case]
                found = run([*line, *options], arguments.threads)
                if found and found["seconds"] < best.get(contender, found)["seconds"] + 1e-9:
                    best[contender] = found
            for method in METHODS if arguments.peer_python and case in WITH_PEER else ():
                script = str(HERE / "peer_tangents.py")
                line = [arguments.peer_python, script, "--case", case, "--method", method]
                found = run([*line, *sizes], 1, arguments.peer_limit)
                if found:
                    entry = best.setdefault(f"peer: {method}", found)
                    entry["seconds"] = min(entry["seconds"], found["seconds"])
        show(case, best)


def show(case: str, best: dict[str, dict[str, Any]]) -> None:
    """One table."""
    _, shape, kind = CASES[case]
    print(f"\n{case}: {kind}, inputs {tuple(shape)}, float32")
    own = best["farfield"]
    for contender, found in best.items():
        line = f"  {contender:30}{found['seconds']:9.4f} s"
        line += f"{found['seconds'] / own['seconds']:8.1f} x"
        if "megabytes" in found:
            line += f"{found['megabytes']:9.0f} MB"
            if abs(found["norm"] / own["norm"] - 1) > 1e-4:
                line += "   DIFFERENT VALUES"
        print(line)
    work = own["passes"] + own["products"]
    share = work / own["rate"] / own["seconds"]
    print(
        f"  operations: {own['passes']:.2f} e9 forwards and backwards, {own['products']:.2f} e9 in "
        f"products; at {own['rate']:.0f} e9/s {work / own['rate']:.4f} s: {share:.0%} of that rate"
    )
    floor = own["pass_seconds"] + own["products"] / own["rate"]
    print(
        f"  floor: {own['pass_seconds']:.4f} s in PyTorch's passes, {floor:.4f} s with the "
        f"products: {floor / own['seconds']:.0%} of the time"
    )
    print(
        f"  the tutorial: {own['tutorial']:.2f} e9 operations, {own['tutorial'] / work:.1f} times "
        f"as many; {own['tutorial'] / own['passes']:.1f} times those of the passes alone"
    )


def scaling() -> None:
    """Time against samples, outputs, width and depth."""
    cases = {
        "samples": [(n, 1, 256, 3) for n in (64, 128, 256, 512, 1024, 2048)],
        "outputs": [(64, o, 256, 3) for o in (1, 4, 16, 64)],
        "width": [(256, 1, w, 3) for w in (64, 128, 256, 512, 1024, 2048)],
        "hidden layers": [(256, 1, 256, d) for d in (1, 2, 4, 8, 16)],
    }
    places = {"samples": 0, "outputs": 1, "width": 2, "hidden layers": 3}
    for name, settings in cases.items():
        print(f"\n{name:>14}   seconds (mlp, all pairs of outputs)")
        for setting in settings:
            n, outputs, width, depth = setting
            kernel = ff.empirical_ntk(mlp(outputs, width, depth), outputs="full")
            x = torch.randn(n, 64)
            kernel(x)
            runs = []
            for _ in range(5):
                begin = time.perf_counter()
                kernel(x)
                runs.append(time.perf_counter() - begin)
            print(f"{setting[places[name]]:14} {min(runs):9.4f}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="runs in each process, at least")
    parser.add_argument("--seconds", type=float, default=2.0, help="of runs in each, at least")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each contender")
    parser.add_argument("--peer-python", help="Python with neural-tangents; without it, no peer")
    parser.add_argument("--peer-limit", type=int, default=300, help="seconds for a peer's way")
    parser.add_argument("--memory", default="2GB", help="farfield's budget")
    parser.add_argument("--costs", action="store_true", help="only time against sizes of an MLP")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.contender:
        task = arguments.contender, arguments.case
        print(json.dumps(measure(*task, arguments.repeats, arguments.seconds, arguments.memory)))
        return
    if arguments.costs:
        scaling()
        return
    compare(arguments)


if __name__ == "__main__":
    main()
