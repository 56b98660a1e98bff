"""Theorems 3.2, C.1 and C.2: LayerNorm bounds the diagonal of the kernel, or fixes it."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn

from farfield.infinite import infinite_width
from farfield.networks import NormAt, gaussian_init_
from farfield.regression import KernelRegression, certify
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.theory_networks import largest_relu_ntk, theory_network
from farfield.studies.theorems.measured import Notes, by_case

LARGEST = "Theorem 3.2"
CONSTANT = "Theorem C.1"
ACTIVATIONS = "Section C, activations"
_BIAS_VAR = 0.01
_CLOSE = 1e-6  # bounds and attained values agree to this, see docs/regression.md
_EXACT = 1e-10  # accuracy of kernels by quadrature


class Residual(nn.Module):
    """Linear, LayerNorm, and then a residual block: no multilayer perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 1), nn.LayerNorm(1, eps=0.0, elementwise_affine=False)
        self.into, self.block, self.last = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The network."""
        h = self.into(torch.relu(self.norm(self.first(x))))
        h = h + self.block(torch.tanh(h))
        output: Tensor = self.last(torch.relu(h))
        return output


def measure_largest(depth: int) -> pd.DataFrame:
    """C, proven over all inputs, for each depth and place of LayerNorm.

    Args:
        depth: The largest number of hidden layers.

    Returns:
        The numbers.
    """
    notes = Notes(LARGEST)
    x = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    for layers in range(1, depth + 1):
        for place in (*range(layers), None):
            norm_at: NormAt = "every" if place is None else place
            limit = infinite_width(theory_network(1, (1,) * layers, norm_at))
            top = certify(KernelRegression(limit.ntk).fit(x, x)).kernel_bound
            notes.add(
                f"{layers} hidden, LayerNorm {'every' if place is None else place + 1}",
                depth=layers,
                place=0 if place is None else place + 1,
                found=top.value,
                closed=largest_relu_ntk(layers, place, _BIAS_VAR),
                proven=top.proven,
            )
    return notes.frame()


def measure_constant() -> pd.DataFrame:
    """How Theta(x, x) varies over inputs, and Theta(x, x') over pairs of equal soft-cosine.

    Returns:
        The numbers.
    """
    notes = Notes(CONSTANT)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-3, 6, 10, dtype=torch.float64)[:, None]
    points = sizes * torch.randn(10, 3, dtype=torch.float64, generator=generator)
    pairs = [[_pair(cosine, generator) for _ in range(6)] for cosine in (-0.5, 0.3, 0.9)]
    residual = gaussian_init_(Residual().double(), 1.0, _BIAS_VAR, generator)
    models = {
        "ReLU, 1 hidden": theory_network(3, (1,), 0),
        "ReLU, 3 hidden": theory_network(3, (1,) * 3, 0),
        "GELU, 2 hidden": theory_network(3, (1,) * 2, 0, activation="gelu"),
        "tanh, 2 hidden": theory_network(3, (1,) * 2, 0, activation="tanh"),
        "residual, ReLU and tanh": residual,
        "LayerNorm second": theory_network(3, (1,) * 2, 1),
        "no LayerNorm": theory_network(3, (1,) * 2, None),
    }
    for name, model in models.items():
        kernel = infinite_width(model).ntk
        spreads = [
            _spread(torch.stack([kernel(x, other)[0, 0] for x, other in alike])) for alike in pairs
        ]
        notes.add(name, diagonal=_spread(kernel.diagonal(points)), pairs=max(spreads))
    return notes.frame()


def measure_activations(activations: tuple[str, ...]) -> pd.DataFrame:
    """The degree of Theta(x, x) in the size of x, for activations that are not homogeneous.

    Args:
        activations: Their names.

    Returns:
        The numbers.
    """
    notes = Notes(ACTIVATIONS)
    x = torch.tensor([[1e2], [1e3]], dtype=torch.float64)
    places: dict[str, NormAt | None] = {"none": None, "first": 0, "second": 1}
    for activation in activations:
        degrees = {}
        for name, norm_at in places.items():
            network = theory_network(1, (1, 1), norm_at, activation=activation)
            near, far = infinite_width(network).ntk.diagonal(x).tolist()
            degrees[name] = math.log10(far / near)
        notes.add(activation, **degrees)
    return notes.frame()


def _pair(cosine: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two inputs in R^3 whose soft-cosine, that of (x / sqrt(3), sigma_b), is given."""
    while True:
        basis = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64, generator=generator)).Q.T
        both = basis[0], cosine * basis[0] + math.sqrt(1.0 - cosine**2) * basis[1]
        if min(float(vector[3]) for vector in both) > 0.01:
            scale = math.sqrt(3.0 * _BIAS_VAR)
            first, second = (scale * vector[None, :3] / vector[3] for vector in both)
            return first, second


def _spread(values: Tensor) -> float:
    return float((values.max() - values.min()) / values.abs().max())


def largest_table(frame: pd.DataFrame) -> pd.DataFrame:
    """C by depth (row) and place of LayerNorm (column), as text.

    Args:
        frame: What :func:`measure_largest` returned.

    Returns:
        The table.
    """
    table = by_case(frame).assign(shown=lambda rows: rows["found"].map("{:.6g}".format))
    grid = table.pivot(index="depth", columns="place", values="shown")
    names = {place: f"at layer {place:g}" if place else "every layer" for place in grid.columns}
    ordered = [*(place for place in grid.columns if place), 0.0]
    grid = grid[ordered].rename(columns=names).rename_axis(columns=None)
    return grid.set_axis(grid.index.map("{:g}".format), axis=0).rename_axis("hidden layers")


def claims_largest(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """Theorem 3.2 beside the numbers."""
    table = by_case(frame)
    gap = float((table["found"] / table["closed"] - 1.0).abs().max())
    return (
        Claim(
            LARGEST,
            "With at least one LayerNorm, wherever it stands, Theta(x, x) <= C for every input.",
            "a constant C exists",
            f"proven for {int(table['proven'].sum())} of {len(table)} networks; C from "
            f"{table['found'].min():.4g} to {table['found'].max():.4g}, as the closed form to "
            f"{gap:.0e}",
            bool(table["proven"].all() and gap < _CLOSE),
            "C = L + 1 + sigma_b^2 m (m + 1) / 2 with m = L - h + 1 linear layers behind LayerNorm "
            "at layer h of L; the paper gives no values.",
        ),
    )


def claims_constant(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """Theorem C.1 beside the numbers."""
    table = by_case(frame)
    first, others = table.iloc[:-2], table.iloc[-2:]
    return (
        Claim(
            CONSTANT,
            "In a network that begins with Linear and LayerNorm the kernel depends on the "
            "soft-cosine of its inputs alone, and Theta(x, x) is constant.",
            "constant",
            f"{len(first)} networks: Theta(x, x) varies by {first['diagonal'].max():.0e} from |x| "
            f"= 1e-3 to 1e6, Theta(x, x') of equal soft-cosine by {first['pairs'].max():.0e}",
            bool((first < _EXACT).all(axis=None) and (others > 0.01).all(axis=None)),
            f"LayerNorm second: Theta(x, x) varies by {others['diagonal'].iloc[0]:.0%}, so the "
            "place matters.",
        ),
    )


def claims_activations(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """What section C says of activations, beside the numbers."""
    table = by_case(frame)
    like = table.drop(index="tanh", errors="ignore")
    found = [
        Claim(
            "Section C, GELU, SiLU",
            "The theorems hold for activations that are homogeneous far from 0.",
            "as ReLU",
            f"{', '.join(like.index)}: degree of Theta(x, x) without LayerNorm "
            f"{', '.join(f'{value:.3f}' for value in like['none'])}; with it at most "
            f"{like[['first', 'second']].to_numpy().max():.0e}",
            bool(
                (abs(like["none"] - 2.0) < 0.01).all()
                and (like[["first", "second"]] < 0.01).all(axis=None)
            ),
            "Degree 2 in both inputs together is degree 1 in each.",
        )
    ]
    if "tanh" in table.index:
        tanh = table.loc["tanh"]
        found.append(
            Claim(
                "Section C, tanh",
                "tanh has degree 0 and is excluded by the theorems' assumption.",
                "excluded",
                f"degree of Theta(x, x): {tanh['none']:.2f} without LayerNorm, "
                f"{tanh['first']:.0e} with it first, {tanh['second']:.2f} with it second",
                bool(tanh["second"] > 0.5 and tanh["first"] < 0.01),
                "Rightly so: behind tanh a LayerNorm divides by a bounded number, and the "
                "gradients of the layer below keep growing.",
            )
        )
    return tuple(found)
