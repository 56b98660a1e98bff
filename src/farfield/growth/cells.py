r"""All inputs of a few numbers, cut into cells.

R^d is covered by d + 1 faces of a cube (projective coordinates): every x is ``y / rho`` where the
largest of ``|y_1|, ..., |y_d|, rho`` is 1 and ``0 < rho``. On the face where ``rho = 1`` the
input is y itself, in [-1, 1]^d; on that where ``y_i = 1`` it is at least 1, and goes to infinity
as rho goes to 0. So a cell is a box in the coordinates that are left, and y and rho are affine
functions of them. A box of inputs is a face with rho = 1, moved and stretched.

All walls are whole multiples of a power of 1/2, which float64 holds exactly: no input is lost
between two cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from farfield.growth.domain import Domain
from farfield.growth.forms import Form, form
from farfield.growth.intervals import rounding

_SMALLEST = 2.0**-40  # half a side; the walls of smaller cells might be rounded


@dataclass(frozen=True, eq=False)
class Cells:
    """Boxes of d numbers, each on a face.

    Attributes:
        offset: (K, d + 1): y and rho where all coordinates are 0.
        place: (K, d): to which entry of (y, rho) each coordinate belongs.
        centre: (K, d): the middle of the box.
        half: (K, d): half of its sides.
        shift: (d,): the input is ``(shift + stretch y) / rho``.
        stretch: (d,).
    """

    offset: Tensor
    place: Tensor
    centre: Tensor
    half: Tensor
    shift: Tensor
    stretch: Tensor

    def __len__(self) -> int:
        return len(self.centre)

    def rows(self, rows: Tensor) -> Cells:
        """Some of the cells."""
        return replace(
            self, offset=self.offset[rows], place=self.place[rows], centre=self.centre[rows],
            half=self.half[rows],
        )  # fmt: skip

    @property
    def can_be_cut(self) -> Tensor:
        """Which cells are not too small, (K,)."""
        return self.half.amax(1) > _SMALLEST

    def halves(self) -> Cells:
        """Each cell cut in two across its longest side: first all left halves, then the right."""
        longest = self.half.argmax(1, keepdim=True)
        side = self.half.gather(1, longest) / 2.0
        at = self.centre.gather(1, longest)
        half = self.half.scatter(1, longest, side)
        return join(
            [
                replace(self, centre=self.centre.scatter(1, longest, at + sign * side), half=half)
                for sign in (-1.0, 1.0)
            ]
        )

    def forms(self, shape: tuple[int, ...]) -> tuple[Form, Form]:
        """``rho x`` in the shape of a batch of one input, and rho."""
        middle = self.offset.scatter(1, self.place, self.centre)
        count, size = self.half.shape
        slopes = torch.zeros(size, count, size + 1, dtype=torch.float64)
        rows = torch.arange(count)
        for i in range(size):
            slopes[i, rows, self.place[:, i]] = self.half[:, i]
        centre = self.shift + self.stretch * middle[:, :-1]
        change = self.stretch * slopes[..., :-1]
        room = self.shift.abs() + self.stretch * (middle.abs() + slopes.abs().sum(0))[:, :-1]
        x = form(centre, change, rounding(2) * room)
        zero = torch.zeros(count, dtype=torch.float64)
        return x.reshape(*shape), form(middle[:, -1], slopes[..., -1], zero)

    def points(self) -> Tensor:
        """The input in the middle of each cell, (K, d)."""
        middle = self.offset.scatter(1, self.place, self.centre)
        return (self.shift + self.stretch * middle[:, :-1]) / middle[:, -1:]


def join(parts: list[Cells]) -> Cells:
    """The cells of several coverings of the same domain."""
    return replace(
        parts[0],
        offset=torch.cat([part.offset for part in parts]),
        place=torch.cat([part.place for part in parts]),
        centre=torch.cat([part.centre for part in parts]),
        half=torch.cat([part.half for part in parts]),
    )


def cover(domain: Domain) -> Cells:
    """Cells that cover the domain: one of a box, 2 d + 1 of everything else."""
    size = domain.lower.numel()
    zero, one = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    inner = _face(size, size, 1.0, zero, one)
    if domain.is_box:
        low, high = domain.lower.flatten(), domain.upper.flatten()
        shift = low / 2.0 + high / 2.0
        # The walls are not lost by rounding, for they are moved outwards.
        stretch = (high / 2.0 - low / 2.0) * (1.0 + rounding(2)) + rounding(2) * shift.abs()
        return replace(inner, shift=shift, stretch=stretch)
    centre, half = zero.clone(), one.clone()
    centre[-1] = half[-1] = 0.5  # rho is between 0 and 1
    sides = [_face(size, i, sign, centre, half) for i in range(size) for sign in (-1.0, 1.0)]
    return join([inner, *sides])


def _face(size: int, entry: int, value: float | int, centre: Tensor, half: Tensor) -> Cells:
    """The face where an entry of (y, rho) has a value."""
    offset = torch.zeros(1, size + 1, dtype=torch.float64)
    offset[0, entry] = value
    place = torch.tensor([[i for i in range(size + 1) if i != entry]])
    zero, one = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    return Cells(offset, place, centre[None], half[None], zero, one)
