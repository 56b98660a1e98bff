"""Samples with their targets: a pair of tensors in memory, or a DataLoader of such pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from farfield.empirical.inputs import Inputs, joined, mapped
from farfield.empirical.streams import Stream, stream
from farfield.errors import DataError, SettingsError

Labelled = tuple[Any, Any] | Mapping[str, Any] | DataLoader[Any]
"""``(x, y)``, a mapping of named inputs and ``"labels"``, or a DataLoader that yields such."""

_TARGETS = ""  # no argument of forward has this name
_PLACE = "#"  # begins the names of inputs that have only a place


@dataclass(frozen=True)
class Samples:
    """Samples and targets that can be read several times in the same order.

    Attributes:
        source: All tensors of a sample side by side, by name.
    """

    source: Stream

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.source)

    def blocks(self, side: int) -> Iterator[tuple[slice, Inputs, Tensor]]:
        """Blocks of at most ``side`` samples.

        Args:
            side: Samples of a block.

        Yields:
            Which samples, their inputs and their targets.
        """
        for rows, tensors in self.source.blocks(side):
            inputs, targets = _split(tensors)
            yield rows, inputs, targets

    def collected(self) -> tuple[Inputs, Tensor]:
        """All of them in memory."""
        return _split(joined([tensors for _, tensors in self.source.blocks(1024)]))

    def shuffled(self, generator: torch.Generator) -> Samples:
        """In random order where they are in memory; a DataLoader keeps its own."""
        if isinstance(self.source.data, DataLoader):
            return self
        order = torch.randperm(len(self), generator=generator)
        data = mapped(self.source.data, lambda tensor: tensor[order.to(tensor.device)])
        return Samples(Stream(data, None, self.source.device))


def samples_of(data: object, device: torch.device, name: str = "The data") -> Samples:
    """Make sure that samples and targets can be read in a fixed order.

    Args:
        data: What the user gave.
        device: Where the model is.
        name: What the message calls it.

    Returns:
        The samples.

    Raises:
        SettingsError: Something else than pairs, a loader that shuffles, no samples, or inputs
            that are not finite.
        DataError: Targets that are not finite.
    """
    if isinstance(data, DataLoader):
        found = Samples(stream(data, _flat, device))
    else:
        found = Samples(stream(_flat(data), None, device))
    if next(found.blocks(1), None) is None:
        raise SettingsError(f"{name} hold no samples; at least one is needed.")
    return found


def inputs_of(data: Inputs | DataLoader[Any], device: torch.device) -> Stream:
    """Inputs to predict at: tensors, or a DataLoader with or without targets.

    Args:
        data: As of ``predict``. What a loader yields is taken as in ``fit``: the last of several
            tensors is the target, and is left out.
        device: Where the model is.

    Returns:
        The stream.
    """
    return (
        stream(data, _without_targets, device)
        if isinstance(data, DataLoader)
        else stream(data, None, device)
    )


def _without_targets(batch: object) -> Inputs:
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping) and "labels" not in batch:
        return dict(batch)
    if isinstance(batch, Sequence) and len(batch) == 1:
        only: Inputs = batch[0]
        return only
    return _split(_flat(batch))[0]


def _flat(batch: object) -> dict[str, Tensor]:
    """All tensors of a batch by name, the targets among them."""
    named: dict[str, object] = {}
    if isinstance(batch, Mapping) and "labels" in batch:
        named = {key: value for key, value in batch.items() if key != "labels"}
        targets = batch["labels"]
    elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) >= 2:
        *first, targets = batch
        inputs: Any = first[0] if len(first) == 1 else first
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        else:
            several = inputs if isinstance(inputs, Sequence) else [inputs]
            named = {f"{_PLACE}{place}": tensor for place, tensor in enumerate(several)}
    else:
        raise SettingsError(
            f"The data are of type {type(batch).__name__}; give a pair (x, y) of inputs and "
            'targets, a mapping of named inputs and "labels", or a DataLoader that yields such.'
        )
    if not isinstance(targets, Tensor):
        raise SettingsError(
            f"The targets are of type {type(targets).__name__}; give a tensor, such as of "
            "torch.as_tensor(y)."
        )
    wrong = [type(value).__name__ for value in named.values() if not isinstance(value, Tensor)]
    if wrong:
        raise SettingsError(
            f"An input is of type {wrong[0]}; give tensors, such as of torch.as_tensor(x)."
        )
    if targets.is_floating_point() and not bool(targets.isfinite().all()):
        raise DataError(
            f"{int((~targets.isfinite()).sum())} of the {targets.numel()} targets are NaN or "
            "infinite; remove those samples."
        )
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    return {**tensors, _TARGETS: targets}


def _split(tensors: Inputs) -> tuple[Inputs, Tensor]:
    if not isinstance(tensors, Mapping):
        raise AssertionError("samples are held by name")
    named = {key: tensor for key, tensor in tensors.items() if key != _TARGETS}
    targets = tensors[_TARGETS]
    if all(key.startswith(_PLACE) for key in named):
        places = tuple(named.values())
        return (places[0] if len(places) == 1 else places), targets
    return named, targets
