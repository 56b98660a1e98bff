"""A Gaussian pair with independent noise added to each: what erf and GELU see of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import hypotenuse


@dataclass(frozen=True)
class Shrunk:
    """The pair (width u + noise, width v + noise), noise ~ N(0, 1), scaled to unit variance.

    Row values broadcast to pairs: (*positions, n1, 1) and (*positions, 1, n2).

    Attributes:
        r1: Standard deviation of u; ``r2`` of v.
        p1: Share of u in the first, ``width r1 / sqrt(1 + (width r1)^2)``; ``p2`` of v.
        q1: Share of the noise, ``1 / sqrt(1 + (width r1)^2)``; ``q2`` likewise.
        sine: Their correlation ``p1 p2 cos theta``.
        cofactor: ``sqrt(1 - sine^2)`` without cancellation.
    """

    r1: Tensor
    r2: Tensor
    p1: Tensor
    p2: Tensor
    q1: Tensor
    q2: Tensor
    sine: Tensor
    cofactor: Tensor

    @classmethod
    def of(cls, r: Rows, angle: Angle, width: float) -> Shrunk:
        """The shrunk pair of (u, v)."""
        r1, r2 = r.left, r.right
        wide1 = hypotenuse(torch.ones_like(r1), width * r1)
        wide2 = hypotenuse(torch.ones_like(r2), width * r2)
        p1, q1, p2, q2 = width * r1 / wide1, 1.0 / wide1, width * r2 / wide2, 1.0 / wide2
        turned = 0.5 * ((p1 - p2).square() + (q1 - q2).square()) + q1 * q2
        below = turned + p1 * p2 * angle.apart  # 1 - sine
        above = turned + p1 * p2 * angle.together  # 1 + sine
        # The floor is for widths whose q1 q2 underflows: there the pair is a point on a line.
        cofactor = (below * above).clamp_min(torch.finfo(below.dtype).tiny).sqrt()
        return cls(r1, r2, p1, p2, q1, q2, p1 * p2 * angle.cosine, cofactor)
