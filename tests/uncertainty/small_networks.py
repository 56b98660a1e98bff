"""Small networks of several kinds, in float64, with inputs and targets of either likelihood."""

import torch
from torch import nn

import farfield as ff


class Attention(nn.Module):
    """Attention, which has no forward-mode derivatives outside of its plain form."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[:, 0])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3)
    )


NETWORKS = {
    "mlp": (lambda: ff.mlp(2, [6, 5], 3, activation="tanh"), (2,)),
    "layer norm": (lambda: ff.mlp(2, [6, 5], 3, norm="layer", norm_at="every"), (2,)),
    "cnn": (cnn, (1, 5, 5)),
    "attention": (Attention, (3, 4)),
}


def make(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    build, shape = NETWORKS[name]
    return build().double().eval(), shape


def samples(shape: tuple[int, ...], likelihood: str, n: int = 9, outputs: int = 3):
    x = torch.randn(n, *shape, dtype=torch.float64)
    if likelihood == "classification":
        return x, torch.randint(outputs, (n,))
    return x, torch.randn(n, outputs, dtype=torch.float64)
