"""The studies there are, without loading what they need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A study in the catalogue.

    Attributes:
        name: What ``farfield reproduce`` calls it.
        shows: What it shows.
        paper: What it reproduces.
    """

    name: str
    shows: str
    paper: str


CATALOGUE = (
    Entry(
        "toy",
        "three functions on a line, far outside the training interval",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), Figs. 1, 5, 6",
    ),
    Entry(
        "protein",
        "proteins larger than any in training: networks with and without LayerNorm, XGBoost",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), Table 1, Fig. 3",
    ),
    Entry(
        "heatmaps",
        "tangent kernels of random networks beside the exact ones, and how fast they agree",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), Fig. 2",
    ),
    Entry(
        "theorems",
        "each theorem in numbers: growth, constants, bounds, and a LayerNorm that is bypassed",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), sections 3 and C",
    ),
    Entry(
        "transformer",
        "a small decoder that goes on with a + b i far beyond the i of training; certificates",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), Fig. 7",
    ),
    Entry(
        "faces",
        "ages of faces of an ethnicity that training has not seen, from your copy of UTKFace",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), Table 2, Fig. 4",
    ),
    Entry(
        "rotated",
        "angles of turned clothes of a class that training has not seen (Fashion-MNIST)",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), as Table 2",
    ),
    Entry(
        "abalone",
        "ages of infant abalone, learned from grown ones: a group shift on a small table",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025), as Table 2",
    ),
    Entry(
        "placements",
        "which norm, where, how deep, how wide: what extrapolates best over five tasks",
        "beyond Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025)",
    ),
    Entry(
        "paper",
        "all of these at once, with one table of claims and a page for each item",
        "Just One Layer Norm Guarantees Stable Extrapolation (NeurIPS 2025)",
    ),
    Entry(
        "dispersion",
        "how random the tangent kernel is, by depth, variance and LayerNorm, beside the theory",
        "Neural Tangent Kernel Beyond the Infinite-Width Limit (ICML 2022)",
    ),
    Entry(
        "dynamics",
        "the tangent kernel of 20-layer networks while they learn digits, by phase",
        "Neural Tangent Kernel Beyond the Infinite-Width Limit (ICML 2022), section 4",
    ),
    Entry(
        "variance",
        "how much trained networks differ over initialisations, in theory and by ensembles",
        "Analyzing Finite Neural Networks: Can We Trust NTK Theory? (MSML 2021)",
    ),
    Entry(
        "ella",
        "how sure trained networks are in domain and far from it, by linearised Laplace posteriors",
        "Accelerated Linearized Laplace Approximation for Bayesian Deep Learning (NeurIPS 2022)",
    ),
)
