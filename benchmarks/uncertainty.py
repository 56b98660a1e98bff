"""The linearised Laplace posterior: its errors, what sees far inputs, and what it costs.

``make bench-laplace`` prints the tables of docs/uncertainty.md. The networks are small and trained
here: on a noisy sine over [-3, 3], on eight Gaussian features with noise, and on scikit-learn's
digits. Rows of laplace-torch are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff
from farfield.data.digits import load_digits

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


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """500 digits from 0 to 7 to learn, 400 others to test, and 8s and 9s."""
    found = load_digits()
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
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


def alarms() -> None:
    print(
        "\n| network | far inputs | std | novelty | beyond the 5 % threshold (inside) |\n"
        "|---|---|---|---|---|"
    )
    for name, norm in NORMS.items():
        torch.manual_seed(1)
        weights, x = torch.randn(8, 1), torch.randn(800, 8)
        y = (x @ weights).sin() + 0.5 * torch.randn(800, 1)
        model = trained(ff.mlp(8, [16, 16], 1, norm=norm, norm_at="first"), x, y, F.mse_loss, 1500)
        la = ff.LinearizedLaplace(model, "regression").fit((x, y)).tune()
        far = {
            f"features, {factor} times as large": factor * torch.randn(200, 8)
            for factor in (2, 10, 1000)
        }
        compare(la, name, torch.randn(400, 8), far)
        x, y, test, others = digits()
        x, y = x[:200], y[:200]
        la = ff.LinearizedLaplace(digit_network(norm, x, y), "classification").fit((x, y)).tune()
        turned = torch.rot90(test.view(-1, 8, 8), 1, (1, 2)).flatten(1)
        far = {"8s and 9s": others, "digits turned by 90 degrees": turned}
        compare(la, name, test, far | {"100 times uniform noise": 100 * torch.rand(200, 64)})


def compare(la: ff.LinearizedLaplace, name: str, inside: Tensor, far: dict[str, Tensor]) -> None:
    def spread(x: Tensor) -> Tensor:
        return la.predict_outputs(x)[1].diagonal(dim1=1, dim2=2).mean(1)

    own, threshold = la.novelty(inside), la.novelty_threshold()
    for label, x in far.items():
        score = la.novelty(x)
        print(
            f"| {name} | {label} | {auroc(spread(inside), spread(x)):.3f} | "
            f"{auroc(own, score):.3f} | {(score > threshold).double().mean():.2f} "
            f"({(own > threshold).double().mean():.2f}) |"
        )


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


def costs() -> None:
    """Fitting and predicting on digits, one after the other in one process."""
    x, y, test, _ = digits()
    # Without a norm, whose parameters laplace-torch's Kronecker factors do not cover.
    model, data = digit_network(None, x, y), DataLoader(TensorDataset(x, y), batch_size=100)
    print("\n| posterior | fit, s | predict 400, s |\n|---|---|---|")
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
    for name, make in ways.items():
        la = make()
        fit = seconds(partial(la.fit, data))
        with torch.no_grad():
            times = [seconds(partial(predict, la, name, test)) for _ in range(3)]
        print(f"| {name} | {fit:.2f} | {min(times):.3f} |")


def predict(la: Any, name: str, x: Tensor) -> object:
    return la.predict(x) if name.startswith("farfield") else la(x, link_approx="probit")


def main() -> None:
    parts = {part.__name__: part for part in (exactness, ablation, rays, alarms, costs)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(parts), help=", ".join(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in parser.parse_args().tables:
            parts[name]()


if __name__ == "__main__":
    main()
