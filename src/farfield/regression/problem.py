"""A kernel regression to be solved, and what solves it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.duplicates import Merged, merge_duplicates
from farfield.regression.solution import Solution


@dataclass(frozen=True, eq=False)
class Problem:
    """Points, their targets, and the kernel between them.

    Attributes:
        kernel: The kernel.
        x: Training inputs, in the dtype in which the kernel is computed.
        y: Targets, in float64 on the CPU.
        ridge: What is added to the diagonal of the kernel matrix of all points.
    """

    kernel: Kernel
    x: Float[Tensor, "n *features"]
    y: Float[Tensor, "n outputs"]
    ridge: float

    @property
    def dtype(self) -> torch.dtype:
        """In which the kernel is computed."""
        return self.x.dtype

    @cached_property
    def merged(self) -> Merged:
        """The points with equal inputs merged into one."""
        return merge_duplicates(self.x, self.y)

    @property
    def ridges(self) -> Float[np.ndarray, " m"]:
        """What the ridge becomes for each of the merged points: shared by its duplicates."""
        shared: np.ndarray = self.ridge / self.merged.counts
        return shared


@runtime_checkable
class Solver(Protocol):
    """The settings of a way to solve; one that holds nothing but settings can be used again."""

    def solve(self, problem: Problem) -> Solution:
        """The coefficients, and what is known of them."""
