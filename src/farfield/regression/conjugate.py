"""Systems with a matrix that is only multiplied with, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from farfield.errors import RangeError, SingularKernelError
from farfield.regression.solution import relative

Columns = Float[np.ndarray, "n k"]
Apply = Callable[[Columns], Columns]

_WORTHWHILE = 0.5  # what a restart from the true residual must have been reduced to


@dataclass(frozen=True, eq=False)
class Iterate:
    """Where an iteration is: all it needs to go on.

    Attributes:
        solution: One column for each right-hand side.
        residual: What is left of the right-hand sides, by recursion.
        direction: The last search directions.
        product: Of the residuals with their preconditioned ones.
        number: Iterations so far.
    """

    solution: Columns
    residual: Columns
    direction: Columns
    product: Float[np.ndarray, " k"]
    number: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """How an iteration ended.

    Attributes:
        iterate: The last one; its residual is computed from its solution.
        residual: The largest ``|b - G a| / |b|`` of a column.
        stagnated: Whether rounding kept it from getting smaller.
    """

    iterate: Iterate
    residual: float
    stagnated: bool


def start(right: Columns, precondition: Apply) -> Iterate:
    """The iterate before the first iteration: the solution 0."""
    return _restarted(Iterate(np.zeros_like(right), right, right, right[0], 0), right, precondition)


def _restarted(state: Iterate, residual: Columns, precondition: Apply) -> Iterate:
    """From the same solution on, with its true residual and no direction to keep."""
    direction = precondition(residual)
    product = np.einsum("ij,ij->j", residual, direction)
    return replace(state, residual=residual.copy(), direction=direction, product=product)


def advance(
    state: Iterate, active: Bool[np.ndarray, " k"], multiply: Apply, precondition: Apply
) -> Iterate:
    """One iteration of the active columns, with one product for all of them.

    Raises:
        SingularKernelError: A direction without curvature.
        RangeError: Products that are not finite.
    """
    direction, before = state.direction[:, active], state.product[active]
    image = multiply(direction)
    curvature = np.einsum("ij,ij->j", direction, image)
    if not np.isfinite(curvature).all():
        raise RangeError(
            "Products with the kernel matrix are not finite: it grows beyond the range of its "
            "dtype. Scale the inputs down, or put a norm into the network."
        )
    if (curvature <= 0).any():
        raise SingularKernelError(
            "The kernel matrix is not positive definite in its precision: conjugate gradients "
            "met a direction without curvature. Give a larger ridge, or compute the kernel in "
            "float64."
        )
    step = before / curvature
    solution, residual = state.solution.copy(), state.residual.copy()
    directions, products = state.direction.copy(), state.product.copy()
    solution[:, active] += step * direction
    left = residual[:, active] - step * image
    residual[:, active] = left
    pulled = precondition(left)
    products[active] = np.einsum("ij,ij->j", left, pulled)
    directions[:, active] = pulled + (products[active] / before) * direction
    return Iterate(solution, residual, directions, products, state.number + 1)


def iterate(
    multiply: Apply,
    right: Columns,
    precondition: Apply,
    tolerance: float,
    longest: int,
    state: Iterate | None = None,
    told: Callable[[Iterate, float], None] | None = None,
) -> Outcome:
    """Solve ``G a = b`` for all columns of b at once: each has its own steps, they share products.

    A column whose residual is small enough leaves; the product with G gets cheaper. The residuals
    that decide are those of the solution: when all columns seem to be there they are computed
    anew, and columns that are not go on from there. That ends when it no longer helps.

    Args:
        multiply: ``v -> G v``, symmetric positive definite.
        right: b.
        precondition: ``v -> P^{-1} v``, with P close to G.
        tolerance: Largest ``|b - G a| / |b|`` of a column.
        longest: Iterations at most.
        state: Where to go on.
        told: Called after each iteration with it and the largest relative residual.

    Returns:
        How it ended.

    Raises:
        SingularKernelError: G is not positive definite in its precision.
        RangeError: G is not finite.

    Source: Hestenes and Stiefel (1952); Golub and Van Loan, "Matrix Computations", section 11.5.
    """
    state = start(right, precondition) if state is None else state
    before = np.inf
    while True:
        while True:
            sizes = np.array(relative(state.residual, right))
            # By rounding alone the product of a residual can fail to be positive.
            active = (sizes > tolerance) & (state.product > 0)
            if not active.any() or state.number >= longest:
                break
            state = advance(state, active, multiply, precondition)
            if told is not None:
                told(state, max(relative(state.residual, right)))
        residual = right - multiply(state.solution)
        true = max(relative(residual, right))
        stagnated = true > _WORTHWHILE * before
        if true <= tolerance or state.number >= longest or stagnated:
            return Outcome(replace(state, residual=residual), true, stagnated)
        before = true
        state = _restarted(state, residual, precondition)
