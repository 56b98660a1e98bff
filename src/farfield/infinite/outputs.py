"""What a model takes and returns: one tensor, or several in a tuple, a list or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from farfield.errors import SettingsError
from farfield.infinite.limit_tensor import RULES

OutputChoice = int | str | None
"""Which output of several: its index or its key; ``None`` for all of them."""

Named = dict[int | str, Any]


def check_features(x: Tensor) -> None:
    """Refuse inputs without features.

    Raises:
        SettingsError: There is no dimension of features, or one has no entries.
    """
    if x.ndim < 2:
        raise SettingsError(
            f"The inputs have shape {tuple(x.shape)}; they must be (n, features). Use x[:, None] "
            "for n inputs of one feature, x[None] for one input."
        )
    if x.shape[1:].numel() == 0:
        raise SettingsError(
            f"The inputs have shape {tuple(x.shape)}, so no features; a model needs at least one."
        )


def outputs_of(result: object, choice: OutputChoice) -> Named:
    """The outputs that kernels are wanted of, by index or key.

    Args:
        result: What ``forward`` returned.
        choice: Which output, when there are several.

    Returns:
        The chosen one, or all; a tensor that is returned alone has the index 0.

    Raises:
        SettingsError: There is no output with this index or key.
        UnsupportedOperation: The result is neither a tensor nor a collection of outputs.
    """
    if isinstance(result, Tensor):
        named: Named = {0: result}
    elif isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, tuple | list):
        named = dict(enumerate(result))
    else:
        named = {}
    if not named:
        raise RULES.unsupported(
            f"an output of type {type(result).__name__}",
            "The model must return a tensor, or a tuple, list or mapping of tensors.",
        )
    if choice is None:
        return named
    if isinstance(choice, int) and isinstance(result, tuple | list) and -len(result) <= choice < 0:
        choice += len(result)
    if choice not in named:
        raise SettingsError(
            f"The model has no output {choice!r}; those it has are "
            f"{', '.join(repr(name) for name in named)}."
        )
    return {choice: named[choice]}


def check_rows(name: int | str, output: object, rows: int, kind: type[Tensor]) -> None:
    """Refuse an output that is not a batch of units.

    Args:
        name: Index or key of the output.
        output: The output.
        rows: Number of inputs.
        kind: What the output must be.

    Raises:
        UnsupportedOperation: It is something else, or has another first dimension.
    """
    way = "choose another one with output=..., if there are several."
    if not isinstance(output, kind):
        raise RULES.unsupported(
            f"the output {name!r} of type {type(output).__name__}",
            f"It must be a tensor that depends on the input; {way}",
        )
    if output.ndim == 0 or output.shape[0] != rows:
        raise RULES.unsupported(
            f"the output {name!r} of shape {tuple(output.shape)}",
            f"Its first dimension must be the batch; {way}",
        )
