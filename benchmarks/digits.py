"""A finished example: the tangent kernel of a small CNN on scikit-learn's digits.

Trains the network and its linearisation on the same 400 digits and prints the spectrum of the
kernel at the start and at the end, its alignment with the classes, and the accuracies on held-out
digits; ``--figure FOLDER`` draws them. Takes a few minutes; needs scikit-learn
(``pip install 'farfield[tabular]'``).
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure as Canvas
from sklearn.datasets import load_digits
from torch import Tensor, nn

import farfield as ff
from farfield.report.figures import save
from farfield.studies.shared.palette import STROKES
from farfield.studies.shared.story import Figure


def network() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def digits(train: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images and labels."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(found.images).float()[order, None] / 16.0 - 0.3
    y = torch.from_numpy(found.target)[order]
    return x[:train], y[:train], x[train:], y[train:]


def train_with(
    model: nn.Module, x: Tensor, y: Tensor, test: tuple[Tensor, Tensor], epochs: int, rate: float
) -> dict[int, float]:
    """Full-batch gradient descent with momentum; the accuracy on other digits at some steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    found = {}
    for step in range(epochs + 1):
        if step in (0, 1, 2, 3, 5, 7) or step % max(1, epochs // 30) == 0:
            found[step] = accuracy(model, *test)
        optimizer.zero_grad()
        (model(x) - y).square().sum(1).mean().div(2).backward()
        if step < epochs:
            optimizer.step()
    return found


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of digits that are told right."""
    return float((model(x).argmax(1) == labels).double().mean())


def describe(name: str, model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """Print spectrum, effective rank and alignment of a kernel; return it."""
    kernel = ff.empirical_ntk(model)(x).double()
    values = torch.linalg.eigvalsh(kernel).flip(0)
    top = " ".join(f"{value:.3g}" for value in values[[0, 1, 2, 9, 49, 199]].tolist())
    rank = (values.sum() ** 2 / values.square().sum()).item()
    y = targets.double()
    alignment = ((y * (kernel @ y)).sum() / kernel.norm() / y.square().sum()).item()
    print(f"{name}: eigenvalues 1, 2, 3, 10, 50, 200: {top}")
    print(f"{name}: effective rank {rank:.2f}, alignment with the classes {alignment:.3f}")
    return kernel


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--figure", type=Path, help="folder for digits.png and digits.svg")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    x, labels, x_test, labels_test = digits(arguments.train)
    targets = nn.functional.one_hot(labels, 10).float() - 0.1
    model = network()
    first = copy.deepcopy(model)
    linear = ff.linearize(model)
    start = describe("start", model, x, targets)
    largest, _ = ff.ntk_operator(model, x).eigenpairs(1, tolerance=1e-2)
    rate = 0.5 * len(x) / largest.item()
    print(f"learning rate: {rate:.3g}, half of 1 / the largest eigenvalue of the mean loss")
    curves = {}
    for name, net in (("network", model), ("linearised", linear)):
        test = (x_test, labels_test)
        curves[name] = train_with(net, x, targets, test, arguments.epochs, rate)
        print(
            f"{name}: accuracy {accuracy(net, x, labels):.3f} on training digits, "
            f"{accuracy(net, *test):.3f} on others"
        )
    end = describe("end", model, x, targets)
    cosine = (start * end).sum() / (start.norm() * end.norm())
    print(f"the kernel has turned by 1 - cosine = {1 - cosine.item():.3f}")
    ntk = ff.empirical_ntk(first)
    ridge = 1e-3 * start.trace() / len(start)
    solved = torch.linalg.solve(start + ridge * torch.eye(len(start)).double(), targets.double())
    predicted = ntk(x_test, x).double() @ solved
    regression = (predicted.argmax(1) == labels_test).double().mean().item()
    print(f"kernel regression with the kernel at the start: accuracy {regression:.3f} on others")
    if arguments.figure:
        draw = partial(panels, spectra={"start": start, "end": end}, curves=curves)
        arguments.figure.mkdir(parents=True, exist_ok=True)
        save(Figure("digits", "The tangent kernel of a CNN", draw, (7.2, 3.2)), arguments.figure)


def panels(
    canvas: Canvas, *, spectra: dict[str, Tensor], curves: dict[str, dict[int, float]]
) -> None:
    """The kernel's spectrum before and after training; accuracies during training."""
    left, right = canvas.subplots(1, 2)
    strokes = [STROKES["first"], STROKES["standard"]]
    for (name, kernel), stroke in zip(spectra.items(), strokes, strict=True):
        values = torch.linalg.eigvalsh(kernel).flip(0).clamp(min=0.0)
        places = range(1, len(values) + 1)
        left.loglog(places, values, color=stroke.colour, linestyle=stroke.style, label=name)
    left.set(xlabel="number", ylabel="eigenvalue", title="Spectrum of the kernel")
    left.xaxis.set_major_formatter("{x:g}")
    left.yaxis.set_major_formatter("{x:g}")
    for (name, curve), stroke in zip(curves.items(), reversed(strokes), strict=True):
        right.plot(
            list(curve), list(curve.values()), color=stroke.colour, linestyle=stroke.style,
            label=name,
        )  # fmt: skip
    right.set(xlabel="step", ylabel="accuracy on other digits", title="Training", ylim=(0.0, 1.0))
    for axes in (left, right):
        axes.legend()


if __name__ == "__main__":
    main()
