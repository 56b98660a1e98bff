"""Images with their channels last: where there is a gain, and only where nothing else changes."""

import pytest
import torch
from torch import Tensor, nn

import farfield as ff
from oracles import all_pairs, jacobians


class Head(nn.Module):
    """A convolution and a linear layer, and something between them that may look at memory."""

    def __init__(self, between) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)
        self.between = between

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(self.between(self.convolution, h))


def pooled(convolution: nn.Module, h: Tensor) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(convolution(h).relu(), 1).flatten(1)


def viewed(convolution: nn.Module, h: Tensor) -> Tensor:
    return convolution(h).tanh().view(len(h), -1).unflatten(1, (4, -1)).mean(2)


def strided(convolution: nn.Module, h: Tensor) -> Tensor:
    moved = convolution(h).tanh()
    return moved.as_strided((len(h), 4, 25), (100, 25, 1)).square().mean(2)


def strided_input(convolution: nn.Module, h: Tensor) -> Tensor:
    """Autograd knows nothing of this: the input needs no gradient."""
    taken = h.as_strided((len(h), 3, 5, 5), (75, 25, 5, 1))
    return convolution(taken).tanh().mean((2, 3))


def from_samples(convolution: nn.Module, h: Tensor) -> Tensor:
    """Each sample is convolved with what another convolution made of it."""
    kernels = convolution(h)[:, :, :3, :3].reshape(-1, 1, 3, 3)
    images = h[:, :1].expand(-1, 4, -1, -1).reshape(1, -1, 5, 5)
    made = nn.functional.conv2d(images, kernels, groups=len(kernels))
    return made.tanh().mean((2, 3)).view(len(h), 4)


WAYS = {pooled: True, viewed: False, strided: False, strided_input: False, from_samples: False}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("between", "taken"), WAYS.items())
def test_only_where_nothing_changes(between, taken, dtype) -> None:
    torch.manual_seed(0)
    model, x = Head(between).to(dtype), torch.randn(6, 3, 5, 5, dtype=dtype)
    gradients = jacobians(model, x)
    wanted = all_pairs(gradients, gradients)
    kernel = ff.empirical_ntk(model, outputs="full")
    # Rounding of sums of some hundred terms; a wrong term would show at 1e-2.
    allowed = 1e-12 if dtype == torch.float64 else 1e-4
    for _ in range(2):  # the plan is learnt in the first call
        assert (kernel(x) - wanted).norm() <= allowed * wanted.norm()
    assert bool(kernel._engine._passes._channels_last) == taken


def test_blocks_of_any_size_and_form() -> None:
    torch.manual_seed(1)
    model, x = Head(pooled).double(), torch.randn(9, 3, 5, 5, dtype=torch.float64)
    gradients = jacobians(model, x)
    wanted = all_pairs(gradients, gradients).diagonal(dim1=1, dim2=3).mean(-1)
    kernel = ff.empirical_ntk(model)
    found = kernel(x)
    assert (found - wanted).norm() <= 1e-12 * wanted.norm()
    assert torch.equal(found.diagonal(), kernel.diagonal(x))
    ordered = x.contiguous(memory_format=torch.channels_last)
    for rows in (x[:1], x[2:5], ordered, x.flip(3).flip(3)):
        places = [int((x == row).flatten(1).all(1).nonzero()) for row in rows]
        assert (kernel(rows, x) - wanted[places]).norm() <= 1e-12 * wanted.norm()


def test_a_view_that_is_refused_only_in_large_batches() -> None:
    def between(convolution: nn.Module, h: Tensor) -> Tensor:
        moved = convolution(h).tanh()
        spread = moved.view(len(h), -1) if len(h) > 4 else moved.flatten(1)
        return spread.unflatten(1, (4, -1)).mean(2)

    torch.manual_seed(2)
    model, x = Head(between).double(), torch.randn(7, 3, 5, 5, dtype=torch.float64)
    gradients = jacobians(model, x)
    wanted = all_pairs(gradients, gradients).diagonal(dim1=1, dim2=3).mean(-1)
    kernel = ff.empirical_ntk(model)
    assert (kernel(x) - wanted).norm() <= 1e-12 * wanted.norm()
