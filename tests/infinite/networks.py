"""Small networks for the tests: widths do not matter to the limit."""

from collections.abc import Callable

import torch
from torch import nn


class Elementwise(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def stack(
    depth: int,
    activation: Callable[[], nn.Module],
    norm: str | None = None,
    eps: float = 1e-5,
    inputs: int = 3,
    width: int = 4,
) -> nn.Sequential:
    """Linear, norm?, activation, norm?, ..., Linear; norm: None, "before" or "after"."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Linear(width if index else inputs, width))
        layers += [nn.LayerNorm(width, eps=eps)] * (norm == "before")
        layers.append(activation())
        layers += [nn.LayerNorm(width, eps=eps)] * (norm == "after")
    return nn.Sequential(*layers, nn.Linear(width if depth else inputs, 1))


class Residual(nn.Module):
    """Residual sums before and after norms, a gate, a skip of the input, a concatenation."""

    def __init__(self, inputs: int = 3, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.gate, self.gated = nn.Linear(inputs, width), nn.Linear(width, width)
        self.last = nn.Linear(width + inputs, 1)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        for linear, norm in [(self.inner, self.norm1), (self.outer, self.norm2)]:
            h = 0.5 * h + self.dropout(linear(torch.relu(norm(h))))
        if h.shape[-1] > 1:
            h = torch.relu(h) + 0.1
        h = self.gated(h) * self.gate(x).erf()
        return self.last(torch.cat([h, x], dim=-1))


class Postnorm(nn.Module):
    """The norm's own output goes through a residual sum, and two means are added."""

    def __init__(self, inputs: int = 3, width: int = 4) -> None:
        super().__init__()
        self.first, self.side = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.last = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).relu() - 2.0 * torch.relu(self.side(x))
        h = self.norm1(h)
        h = self.norm2(h + self.outer(torch.nn.functional.gelu(self.inner(h))))
        return self.last(h)
