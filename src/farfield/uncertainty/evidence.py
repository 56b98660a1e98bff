"""The marginal likelihood of the data, and the prior precision and noise that make it largest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from farfield.uncertainty.likelihood import Likelihood

_VALLEYS = 5  # places of the grid from which the search goes on
_LOWEST, _HIGHEST = math.log(1e-10), math.log(1e12)  # of prior precision and noise


@dataclass(frozen=True)
class Evidence:
    r"""What Laplace's approximation says of the probability of the targets.

    ``log p(y | X) = log p(y | theta) - (p |theta|^2 + sum_q log(1 + w_q / (p noise))) / 2``
    with the eigenvalues w of ``L' k(X, X) L``: the determinant of the posterior precision over that
    of the prior, by Sylvester's identity.

    Attributes:
        likelihood: Of the targets.
        loss: Of the network on the training data.
        numbers: Outputs of all samples together.
        squared_norm: ``|theta|^2``.
        eigenvalues: w.

    Source: MacKay (1992); Immer et al., "Scalable Marginal Likelihood Estimation for Model
    Selection in Deep Learning" (2021), equation 5.
    """

    likelihood: Likelihood
    loss: float
    numbers: int
    squared_norm: float
    eigenvalues: Float[np.ndarray, " q"]

    def at(self, precision: float, noise_var: float) -> float:
        """The log marginal likelihood.

        Args:
            precision: p.
            noise_var: Of the observations; 1 for classification.
        """
        fit = self.likelihood.log_likelihood(self.loss, self.numbers, noise_var)
        determinant = np.log1p(self.eigenvalues / (precision * noise_var)).sum()
        return float(fit - (determinant + precision * self.squared_norm) / 2.0)

    def best(self, start: tuple[float, float], noise: bool, least: float) -> tuple[float, float]:
        """Where it is largest.

        Args:
            start: Prior precision and noise to begin with.
            noise: Whether the noise may change.
            least: The least product of both.
        """
        return minimised(lambda p, s: -self.at(p, s), start, noise, least)


def minimised(
    function: Callable[[float, float], float],
    start: tuple[float, float],
    noise: bool,
    least: float,
) -> tuple[float, float]:
    """The prior precision and noise at which a function is smallest, between 1e-10 and 1e12.

    A coarse grid in the logarithms finds valleys, Nelder and Mead's method the floor of those that
    begin lowest, each of another prior precision.

    Args:
        function: Of prior precision and noise.
        start: Tried beside the grid.
        noise: Whether the noise may change.
        least: The least product of both that counts.

    Returns:
        Both; ``start`` where no other product is large enough.
    """
    grid = np.linspace(_LOWEST, _HIGHEST, 23)
    fixed = math.log(start[1])
    places = [(math.log(start[0]), fixed)]
    places += list(itertools.product(grid, grid if noise else [fixed]))

    def value(place: Float[np.ndarray, " k"]) -> float:
        p, s = np.clip([place[0], place[1] if noise else fixed], _LOWEST, _HIGHEST)
        if math.exp(p + s) < least:
            return math.inf
        return function(math.exp(p), math.exp(s))

    heights = {place: value(np.array(place)) for place in places}
    valleys: dict[float, tuple[float, float]] = {}
    for place in sorted(heights, key=heights.__getitem__):
        if heights[place] < math.inf:
            valleys.setdefault(place[0], place)
    if not valleys:
        return start
    floors = []
    for start_of in list(valleys.values())[:_VALLEYS]:
        free = np.array(start_of[: 2 if noise else 1])
        simplex = np.vstack([free, *(free + step for step in np.eye(len(free)))])
        options = {"xatol": 1e-4, "fatol": 1e-9, "initial_simplex": simplex, "maxiter": 400}
        floors.append(minimize(value, free, method="Nelder-Mead", options=options))
    found = min(floors, key=lambda floor: float(floor.fun)).x
    p, s = np.clip([found[0], found[1] if noise else fixed], _LOWEST, _HIGHEST)
    return math.exp(p), math.exp(s) if noise else start[1]
