"""Networks made of blocks, each of which begins with a linear layer and so takes any law."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

Function = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: dict[str, Function] = {
    "relu": torch.relu,
    "leaky": lambda u: F.leaky_relu(u, 0.3),
    "abs": torch.abs,
    "erf": torch.erf,
    "gelu": F.gelu,
    "sin": torch.sin,
}
NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "none": lambda width, eps: nn.Identity(),
    "layer": lambda width, eps: nn.LayerNorm(width, eps=eps),
    "plain layer": lambda width, eps: nn.LayerNorm(width, eps=eps, elementwise_affine=False),
    "rms": lambda width, eps: nn.RMSNorm(width, eps=eps),
}


@dataclass(frozen=True)
class Block:
    """What a block of the network is made of.

    Attributes:
        kind: ``plain``, ``residual``, ``gate`` or ``cat``.
        activation: A name in ``ACTIVATIONS``.
        before: A norm before the activation, by its name in ``NORMS``.
        after: A norm behind it.
    """

    kind: str = "plain"
    activation: str = "relu"
    before: str = "none"
    after: str = "none"


class _Layer(nn.Module):
    """``after(phi(before(W x + b)))``, to which the kind adds, multiplies or appends a branch."""

    def __init__(self, block: Block, inputs: int, width: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.kind, self.activation = block.kind, ACTIVATIONS[block.activation]
        self.linear = nn.Linear(inputs, width, bias=bias)
        self.before, self.after = NORMS[block.before](width, eps), NORMS[block.after](width, eps)
        self.width = width
        if block.kind != "plain":
            self.branch = nn.Linear(inputs, width, bias=bias)
        if block.kind == "residual":
            self.inner = nn.Linear(width, width, bias=bias)
        if block.kind == "cat":
            self.width = 2 * width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.after(self.activation(self.before(self.linear(x))))
        if self.kind == "plain":
            return h
        side = self.branch(x)
        if self.kind == "gate":
            return h * torch.erf(side)
        if self.kind == "cat":
            return torch.cat([h, torch.relu(side)], -1)
        return side + 0.5 * self.inner(h)


class Blocks(nn.Sequential):
    """Blocks one after the other, and a linear readout."""

    def __init__(
        self,
        blocks: Sequence[Block],
        inputs: int = 3,
        width: int = 4,
        outputs: int = 1,
        eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        layers: list[nn.Module] = []
        for block in blocks:
            layer = _Layer(block, inputs, width, eps, bias)
            layers.append(layer)
            inputs = layer.width
        super().__init__(*layers, nn.Linear(inputs, outputs, bias=bias))
