"""Which inputs a certificate is about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farfield.errors import SettingsError

Ends = tuple[float | int | Tensor, float | int | Tensor]
DomainChoice = Ends | Mapping[int, Ends] | None


@dataclass(frozen=True, eq=False)
class Domain:
    """A box of inputs, with or without walls.

    Attributes:
        lower: Least value of each entry of one input; minus infinity where there is no wall.
        upper: Largest value.
        vocabulary: How many tokens there are, where an input is a sequence of whole numbers that
            are looked up in a table.
    """

    lower: Tensor
    upper: Tensor
    vocabulary: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.lower.shape)

    @property
    def is_everything(self) -> bool:
        """Whether no entry has a wall."""
        return bool((self.lower.isinf() & self.upper.isinf()).all())

    @property
    def is_box(self) -> bool:
        """Whether all walls are there."""
        return bool((self.lower.isfinite() & self.upper.isfinite()).all())

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest inputs of the domain."""
        return torch.minimum(torch.maximum(x, self.lower), self.upper)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape)) or "1"
        if self.vocabulary:
            return f"every input of {size} of {self.vocabulary} tokens"
        if self.is_everything:
            return (
                f"every input of R^({size})" if len(self.shape) > 1 else f"every input of R^{size}"
            )
        walls = int((self.lower.isfinite() | self.upper.isfinite()).sum())
        if self.is_box:
            return f"every input of a box of {size} numbers"
        return f"every input of {size} numbers, {walls} of them within limits"


def domain_of(choice: DomainChoice, shape: Sequence[int]) -> Domain:
    """The domain that a user asked for.

    Args:
        choice: ``None``, a pair (lower, upper), or a mapping from coordinates to pairs.
        shape: The shape of one input.

    Returns:
        The domain.

    Raises:
        SettingsError: Limits that are no numbers, empty, or of coordinates that do not exist.
    """
    full = tuple(shape)
    lower = torch.full(full, -math.inf, dtype=torch.float64)
    upper = torch.full(full, math.inf, dtype=torch.float64)
    if choice is None:
        return Domain(lower, upper)
    if isinstance(choice, Mapping):
        for coordinate, ends in choice.items():
            flat = lower.numel()
            if not isinstance(coordinate, int) or not 0 <= coordinate < flat:
                raise SettingsError(
                    f"The domain names coordinate {coordinate!r}; one input has {flat}, counted "
                    "from 0."
                )
            low, high = _pair(ends)
            if low.numel() != 1 or high.numel() != 1:
                raise SettingsError(
                    f"The domain's limits of coordinate {coordinate} are several numbers; give "
                    "one pair (lower, upper)."
                )
            lower.view(-1)[coordinate] = low.reshape(())
            upper.view(-1)[coordinate] = high.reshape(())
    else:
        low, high = _pair(choice)
        try:
            lower, upper = low.expand(full).clone(), high.expand(full).clone()
        except RuntimeError as error:
            raise SettingsError(
                f"The domain's limits do not fit inputs of shape {full}; give numbers, or tensors "
                "of that shape, infinite where there is no limit."
            ) from error
    if bool(lower.isnan().any() | upper.isnan().any()) or bool((lower > upper).any()):
        raise SettingsError("The domain is empty: a lower limit is above its upper one, or NaN.")
    if bool((lower == math.inf).any() | (upper == -math.inf).any()):
        raise SettingsError("A lower limit of the domain is infinity, or an upper one minus it.")
    return Domain(lower, upper)


def _pair(ends: object) -> tuple[Tensor, Tensor]:
    error = SettingsError(
        "A domain is None (all inputs), a pair (lower, upper) of numbers or tensors, or a "
        "mapping from coordinates to such pairs; infinity where there is no limit."
    )
    if not isinstance(ends, tuple | list) or len(ends) != 2:
        raise error
    try:
        # At once in float64: as float32, 0.1 would lie beyond 0.1.
        low, high = (torch.as_tensor(end, dtype=torch.float64).detach().cpu() for end in ends)
    except (TypeError, ValueError, RuntimeError):
        raise error from None
    return low, high


def input_shape_of(model: nn.Module, given: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one input: given, or that of the first layer that has one.

    Raises:
        SettingsError: It was not given and cannot be told.
    """
    if given is not None:
        if isinstance(given, int):
            raise SettingsError(
                f"input_shape is {given}; write ({given},), the shape of one input."
            )
        shape = tuple(given)
        if any(size < 1 for size in shape):
            raise SettingsError(f"input_shape is {shape}; every size must be at least 1.")
        return shape
    first = next(
        (m for m in model.modules() if any(True for _ in m.parameters(recurse=False))), None
    )
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    if isinstance(first, nn.LayerNorm | nn.RMSNorm):
        return tuple(first.normalized_shape)
    if isinstance(first, nn.BatchNorm1d):
        return (first.num_features,)
    what = "no layer with parameters" if first is None else f"a {type(first).__name__}"
    raise SettingsError(
        f"The shape of one input cannot be told from {what} at the start of the model; give it "
        "without the batch, such as input_shape=(3, 32, 32)."
    )
