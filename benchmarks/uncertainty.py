"""The linearised Laplace posterior: its errors, what sees far inputs, and what it costs.

``make bench-laplace`` prints the tables of docs/uncertainty.md. The networks are small and trained
here: on a noisy sine over [-3, 3], on eight Gaussian features with noise, and on scikit-learn's
digits. Rows of laplace-torch are left out where it is not installed, those of proteins without
``--data FOLDER``.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff
from farfield.data import load_protein, prepare, split_by_threshold, train_test_rows
from farfield.data.digits import load_digits
from farfield.empirical.projections import projected
from farfield.uncertainty.network import Network, network_of

NORMS: dict[str, str | None] = {"no norm": None, "LayerNorm first": "layer"}
Loss = Callable[[Tensor, Tensor], Tensor]


def trained(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, steps: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return model.eval()


def laplace_torch() -> Any:
    if importlib.util.find_spec("laplace") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("laplace")


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def gradients(model: nn.Module, x: Tensor) -> Tensor:
    """(n, outputs, parameters), one backward pass for each."""
    parameters = list(model.parameters())
    rows = [
        torch.cat(
            [part.flatten() for part in torch.autograd.grad(value, parameters, retain_graph=True)]
        )
        for value in model(x).flatten()
    ]
    return torch.stack(rows).view(len(x), -1, len(rows[0]))


def dense(model: nn.Module, x: Tensor, new: Tensor, likelihood: str, p: float, s: float) -> Tensor:
    """Covariances of the outputs from the posterior over all parameters."""
    own, there, q = gradients(model, x), gradients(model, new), model(x).softmax(1)
    hessian = torch.diag_embed(q) - q[:, :, None] * q[:, None]
    if likelihood == "regression":
        hessian = torch.eye(own.shape[1], dtype=own.dtype).expand_as(hessian) / s
    precision = torch.einsum("iap,iab,ibq->pq", own, hessian, own)
    precision += p * torch.eye(len(precision), dtype=precision.dtype)
    found: Tensor = there @ torch.linalg.solve(precision, there.flatten(0, 1).T).T.view_as(there).mT
    return found


def exactness() -> None:
    print("\n| relative error | farfield, exact | laplace-torch, full |\n|---|---|---|")
    library = laplace_torch()
    for likelihood in ("regression", "classification"):
        torch.manual_seed(0)
        model = ff.mlp(2, [16, 16], 3, activation="tanh").double()
        x, new = torch.randn(60, 2).double(), 3 * torch.randn(20, 2).double()
        real = likelihood == "regression"
        y = torch.randn(60, 3).double() if real else torch.randint(3, (60,))
        noise = 0.1 if real else 1.0
        wanted = dense(model, x, new, likelihood, 0.7, noise).detach()
        la = ff.LinearizedLaplace(model, likelihood, 0.7, noise).fit((x, y))
        theirs = "not installed"
        if library is not None:
            options: dict[str, Any] = {"sigma_noise": noise**0.5} if real else {}
            full = library.Laplace(
                model, likelihood, subset_of_weights="all", hessian_structure="full",
                prior_precision=0.7, **options,
            )  # fmt: skip
            full.fit(DataLoader(TensorDataset(x, y), batch_size=60))
            covariance = full._glm_predictive_distribution(new)[1]
            theirs = f"{error(covariance, wanted):.0e}"
        print(f"| {likelihood} | {error(la.predict_outputs(new)[1], wanted):.0e} | {theirs} |")


def digits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """500 digits from 0 to 7 to learn, 400 others to test, and 8s and 9s."""
    found = load_digits()
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.from_numpy(found.images)[order], torch.from_numpy(found.labels)[order]
    known = y < 8
    return x[known][:500], y[known][:500], x[known][500:900], x[~known][:300]


def digit_network(norm: str | None, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = ff.mlp(64, [64, 64], 8, norm=norm, norm_at="first")
    return trained(model, x, y, F.cross_entropy, 300)


def ablation() -> None:
    x, y, test, _ = digits()
    model = digit_network("layer", x, y).double()
    x, test = x.double()[:200], test.double()[:100]
    exact = ff.LinearizedLaplace(model, "classification", 1.0).fit((x, y[:200]))
    wanted = exact.predict_outputs(test)[1]
    kernel = ff.empirical_ntk(model, "full")(test).reshape(800, 800)
    print("\n| M | K | kernel | covariance |\n|---|---|---|---|")
    pairs = [(20, 20), (50, 20), (200, 4), (200, 20), (200, 64), (200, 200), (1600, 1600)]
    for inducing, features in pairs:
        la = ff.LinearizedLaplace(
            model, "classification", 1.0, method="nystrom", inducing=inducing, features=features
        ).fit((x, y[:200]))
        found = la.predict_outputs(test)[1]
        features_of = la.posterior.features(la._network, test).flatten(0, 1)  # type: ignore[union-attr]
        print(
            f"| {inducing} | {features} | {error(features_of @ features_of.T, kernel):.2g} | "
            f"{error(found, wanted):.2g} |"
        )


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The chance that the second is larger."""
    statistic = mannwhitneyu(outside.numpy(), inside.numpy()).statistic
    return float(statistic / (len(inside) * len(outside)))


@dataclass(frozen=True)
class Far:
    """Data to learn, others of the same law, and what is far from them.

    Attributes:
        train: Inputs and targets.
        inside: Inputs of the same law.
        outside: Far inputs by name.
    """

    train: tuple[Tensor, Tensor]
    inside: Tensor
    outside: dict[str, Tensor]


def on_a_line(seed: int) -> Far:
    torch.manual_seed(seed)
    x, sides = torch.rand(100, 1) * 6 - 3, torch.rand(200, 1).sub(0.5).sign()
    far = {f"{k:g}": 3 * k * sides * (1 + 0.1 * torch.rand(200, 1)) for k in (1.2, 3, 100, 1000)}
    return Far((x, x.sin() + 0.1 * torch.randn(100, 1)), torch.rand(200, 1) * 6 - 3, far)


def features(seed: int) -> Far:
    torch.manual_seed(seed)
    weights, x = torch.randn(8, 1), torch.randn(400, 8)
    far = {f"{k:g}": k * torch.randn(200, 8) for k in (2, 3, 10, 1000)}
    return Far((x, (x @ weights).sin() + 0.5 * torch.randn(400, 1)), torch.randn(400, 8), far)


def images(seed: int) -> Far:
    x, y, test, others = digits(seed)
    square = test.view(-1, 8, 8)
    far = {"8s and 9s": others}
    far |= {f"{90 * k} degrees": torch.rot90(square, k, (1, 2)).flatten(1) for k in (1, 2)}
    far |= {"3 times": 3 * test, "1000 times": 1000 * test}
    return Far((x[:200], y[:200]), test, far)


def proteins(seed: int, folder: Path) -> Far:
    """500 proteins of a surface area below 20,000, and larger ones."""
    table = prepare(load_protein(folder), "RMSD")
    parts = split_by_threshold(table, "F1", 20_000.0)
    rows, test = train_test_rows(table, parts.inside, 0.9, seed)
    columns = torch.from_numpy(table.features), torch.from_numpy(table.target)[:, None]
    own = [column[rows[:500]] for column in columns]

    def scaled(chosen: np.ndarray, column: int) -> Tensor:
        level, spread = own[column].mean(0), own[column].std(0)
        return ((columns[column][torch.from_numpy(chosen)] - level) / spread).float()

    train = scaled(rows[:500], 0), scaled(rows[:500], 1)
    return Far(train, scaled(test[:300], 0), {"larger": scaled(parts.outside[:300], 0)})


def alarms(seeds: int = 3, folder: Path | None = None) -> None:
    """Standard deviation and novelty as alarms; a slash between the far inputs of a row."""
    print(
        "\n| network | std: AUROC | novelty: AUROC | beyond the 5 % threshold (inside) |"
        "\n|---|---|---|---|"
    )
    placed = {"no norm": None, "LayerNorm first": "first", "LayerNorm at every layer": "every"}
    kinds: list[tuple[str, Callable[[int], Far], list[int], list[str]]] = [
        ("a line", on_a_line, [32, 32], list(placed)[:2]),
        ("8 features", features, [16, 16], list(placed)),
        ("digits", images, [64, 64], list(placed)[:2]),
    ]
    if folder is not None:
        kinds.append(("proteins", partial(proteins, folder=folder), [64, 64], list(placed)[:2]))
    for kind, data, hidden, names in kinds:
        print(f"| **{kind}: {', '.join(data(0).outside)}** | | | |")
        for name in names:
            for steps in (0, 800) if kind in ("a line", "8 features") else (300,):
                found = [
                    alarm(data(seed), hidden, placed[name], steps, seed) for seed in range(seeds)
                ]
                std, novelty, beyond, inside = np.mean(found, axis=0)
                cells = [" / ".join(f"{v:.2f}" for v in row) for row in (std, novelty, beyond)]
                trained_or_not = "trained" if steps else "not trained"
                cells[2] += f" ({inside[0]:.2f})"
                print(f"| {name}, {trained_or_not} | {' | '.join(cells)} |", flush=True)


def alarm(
    data: Far, hidden: list[int], placed: str | None, steps: int, seed: int
) -> list[list[float]]:
    """AUROC of both alarms, detections and false alarms, for each kind of far inputs."""
    x, y = data.train
    torch.manual_seed(seed)
    classes = not y.is_floating_point()
    norm = None if placed is None else "layer"
    model = ff.mlp(
        x.shape[1], hidden, 8 if classes else 1, norm=norm, norm_at=placed or "first"
    ).eval()
    trained(model, x, y, F.cross_entropy if classes else F.mse_loss, steps)
    la = ff.LinearizedLaplace(model, "classification" if classes else "regression")
    la.fit((x, y)).tune()

    def spread(x: Tensor) -> Tensor:
        return la.predict_outputs(x)[1].diagonal(dim1=1, dim2=2).mean(1)

    own, near = spread(data.inside), la.novelty(data.inside)
    false = float((near > 1.0).double().mean())
    rows = []
    for far in data.outside.values():
        score = la.novelty(far)
        found = auroc(own, spread(far)), auroc(near, score), float((score > 1.0).double().mean())
        rows.append([*found, false])
    turned: list[list[float]] = np.array(rows).T.tolist()
    return turned


def rays() -> None:
    places = [1.0, 3.0, 10.0, 100.0, 1e4]
    print(f"\n| standard deviation at x = | {' | '.join(f'{x:g}' for x in places)} |")
    print("|---" * (len(places) + 1) + "|")
    for name, norm in NORMS.items():
        torch.manual_seed(0)
        x = torch.rand(100, 1, dtype=torch.float64) * 6 - 3
        y = x.sin() + 0.1 * torch.randn_like(x)
        new = torch.tensor(places, dtype=torch.float64)[:, None]
        model = ff.gaussian_init_(ff.mlp(1, [64, 64], 1, norm=norm, norm_at="first"), 2.0, 0.01)
        limit = ff.infinite_width(copy.deepcopy(model)).ntk
        trained(model.double(), x, y, F.mse_loss, 1500)
        la = ff.LinearizedLaplace(model, "regression").fit((x, y)).tune()
        variances = la.predict_outputs(new)[1][:, 0, 0]
        print(f"| trained network, {name} | {listed(variances.sqrt())} |")
        _, std = ff.KernelRegression(limit, ridge=0.01).fit(x, y).predict(new, return_std=True)
        print(f"| infinite width, {name} | {listed(std)} |")


def listed(values: Tensor) -> str:
    return " | ".join(f"{value:.2g}" for value in values.tolist())


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 8),
    )  # fmt: skip


def costs(repeats: int = 3) -> None:
    """Fitting and predicting on digits, in turns, in one process."""
    x, y, test, _ = digits()
    data = DataLoader(TensorDataset(x, y), batch_size=100)
    print("\n| network | posterior | fit, s | predict 400, s |\n|---|---|---|---|")
    # Without a norm, whose parameters laplace-torch's Kronecker factors do not cover.
    for network, model in {"MLP": ff.mlp(64, [64, 64], 8), "CNN": convolutional()}.items():
        torch.manual_seed(0)
        trained(model, x, y, F.cross_entropy, 300)
        times: dict[str, list[tuple[float, float]]] = {}
        for _ in range(repeats):
            for name, make in posteriors(model).items():
                la = make()
                fit = seconds(partial(la.fit, data))
                with torch.no_grad():
                    predicted = seconds(partial(predict, la, name, test))
                times.setdefault(name, []).append((fit, predicted))
        for name, pairs in times.items():
            fit, predicted = map(min, zip(*pairs, strict=True))
            print(f"| {network} | {name} | {fit:.3f} | {predicted:.3f} |", flush=True)


def _backwards(network: Network, x: Tensor, named: dict[str, Tensor]) -> Tensor:
    return projected(network.engine.gradients(x), named)


def products(repeats: int = 5, number: int = 20) -> None:
    """Features along K = 20 directions, by both ways in turns."""
    print("\n| network | forward mode, s | backwards, s | chosen |\n|---|---|---|---|")
    x = digits()[2]
    for name, model in {"MLP": ff.mlp(64, [64, 64], 8), "CNN": convolutional()}.items():
        network = network_of(model.eval(), None, None, 2 * 10**9)
        directions = [torch.randn(number, *p.shape) for p in network.parameters]
        named = dict(zip(network.engine.parameters, directions, strict=True))
        times = []
        for _ in range(repeats):
            forwards = seconds(partial(network._forwards, x, directions))
            times.append((forwards, seconds(partial(_backwards, network, x, named))))
        one, other = map(min, zip(*times, strict=True))
        chosen = "backwards" if network.goes_backwards(x, number) else "forward mode"
        print(f"| {name} | {one:.3f} | {other:.3f} | {chosen} |")


def posteriors(model: nn.Module) -> dict[str, Callable[[], Any]]:
    ways: dict[str, Callable[[], Any]] = {
        "farfield, ELLA (M = 500, K = 20)": partial(
            ff.LinearizedLaplace, model, "classification", method="nystrom", inducing=500
        ),
        "farfield, exact": partial(ff.LinearizedLaplace, model, "classification"),
    }
    library = laplace_torch()
    if library is not None:
        for structure, weights in (("kron", "all"), ("diag", "all"), ("kron", "last_layer")):
            ways[f"laplace-torch, {structure}, {weights}"] = partial(
                library.Laplace,
                model,
                "classification",
                subset_of_weights=weights,
                hessian_structure=structure,
            )
    return ways


def predict(la: Any, name: str, x: Tensor) -> object:
    return la.predict(x) if name.startswith("farfield") else la(x, link_approx="probit")


def main() -> None:
    parts = {part.__name__: part for part in (exactness, ablation, rays, alarms, products, costs)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(parts), help=", ".join(parts))
    parser.add_argument("--data", type=Path, help="a folder with the protein table, for alarms")
    settings = parser.parse_args()
    parts["alarms"] = partial(alarms, folder=settings.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in settings.tables:
            parts[name]()


if __name__ == "__main__":
    main()
