"""Turning grey images about their centre."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def turned(
    images: Float[Tensor, "n 1 h w"], angles: Float[np.ndarray, " n"], size: tuple[int, int]
) -> Float[Tensor, "n 1 height width"]:
    """Turn grey images and bring them to a size in one bilinear step.

    Args:
        images: Grey values; around them is 0.
        angles: Degrees, against the clock.
        size: Height and width of the result in pixels.

    Returns:
        The turned images.
    """
    turns = torch.from_numpy(np.deg2rad(angles)).float()
    cos, sin, zero = turns.cos(), turns.sin(), torch.zeros(len(images))
    # Where each pixel of the result comes from; the vertical axis points down.
    inverse = torch.stack([cos, -sin, zero, sin, cos, zero], 1).unflatten(1, (2, 3))
    grid = F.affine_grid(inverse, [len(images), 1, *size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
