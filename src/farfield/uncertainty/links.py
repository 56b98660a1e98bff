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
    root = _triangular(root)
    # Whole sixteens of the generator's numbers for each input: on the CPU it then draws the same
    # for an input however many are asked for at once, whatever the memory.
    drawn = -(-samples // 16) * 16
    rank, parts = root.shape[2], []
    step = max(1, _AT_ONCE // (drawn * mean.shape[1]))
    for centre, factor in zip(mean.split(step), root.split(step), strict=True):
        shape = (len(factor), drawn, rank)
        noise = torch.randn(
            shape, generator=generator, dtype=root.dtype, device=generator.device
        ).to(root.device)
        outputs = centre.unsqueeze(1) + noise[:, :samples] @ factor.mT
        parts.append(outputs.softmax(2).mean(1))
    return torch.cat(parts)


def _triangular(root: Float[Tensor, "n o r"]) -> Float[Tensor, "n o q"]:
    """The lower triangular root of the same covariance, with no negative number on its diagonal.

    It has a column for each output at most, and does not depend on which root was given: draws
    change smoothly with the covariance.
    """
    found: Tensor = torch.linalg.qr(root.mT, mode="r").R
    diagonal = found.diagonal(dim1=1, dim2=2)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(root.dtype)
    return (signs.unsqueeze(2) * found).mT
