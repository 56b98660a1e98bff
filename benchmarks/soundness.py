"""Certificates against adversarial inputs: is a proven bound ever exceeded, and how close is it?

Run with ``make soundness`` (about an hour of one core). With ``--keep rows.jsonl`` each network is
written to a file as it is done; a second run goes on from there, and several runs may share the
work (``--first``, ``--networks``), each with a file of its own: ``--keep`` takes several.

Random networks over all rules, half of them trained, are certified; each is then attacked with at
least 100,000 inputs in float64: rays up to 1e12, scattered inputs, and gradient ascent on every
output from a thousand starts. A network without a bound is attacked along rays: it must not grow
faster than the proven degree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import farfield as ff
from farfield.growth import Certificate, Effort, certify_model
from random_networks import Case, draw


@dataclass(frozen=True)
class Row:
    """What one network gave."""

    name: str
    verdict: str
    proven: bool
    inputs: int
    ratio: float
    exceeded: bool
    seconds: float


def effort(outputs: int, tokens: int, least: int) -> Effort:
    """Enough for so many inputs."""
    if tokens:
        return Effort(rays=least // 8 + 1, starts=16, steps=20)
    rays, steps, searched = max(8, least // 100), 40, min(outputs, 4)
    starts = least // (2 * searched * steps) + 2
    starts = 2 * (starts // 2 + 1)
    cells = max(500, least // 5)
    descent = 120 if least >= 10_000 else 12
    return Effort(rays, starts, steps, searched, cells, descent=descent)


def attack(case: Case, least: int) -> Row:
    """Certify a network and search for an input that exceeds the bound."""
    shape = case.shape
    size = torch.long if case.tokens else torch.float32
    with torch.no_grad():
        outputs = case.model(torch.zeros(1, *shape, dtype=size)).numel()
    begin = time.perf_counter()
    cert = certify_model(case.model, shape, case.domain, effort(outputs, case.tokens, least))
    seconds = time.perf_counter() - begin
    return Row(
        case.name, cert.verdict, bool(cert.bounded), cert.worst_found.evaluations, cert.ratio,
        exceeds(cert), seconds,
    )  # fmt: skip


def exceeds(cert: Certificate) -> bool:
    """Whether anything found contradicts what is proven."""
    found, bound, escape = cert.worst_found, cert.bound, cert.growth.found
    over = (found.upper > bound.upper.flatten()) | (found.lower < bound.lower.flatten())
    faster = escape is not None and escape.degree > cert.growth.degree + 0.01
    return bool(over.any()) or faster


def two_hidden(seed: int, place: str) -> nn.Module:
    """A ReLU network with two hidden layers and LayerNorm; every second one is trained."""
    generator = torch.Generator().manual_seed(seed)
    width = int(16 * 2 ** (3 * torch.rand((), generator=generator)))
    features = int(torch.randint(1, 21, (), generator=generator))
    return network(width, features, place, seed, trained=seed % 2 == 1)


def network(width: int, features: int, place: str, seed: int, *, trained: bool) -> nn.Module:
    """A ReLU network with two hidden layers and LayerNorm."""
    generator = torch.Generator().manual_seed(seed)
    model = ff.mlp(features, [width, width], 1, norm="layer", norm_at=place)
    ff.gaussian_init_(model, generator=generator)
    if trained:
        x = torch.randn(256, features, generator=generator)
        y = torch.sin(x.sum(1, keepdim=True)) + 0.3 * x[:, :1]
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(500):
            optimiser.zero_grad()
            (model(x) - y).square().mean().backward()
            optimiser.step()
    return model.eval()


def tightness(count: int, least: int) -> None:
    """Print the table of bound / worst found."""
    print(
        "\nTwo hidden layers of ReLU, widths 16 to 128, 1 to 20 inputs:\n\n"
        "| bound / largest found | networks | median | largest |\n|---|---|---|---|"
    )
    everything: list[float] = []
    for place in ("first", "last", "every"):
        for trained in (False, True):
            ratios = []
            for seed in range(int(trained), 2 * count, 2):
                model = two_hidden(seed, place)
                cert = certify_model(model, effort=effort(1, 0, least))
                ratios.append(cert.ratio)
            everything += ratios
            print_ratios(f"LayerNorm {place}, {'trained' if trained else 'untrained'}", ratios)
    print_ratios("all of them", everything)
    print_ratios("LayerNorm -> Linear", exact(count, least, nn.Identity))
    print_ratios("Linear -> LayerNorm -> Linear", exact(count, least, lambda d: nn.Linear(d, 16)))


def exact(count: int, least: int, before: Callable[[int], nn.Module]) -> list[float]:
    """Ratios of networks whose bound is exact."""
    ratios = []
    for seed in range(count):
        torch.manual_seed(seed)
        features = 2 + seed % 19
        first = before(features)
        width = 16 if isinstance(first, nn.Linear) else features
        norm = nn.LayerNorm(width)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        model = nn.Sequential(first, norm, nn.Linear(width, 2)).eval()
        ratios.append(certify_model(model, (features,), effort=effort(2, 0, least)).ratio)
    return ratios


def print_ratios(name: str, ratios: list[float]) -> None:
    """A row of the table."""
    print(
        f"| {name} | {len(ratios)} | {statistics.median(ratios):.4g} | {max(ratios):.4g} |",
        flush=True,
    )


def few_inputs(widths: list[int]) -> None:
    """Print the ratios of networks of few inputs, by the place of the norm."""
    places = ("first", "last", "every")
    print("\n| width | inputs | " + " | ".join(f"{p}, {t}" for p in places
          for t in ("untrained", "trained")) + " | seconds, at most |")  # fmt: skip
    print("|---|---|" + "---|" * 7)
    for width in widths:
        for features in (1, 2, 3):
            cells, slowest = [], 0.0
            for place in places:
                for trained in (False, True):
                    model = network(width, features, place, features, trained=trained)
                    begin = time.perf_counter()
                    cells.append(f"{certify_model(model).ratio:.3f}")
                    slowest = max(slowest, time.perf_counter() - begin)
            row = " | ".join(cells)
            print(f"| {width} | {features} | {row} | {slowest:.0f} |", flush=True)


def groups(widths: list[int], inputs: list[int], count: int, file: Path | None) -> None:
    """Print the ratios by the place of the norm, the width and the inputs, with default effort."""
    known: dict[str, list[float]] = {}
    if file is not None and file.exists():
        known = dict(json.loads(line) for line in file.read_text().splitlines())
    print("\nTwo hidden layers of ReLU, default effort, half of them trained:\n\n"
          "| LayerNorm | width | inputs | networks | median | largest | seconds, median |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    for place in ("first", "last", "every"):
        for width in widths:
            for features in inputs:
                ratios, seconds = [], []
                for seed in range(count):
                    key = f"{place} {width} {features} {seed}"
                    if key not in known:
                        model = network(width, features, place, seed, trained=seed % 2 == 1)
                        begin = time.perf_counter()
                        ratio = certify_model(model).ratio
                        known[key] = [ratio, time.perf_counter() - begin]
                        if file is not None:
                            with file.open("a") as out:
                                out.write(json.dumps([key, known[key]]) + "\n")
                    ratios.append(known[key][0])
                    seconds.append(known[key][1])
                print(
                    f"| {place} | {width} | {features} | {count} | {statistics.median(ratios):.3g} "
                    f"| {max(ratios):.3g} | {statistics.median(seconds):.0f} |",
                    flush=True,
                )


def kept(files: list[Path]) -> dict[int, Row]:
    """The networks that earlier runs have written, by seed."""
    rows = {}
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else []:
            values = json.loads(line)
            seed = values.pop("seed")
            rows[seed] = Row(**values)
    return rows


def print_rows(rows: dict[int, Row]) -> None:
    """The table of soundness."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows.values():
        groups[row.name].append(row)
    print("| networks | count | proven bounded | grow | neither | inputs, at least | exceeded "
          "| median bound / found |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, group in groups.items():
        proven = [row for row in group if row.proven]
        grow = sum(row.verdict.startswith("grows") for row in group)
        ratio = statistics.median(row.ratio for row in proven) if proven else float("nan")
        print(
            f"| {name} | {len(group)} | {len(proven)} | {grow} | {len(group) - len(proven) - grow} "
            f"| {min(row.inputs for row in group):,} | {sum(row.exceeded for row in group)} "
            f"| {ratio:.3g} |"
        )
    exceeded = [seed for seed, row in rows.items() if row.exceeded]
    print(f"\n{len(rows)} networks, {len(exceeded)} exceeded {exceeded or ''}", flush=True)


def main() -> None:
    """Parse, attack, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="Seed of the first network.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--tight", type=int, default=15, help="Networks in each row of tightness.")
    parser.add_argument("--widths", type=int, nargs="*", default=[32, 128, 512],
                        help="Of the networks of few inputs.")  # fmt: skip
    parser.add_argument("--keep", type=Path, nargs="*", default=[],
                        help="Files of rows: all are read, the first is written.")  # fmt: skip
    parser.add_argument("--groups", type=int, default=4,
                        help="Networks for each place, width and number of inputs.")  # fmt: skip
    parser.add_argument("--group-widths", type=int, nargs="*", default=[32, 128, 512])
    parser.add_argument("--group-inputs", type=int, nargs="*", default=[1, 3, 5, 10, 20])
    parser.add_argument("--keep-groups", type=Path, help="A file of the ratios of groups.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ff.errors.AccuracyWarning)  # what it tells is counted

    rows = kept(options.keep)
    for seed in range(options.first, options.first + options.networks):
        if seed not in rows:
            rows[seed] = row = attack(draw(seed, trained=seed % 20 >= 10), options.inputs)
            print(f"{seed} {row}", file=sys.stderr, flush=True)
            if options.keep:
                with options.keep[0].open("a") as file:
                    file.write(json.dumps({"seed": seed, **asdict(row)}) + "\n")
    if rows:
        print_rows(rows)
    if options.tight:
        tightness(options.tight, options.inputs // 4)
    if options.widths:
        few_inputs(options.widths)
    if options.groups:
        groups(options.group_widths, options.group_inputs, options.groups, options.keep_groups)


if __name__ == "__main__":
    main()
