"""Naive computations that share no code with what they check."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def train_alone(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    batches: list[list[Tensor]],
    learning_rate: float,
) -> nn.Module:
    """One network, torch.optim.Adam, mean squared error; ``batches[epoch]`` lists row indices."""
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for epoch in batches:
        for rows in epoch:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(network(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
    return network.eval()


def largest_relative_difference(left: nn.Module, right: nn.Module) -> float:
    """Over all tensors: largest difference, relative to the tensor's largest number."""
    differences = [0.0]
    other = right.state_dict()
    for name, tensor in left.state_dict().items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, other[name]), name
            continue
        scale = max(float(tensor.abs().max()), 1e-12)
        differences.append(float((tensor - other[name]).abs().max()) / scale)
    return max(differences)
