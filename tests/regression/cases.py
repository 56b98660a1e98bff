"""Kernels and oracles that the tests of this room share, without the library's solvers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import farfield as ff


def limit(features: int = 2, norm: str | None = "layer", bias_var: float = 0.1, **options):
    """The limit of a network with two hidden layers."""
    model = ff.mlp(features, [8, 8], 1, norm=norm, **options).eval()
    return ff.infinite_width(model, weight_var=2.0, bias_var=bias_var)


def batch(n: int, features: int = 2, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, features, dtype=torch.float64, generator=generator)


def naive(kernel, x: Tensor, y: Tensor, new: Tensor, ridge: float) -> np.ndarray:
    """``k(x, X) (K + r I)^+ y``, by the pseudo-inverse and without merging anything."""
    matrix = kernel(x).numpy() + ridge * np.eye(len(x))
    return kernel(new, x).numpy() @ np.linalg.pinv(matrix, hermitian=True) @ y.numpy()
