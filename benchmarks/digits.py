"""A finished example: the tangent kernel of a small CNN on scikit-learn's digits.

Trains the network and its linearisation on the same 400 digits and prints the spectrum of the
kernel at the start and at the end, its alignment with the classes, and the accuracies on held-out
digits. Takes about a minute; needs scikit-learn (``pip install 'farfield[tabular]'``).
"""

from __future__ import annotations

import argparse
import copy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import farfield as ff


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


def train_with(model: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float) -> None:
    """Full-batch gradient descent with momentum on the squared loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(epochs):
        optimizer.zero_grad()
        (model(x) - y).square().sum(1).mean().div(2).backward()
        optimizer.step()


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
    for name, net in (("network", model), ("linearised", linear)):
        train_with(net, x, targets, arguments.epochs, rate)
        with torch.no_grad():
            found = [(net(a).argmax(1) == b).float().mean().item() for a, b in
                     ((x, labels), (x_test, labels_test))]  # fmt: skip
        print(f"{name}: accuracy {found[0]:.3f} on training digits, {found[1]:.3f} on others")
    end = describe("end", model, x, targets)
    cosine = (start * end).sum() / (start.norm() * end.norm())
    print(f"the kernel has turned by 1 - cosine = {1 - cosine.item():.3f}")
    ntk = ff.empirical_ntk(first)
    ridge = 1e-3 * start.trace() / len(start)
    solved = torch.linalg.solve(start + ridge * torch.eye(len(start)).double(), targets.double())
    predicted = ntk(x_test, x).double() @ solved
    accuracy = (predicted.argmax(1) == labels_test).double().mean().item()
    print(f"kernel regression with the kernel at the start: accuracy {accuracy:.3f} on others")


if __name__ == "__main__":
    main()
