"""A small decoder-only transformer for sequences of numbers, with or without one LayerNorm."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = {"standard": "Standard", "first": "LayerNorm after the embedding"}
"""Label of each kind of decoder by its key."""


class Block(nn.Module):
    """Causal attention and a two-layer ReLU network, each with a skip connection and no norm.

    Args:
        width: Size d of each token's vector.
        heads: Number of heads, a divisor of d.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Vectors of the tokens (n, tokens, d) to vectors of the same shape."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in self.query_key_value(h).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        h = h + self.mix(seen.transpose(-3, -2).flatten(-2))
        passed_on: Tensor = h + self.down(torch.relu(self.up(h)))
        return passed_on


class Decoder(nn.Module):
    """Predicts, after each number of a sequence, the next one.

    A number x at position p becomes the vector ``W x + b + s_p``, s_p being the sines and cosines
    of Vaswani et al. (2017); one LayerNorm may follow; then blocks without norms, so that this
    LayerNorm is the only difference, and a linear read-out.

    Args:
        tokens: Length of a sequence.
        width: Size d of each token's vector.
        heads: Heads of each block.
        layers: Number of blocks.
        norm: Whether a LayerNorm follows the embedding.

    Example:
        >>> import torch
        >>> Decoder(tokens=20, width=64, heads=4, layers=2, norm=True)(torch.zeros(7, 20)).shape
        torch.Size([7, 20])
    """

    position: Tensor

    def __init__(self, tokens: int, width: int, heads: int, layers: int, norm: bool) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, width)
        self.register_buffer("position", _positions(tokens, width))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.read_out = nn.Linear(width, 1)

    def forward(self, x: Float[Tensor, "n tokens"]) -> Float[Tensor, "n tokens"]:
        """The next number after each one, from it and those before it."""
        h = self.norm(self.embedding(x.unsqueeze(-1)) + self.position)
        predicted: Tensor = self.read_out(self.blocks(h)).squeeze(-1)
        return predicted


class Next(nn.Module):
    """A decoder's prediction after the last number alone.

    Args:
        decoder: The decoder.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        """Sequences (n, tokens) to predictions (n, 1)."""
        predicted: Tensor = self.decoder(x)[:, -1:]
        return predicted


def _positions(tokens: int, width: int) -> Tensor:
    """Sines and cosines of the position, at wavelengths from 2 pi to 20,000 pi."""
    place = torch.arange(tokens)[:, None]
    rate = 1e4 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([(place * rate).sin(), (place * rate).cos()], -1).flatten(1)[:, :width]
