"""Samples block by block: from tensors in memory, or from a DataLoader as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from farfield.empirical.inputs import (
    Inputs,
    check_inputs,
    count,
    joined,
    mapped,
    rows_of,
    tensors_of,
)
from farfield.errors import SettingsError

Data = Inputs | DataLoader[Any]
"""Inputs in memory, or a DataLoader that yields batches of them in a fixed order."""

TakeInputs = Callable[[Any], Inputs]


@dataclass(frozen=True)
class Stream:
    """Samples that can be read several times in the same order.

    Attributes:
        data: Where they come from.
        take: What to do with a batch of a loader.
        device: Where the model is.
        seen: What the batches of a loader added up to when they were read first.
    """

    data: Data
    take: TakeInputs | None
    device: torch.device
    seen: list[list[Tensor]] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of samples."""
        if not isinstance(self.data, DataLoader):
            return count(self.data)
        return sum(count(batch) for batch in self._batches())

    def blocks(self, side: int, start: int = 0) -> Iterator[tuple[slice, Inputs]]:
        """Blocks of at most ``side`` samples.

        Args:
            side: Samples of a block.
            start: The first sample.

        Yields:
            Which samples, and what they are.
        """
        if not isinstance(self.data, DataLoader):
            for top in range(start, count(self.data), side):
                rows = slice(top, min(top + side, count(self.data)))
                yield rows, self._placed(rows_of(self.data, rows))
            return
        waiting: list[Inputs] = []
        held, seen = 0, 0
        for batch in self._batches():
            size = count(batch)
            skipped = min(max(start - seen, 0), size)
            seen += size
            if skipped < size:
                waiting.append(rows_of(batch, slice(skipped, size)))
                held += size - skipped
            while held >= side:
                whole = joined(waiting)
                yield slice(start, start + side), self._placed(rows_of(whole, slice(0, side)))
                start, held = start + side, held - side
                waiting = [rows_of(whole, slice(side, side + held))] if held else []
        if held:
            yield slice(start, start + held), self._placed(joined(waiting))

    def _batches(self) -> Iterator[Inputs]:
        loader = self.data
        if not isinstance(loader, DataLoader):
            raise AssertionError("only loaders have batches")
        number = -1
        for number, batch in enumerate(_in_its_own_time(loader)):
            inputs = _inputs(batch) if self.take is None else self.take(batch)
            check_inputs(inputs)
            sums = [_sum(tensor) for tensor in tensors_of(inputs)]
            if number == len(self.seen):
                self.seen.append(sums)
            elif not _equal(self.seen[number], sums):
                raise _changing(f"its batch {number} has changed")
            yield inputs
        if number + 1 < len(self.seen):
            raise _changing(f"{number + 1} batches instead of {len(self.seen)}")

    def _placed(self, inputs: Inputs) -> Inputs:
        return mapped(inputs, lambda tensor: tensor.to(self.device))


def stream(data: Data, take: TakeInputs | None, device: torch.device) -> Stream:
    """Make sure that samples can be read in a fixed order.

    Args:
        data: Inputs or a DataLoader.
        take: What to do with a batch of a loader.
        device: Where the model is.

    Returns:
        The stream.

    Raises:
        SettingsError: A loader that shuffles, or inputs that are not allowed.
    """
    if isinstance(data, DataLoader):
        # A batch sampler of the user's hides its sampler from the loader.
        sampler = getattr(data.batch_sampler, "sampler", None) or data.sampler
        iterable = isinstance(data.dataset, IterableDataset)
        if not iterable and not isinstance(sampler, SequentialSampler):
            raise SettingsError(
                f"The DataLoader draws its samples with a {type(sampler).__name__}, in another "
                "order each time; a kernel reads them several times. Use shuffle=False."
            )
    else:
        check_inputs(data)
    return Stream(data, take, device)


def _in_its_own_time(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose seed is not taken from the random numbers of the program."""
    with torch.random.fork_rng(devices=[]):
        batches = iter(loader)
    yield from batches


def _sum(tensor: Tensor) -> Tensor:
    """A number that is another one, almost surely, for other numbers in the tensor."""
    flat = tensor.detach().flatten().double()
    places = torch.arange(len(flat), device=flat.device, dtype=torch.float64)
    return (flat * (1.0 + places.sqrt().frac())).sum()


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def _changing(how: str) -> SettingsError:
    return SettingsError(
        f"The DataLoader does not yield the same when it is read again: {how}. A kernel reads "
        "the samples several times; they must have a fixed order and no random changes."
    )


def _inputs(batch: object) -> Inputs:
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        parts = tuple(batch)
        return parts[0] if len(parts) == 1 else parts
    if isinstance(batch, torch.Tensor):
        return batch
    raise SettingsError(
        f"The DataLoader yields {type(batch).__name__}; give from_batch=..., a function that "
        "takes the model's inputs out of such a batch."
    )
