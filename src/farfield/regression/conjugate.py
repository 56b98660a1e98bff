"""Systems with a kernel matrix that is too large to factorise, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from farfield.errors import SingularKernelError

Columns = Float[np.ndarray, "n k"]
Apply = Callable[[Columns], Columns]


@dataclass(frozen=True, eq=False)
class Iterate:
    """Where an iteration is: all it needs to go on.

    Attributes:
        solution: One column for each right-hand side.
        residual: What is left of the right-hand sides.
        direction: The last search directions.
        product: Of the residuals with their preconditioned ones.
        number: Iterations so far.
    """

    solution: Columns
    residual: Columns
    direction: Columns
    product: Float[np.ndarray, " k"]
    number: int


def start(right: Columns, precondition: Apply) -> Iterate:
    """The iterate before the first iteration: the solution 0."""
    direction = precondition(right)
    product = np.einsum("ij,ij->j", right, direction)
    return Iterate(np.zeros_like(right), right.copy(), direction, product, 0)


def advance(state: Iterate, multiply: Apply, precondition: Apply) -> Iterate:
    """One iteration for all columns, with one product."""
    image = multiply(state.direction)
    curvature = np.einsum("ij,ij->j", state.direction, image)
    running = state.product > 0
    if (curvature[running] <= 0).any():
        raise SingularKernelError(
            "The kernel matrix is not positive definite in its precision: conjugate gradients "
            "met a direction without curvature. Give a larger ridge, or compute the kernel in "
            "float64."
        )
    step = np.where(running, state.product / np.where(running, curvature, 1.0), 0.0)
    residual = state.residual - step * image
    pulled = precondition(residual)
    product = np.einsum("ij,ij->j", residual, pulled)
    keep = np.where(running, product / np.where(running, state.product, 1.0), 0.0)
    return Iterate(
        state.solution + step * state.direction,
        residual,
        pulled + keep * state.direction,
        product,
        state.number + 1,
    )


def solve(
    multiply: Apply,
    right: Columns,
    precondition: Apply,
    tolerance: float,
    longest: int,
    state: Iterate | None = None,
    told: Callable[[Iterate, float], None] | None = None,
) -> tuple[Iterate, float]:
    """Solve ``G a = b`` for all columns of b at once.

    Residuals are those of the solution: when they seem small enough they are computed anew from
    it, and the iteration goes on from there if they are not.

    Args:
        multiply: ``v -> G v``, symmetric positive definite.
        right: b.
        precondition: ``v -> P^{-1} v``, with P close to G.
        tolerance: Largest ``|b - G a| / |b|`` of a column.
        longest: Iterations at most.
        state: Where to go on.
        told: Called after each iteration with it and the largest relative residual.

    Returns:
        The last iterate, and its largest relative residual, computed from the solution.

    Source: Hestenes and Stiefel (1952); Golub and Van Loan, "Matrix Computations", section 11.5.
    """
    scale = np.linalg.norm(right, axis=0)
    scale = np.where(scale > 0, scale, 1.0)

    def size(residual: Columns) -> float:
        return float((np.linalg.norm(residual, axis=0) / scale).max(initial=0.0))

    state = state or start(right, precondition)
    before = np.inf
    while True:
        while size(state.residual) > tolerance and state.number < longest:
            state = advance(state, multiply, precondition)
            if told is not None:
                told(state, size(state.residual))
        residual = right - multiply(state.solution)
        true = size(residual)
        if true <= tolerance or state.number >= longest or true > 0.5 * before:
            return replace(state, residual=residual), true
        before = true
        pulled = precondition(residual)
        product = np.einsum("ij,ij->j", residual, pulled)
        state = replace(state, residual=residual, direction=pulled, product=product)
