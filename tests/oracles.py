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


def jacobians(model: nn.Module, inputs: object) -> dict[str, Tensor]:
    """Dense gradients of all outputs, each sample run alone: name -> (n, outputs, entries)."""
    model = copy.deepcopy(model)  # functional_call breaks modules that are used twice
    for module in model.modules():
        if hasattr(module, "sparse"):
            module.sparse = False
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    columns = [inputs] if isinstance(inputs, Tensor) else list(_values(inputs))
    found: dict[str, list[Tensor]] = {name: [] for name in trained}
    for sample in range(len(columns[0])):
        alone = [column[sample : sample + 1] for column in columns]

        def outputs(parameters: dict[str, Tensor], alone: list[Tensor] = alone) -> Tensor:
            if isinstance(inputs, dict):
                named = dict(zip(inputs, alone, strict=True))
                result = torch.func.functional_call(model, parameters, (), named)
            else:
                result = torch.func.functional_call(model, parameters, tuple(alone))
            parts = [result] if isinstance(result, Tensor) else list(_values(result))
            return torch.cat([part.reshape(-1) for part in parts])

        # One output at a time: not every operation can be run for several at once.
        for name, jacobian in torch.func.jacrev(outputs, chunk_size=1)(trained).items():
            found[name].append(jacobian.reshape(len(jacobian), -1).detach())
    return {name: torch.stack(rows) for name, rows in found.items()}


def all_pairs(
    left: dict[str, Tensor], right: dict[str, Tensor], weights: dict[str, float] | None = None
) -> Tensor:
    """The tangent kernel (n1, o, n2, o) of dense gradients."""
    return sum(
        (weights or {}).get(name, 1.0) * torch.einsum("iap,jbp->iajb", left[name], right[name])
        for name in left
    )


def _values(collection: object) -> object:
    return collection.values() if isinstance(collection, dict) else collection
