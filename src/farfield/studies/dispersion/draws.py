"""The random networks of the dispersion study, drawn block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from farfield.studies.dispersion.kernels import Products, products

if TYPE_CHECKING:
    from farfield.studies.dispersion.study import Settings

BLOCK = 500
"""Networks in a part that is computed once and kept."""

_AT_ONCE = 10  # networks run together; the weights of more no longer fit in the cache
_DRAWN_VAR = (
    2.0  # weights are drawn with this variance and scaled: |h| then neither grows nor falls
)


def networks_of_relu(settings: Settings, block: int) -> pd.DataFrame:
    """The kernels of a block of ReLU networks without norm, Theta(x, x).

    Args:
        settings: The settings.
        block: Its number.

    Returns:
        A row for each network and depth; a column for each variance of the weights, and
        ``weights`` for the gradients of weights alone, in units of (variance / 2)^depth.
    """
    found = [
        _columns(settings.weight_vars, products(x[:, :1], weights, readouts))
        for x, weights, readouts in drawn_networks(settings, block, settings.draws)
    ]
    return pd.concat(found, ignore_index=True)


def networks_at_angles(settings: Settings, block: int) -> pd.DataFrame:
    """Theta(x, x') at all angles, of the same networks as :func:`networks_of_relu` has.

    Args:
        settings: The settings.
        block: Its number.

    Returns:
        A row for each network, depth of ``settings.shown_depths`` and cosine, in this order; a
        column for each variance of the weights.
    """
    shown = torch.tensor(settings.shown_depths) - 1
    found = []
    for x, weights, readouts in drawn_networks(settings, block, settings.further_draws):
        parts = products(x, weights, readouts).kernels(_scales(settings.weight_vars))
        kernels = (parts[0] + parts[1])[:, :, shown]
        found.append(_frame(settings.weight_vars, kernels))
    return pd.concat(found, ignore_index=True)


def networks_with_norm(settings: Settings, block: int, norm_at: str) -> pd.DataFrame:
    """Like :func:`networks_of_relu`, the same networks with LayerNorm, for one variance a phase.

    Args:
        settings: The settings.
        block: Its number.
        norm_at: Where LayerNorm stands.

    Returns:
        The kernels.
    """
    found = [
        _columns(settings.phases(), products(x[:, :1], weights, readouts, "relu", norm_at))
        for x, weights, readouts in drawn_networks(settings, block, settings.draws)
    ]
    return pd.concat(found, ignore_index=True)


def networks_of_sigmoid(settings: Settings, block: int) -> pd.DataFrame:
    """Like :func:`networks_of_relu`, with sigmoids, for which every variance is run by itself.

    Args:
        settings: The settings.
        block: Its number.

    Returns:
        A row for each network and depth; a column for each of ``settings.sigmoid_vars``.
    """
    found = []
    for x, weights, readouts in drawn_networks(settings, block, settings.further_draws):
        columns = {}
        for variance in settings.sigmoid_vars:
            scale = (variance / _DRAWN_VAR) ** 0.5
            scaled = [scale * weight for weight in weights]
            ran = products(x[:, :1], scaled, scale * readouts, "sigmoid").kernels()
            columns[f"{variance:g}"] = (ran[0] + ran[1]).flatten().numpy()
        found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


def blocks(draws: int) -> range:
    """Numbers of the blocks that hold so many networks."""
    return range(-(-draws // BLOCK))


def drawn_networks(
    settings: Settings, block: int, draws: int
) -> Iterator[tuple[Tensor, list[Tensor], Tensor]]:
    """Inputs, weights and readouts of the block's networks, a few at a time.

    They depend on the seed and their number alone, not on how many are asked for.
    """
    width, depth = settings.width, settings.depths
    generator = torch.Generator().manual_seed(settings.seed + 2**20 * block)
    cosines = torch.tensor(settings.cosines)[:, None]
    deviation = (_DRAWN_VAR / width) ** 0.5
    left = min(BLOCK, draws - block * BLOCK)
    for first in range(0, left, _AT_ONCE):
        pair = torch.randn(_AT_ONCE, 2, 1, width, generator=generator)
        one, other = (pair / pair.norm(dim=-1, keepdim=True)).unbind(1)
        x = cosines * one + (1.0 - cosines.square()).sqrt() * other
        weights = torch.randn(depth, _AT_ONCE, width, width, generator=generator).mul_(deviation)
        readouts = torch.randn(_AT_ONCE, depth, width, generator=generator).mul_(deviation)
        taken = min(_AT_ONCE, left - first)
        yield x[:taken], list(weights[:, :taken]), readouts[:taken]


def _scales(variances: Sequence[float | int]) -> list[float]:
    return [variance / _DRAWN_VAR for variance in variances]


def _columns(variances: Sequence[float | int], ran: Products) -> pd.DataFrame:
    from_weights, from_biases = ran.kernels(_scales(variances))
    frame = _frame(variances, from_weights + from_biases)
    return frame.assign(weights=ran.kernels()[0].flatten().float().numpy())


def _frame(variances: Sequence[float | int], kernels: Tensor) -> pd.DataFrame:
    """In single precision, in which the networks were run."""
    names = [f"{variance:g}" for variance in variances]
    return pd.DataFrame(dict(zip(names, kernels.flatten(1).float().numpy(), strict=True)))
