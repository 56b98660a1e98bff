"""Elementary functions whose gradients stay finite where their arguments vanish."""

from __future__ import annotations

import torch
from torch import Tensor


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is 0; so is its gradient there."""
    zero = denominator == 0
    if numerator.requires_grad or denominator.requires_grad:
        denominator = torch.where(zero, 1.0, denominator)
    return torch.where(zero, 0.0, numerator / denominator)


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of x >= 0, whose gradient at 0 is 0 instead of infinite."""
    if not x.requires_grad:
        return x.sqrt()
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def hypotenuse(a: Tensor, b: Tensor) -> Tensor:
    """``sqrt(a^2 + b^2)`` without overflow, whose gradient at (0, 0) is 0 instead of NaN."""
    if not (a.requires_grad or b.requires_grad):
        return torch.hypot(a, b)
    zero = (a == 0) & (b == 0)
    return torch.where(zero, 0.0, torch.hypot(torch.where(zero, 1.0, a), b))


def deviation(root: Tensor, mean: Tensor) -> Tensor:
    """``sqrt(root^2 - mean^2)``, the standard deviation of what has this root mean square."""
    # Their product would leave the range of the dtype long before the root does.
    return safe_sqrt((root - mean).clamp_min(0.0)) * safe_sqrt((root + mean).clamp_min(0.0))
