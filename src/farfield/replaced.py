"""A model with other tensors in place of its own, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def replaced(model: nn.Module, tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Put other tensors into a model; at the end it holds its own again.

    Unlike ``torch.func.functional_call`` this leaves modules as they were that are used several
    times in a model, and reaches the weights of recurrent layers.

    Args:
        model: The model.
        tensors: ``id`` of a parameter or buffer -> what is to stand in its place.

    Yields:
        Nothing.
    """
    changed: list[tuple[dict[str, Any], str, Tensor]] = []
    flat: list[tuple[Any, list[Tensor]]] = []
    # What else a call may leave behind: weights that hooks compute before every call, or
    # features kept for later (with their graph).
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    try:
        for module in model.modules():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for table in tables:
                for name, own in list(table.items()):
                    if own is not None and id(own) in tensors:
                        changed.append((table, name, own))
                        table[name] = tensors[id(own)]
            if isinstance(module, nn.RNNBase):
                weights: list[Any] = module._flat_weights
                flat.append((module, weights))
                module._flat_weights = [tensors.get(id(weight), weight) for weight in weights]
        yield
    finally:
        for table, name, own in reversed(changed):
            table[name] = own
        for recurrent, before in flat:
            recurrent._flat_weights = before
        for module, own_before in attributes:
            for name in vars(module).keys() - own_before.keys():
                del module.__dict__[name]
            module.__dict__.update(own_before)


def run_with(model: nn.Module, state: Mapping[str, Tensor], *args: Any) -> Any:
    """What a model gives with other parameters or buffers.

    Args:
        model: The model; it is not changed.
        state: Tensors by the names of ``named_parameters()`` and ``named_buffers()``.
        args: What ``forward`` takes.

    Returns:
        Its result.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with replaced(model, {id(own[name]): value for name, value in state.items()}):
        return model(*args)
