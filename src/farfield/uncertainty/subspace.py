"""The directions of the parameters that ELLA keeps, from the kernel of a few gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from farfield.empirical.engine import Engine
from farfield.empirical.inputs import Inputs, count, joined, rows_of
from farfield.empirical.kernel import EmpiricalNTK, engine_of
from farfield.empirical.memory import block_side, scratch_of
from farfield.empirical.projections import add_weighed
from farfield.errors import RangeError
from farfield.uncertainty.network import LONGEST, ChosenOutput, Network, with_choice
from farfield.uncertainty.samples import Samples


@dataclass(frozen=True, eq=False)
class Subspace:
    r"""K orthonormal directions of the parameters.

    Of M gradients ``J_S``, each of one output at one input, ``J_S J_S' = U diag(values) U'``; the
    directions are ``V = J_S' U_K diag(values_K)^{-1/2}``, those in which the gradients are longest.

    Attributes:
        directions: For each parameter all directions, (K, *shape of the parameter).
        inducing: The inputs of the gradients.
        chosen: The output of each gradient.
        values: All M eigenvalues, largest first.

    Source: Deng, Zhou and Zhu, "Accelerated Linearized Laplace Approximation for Bayesian Deep
    Learning" (2022), section 3.
    """

    directions: tuple[Tensor, ...]
    inducing: Inputs
    chosen: Int[Tensor, " m"]
    values: Tensor


def draw_pairs(
    classes: Int[Tensor, " n"] | None,
    samples: int,
    outputs: int,
    size: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Draw samples, as many of each class as there can be, and an output at random for each.

    A sample is drawn a second time, with another output, only when all have been drawn.

    Args:
        classes: Of each sample; all alike when ``None``.
        samples: n.
        outputs: o.
        size: How many; all ``n o`` pairs if there are no more.
        generator: Source of randomness.

    Returns:
        Samples and outputs, (m,) each.
    """
    size = min(size, samples * outputs)
    rounds = -(-size // samples)
    which = torch.rand(samples, outputs, generator=generator).argsort(1)
    rows, chosen = [], []
    for number in range(rounds):
        wanted = min(samples, size - number * samples)
        order = torch.randperm(samples, generator=generator)
        if classes is not None:
            # The first of every class before the second of any.
            place = torch.empty_like(order)
            for kind in classes.unique():
                own = classes[order] == kind
                place[own] = torch.arange(int(own.sum()))
            order = order[place.argsort(stable=True)]
        rows.append(order[:wanted])
        chosen.append(which[order[:wanted], number])
    return torch.cat(rows), torch.cat(chosen)


def gather(samples: Samples, rows: Int[Tensor, " m"]) -> Inputs:
    """The inputs of some samples, in the order of ``rows``."""
    ordered, order = rows.sort()
    parts = []
    for block, inputs, _ in samples.blocks(1024):
        here = ordered[(ordered >= block.start) & (ordered < block.stop)] - block.start
        if len(here):
            parts.append(rows_of(inputs, here))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return rows_of(joined(parts), back)


def find_subspace(network: Network, inducing: Inputs, chosen: Tensor, features: int) -> Subspace:
    """Take the kernel of some gradients apart.

    Args:
        network: The network.
        inducing: Inputs.
        chosen: The output of each whose gradient is taken.
        features: K; fewer if the gradients do not span as many directions.

    Returns:
        The directions.

    Raises:
        RangeError: All gradients are zero.
    """
    points = network.prepared(inducing)
    which = chosen.to(network.device)
    single = with_choice(points, which)
    engine = engine_of(ChosenOutput(network.model, network.output), "sum", memory=network.budget)
    gram = EmpiricalNTK(engine, network.device, None)(single).double()
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    # What rounding of the kernel puts into its eigenvalues is no direction of the gradients.
    floor = 10.0 * torch.finfo(network.dtype).eps * values[0]
    kept = int((values[:features] > floor).sum())
    if not kept:
        raise RangeError(
            "The gradients of all inducing samples are zero, so that no parameter is uncertain in "
            "a way that shows. Take other samples or other weights."
        )
    weights = vectors[:, :kept] / values[:kept].sqrt()
    directions = _combined(engine, single, weights.to(network.dtype))
    return Subspace(directions, points, which, values.clamp_min(0.0))


def _combined(engine: Engine, inputs: Inputs, weights: Tensor) -> tuple[Tensor, ...]:
    """``J_S' weights``, with the gradients of a block of samples at a time."""
    total = {
        name: parameter.new_zeros(weights.shape[1], *parameter.shape)
        for name, parameter in engine.parameters.items()
    }
    need = engine.size(rows_of(inputs, slice(0, 4))).need
    n = count(inputs)
    side = block_side(need, engine.budget, min(n, LONGEST))
    for start in range(0, n, side):
        rows = slice(start, start + side)
        own = weights[rows].unsqueeze(1)  # of one output
        gradients = engine.gradients(rows_of(inputs, rows))
        add_weighed(total, gradients, own, scratch_of(engine.budget))
    return tuple(total.values())
