"""From uncertain outputs to class probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import SettingsError

_AT_ONCE = 2**22  # numbers of random outputs that are held at once

LINKS = ("probit", "monte_carlo")


def check_link(link: str, samples: int = 1) -> None:
    """Refuse what is no link.

    Raises:
        SettingsError: Another word, or fewer than one sample.
    """
    if link not in LINKS:
        raise SettingsError(f"link is {link!r}; choose 'probit' or 'monte_carlo'.")
    if samples < 1:
        raise SettingsError(f"samples is {samples}; at least 1 is needed.")


def monte_carlo(
    mean: Float[Tensor, "n o"],
    root: Float[Tensor, "n o r"],
    samples: int,
    generator: torch.Generator,
) -> Float[Tensor, "n o"]:
    """The mean softmax of Gaussian outputs, over random draws.

    Args:
        mean: Of the outputs.
        root: R with R R' their covariance.
        samples: Number of draws.
        generator: Source of randomness.

    Returns:
        Probabilities, each row with sum 1.
    """
    total = torch.zeros_like(mean)
    step = max(1, _AT_ONCE // max(1, mean.numel()))
    for start in range(0, samples, step):
        shape = (min(step, samples - start), *root.shape[::2])
        noise = torch.randn(
            shape, generator=generator, dtype=root.dtype, device=generator.device
        ).to(root.device)
        drawn = mean + torch.einsum("nor,snr->sno", root, noise)
        total += drawn.softmax(2).sum(0)
    return total / samples
