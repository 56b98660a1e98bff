"""Which outputs of a model a kernel is of, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeGuard

import torch
from torch import Tensor

from farfield.errors import SettingsError, UnsupportedOperation

OutputChoice = int | str | None
"""Which of several output tensors: its index or its key; ``None`` for all of them."""

HALF = (torch.float16, torch.bfloat16)

Outputs = str | int | Iterable[int]
Kind = Literal["mean", "sum", "full", "diagonal"]
_KINDS: dict[str, Kind] = {
    "mean": "mean",
    "sum": "sum",
    "full": "full",
    "diagonal": "diagonal",
}


@dataclass(frozen=True)
class Mode:
    """How the gradients of several outputs become a kernel.

    Attributes:
        kind: As of :func:`farfield.empirical_ntk`.
        indices: The outputs that count; ``None`` for all.
    """

    kind: Kind
    indices: tuple[int, ...] | None = None

    @property
    def is_matrix(self) -> bool:
        """Whether the kernel has one number for a pair of inputs."""
        return self.kind in ("mean", "sum")

    def chosen(self, outputs: Tensor) -> Tensor:
        """The outputs that count, (n, o)."""
        if self.indices is None:
            return outputs
        wrong = [i for i in self.indices if not -outputs.shape[1] <= i < outputs.shape[1]]
        if wrong:
            raise SettingsError(
                f"outputs names {wrong[0]}, but the model has {outputs.shape[1]} outputs: indices "
                f"go from 0 to {outputs.shape[1] - 1}."
            )
        return outputs[:, list(self.indices)]

    def directions(self, outputs: int) -> int:
        """How many gradients are needed of each sample."""
        return 1 if self.kind == "sum" else outputs

    def cotangents(self, outputs: Tensor) -> list[Tensor]:
        """What to propagate back from the chosen outputs, (n, o) each."""
        if self.kind == "sum":
            return [torch.ones_like(outputs)]
        found = []
        for index in range(outputs.shape[1]):
            cotangent = torch.zeros_like(outputs)
            cotangent[:, index] = 1.0
            found.append(cotangent)
        return found

    def shape(self, rows: int, columns: int, outputs: int) -> tuple[int, ...]:
        """Of a kernel matrix."""
        if self.kind == "full":
            return rows, outputs, columns, outputs
        return (rows, columns, outputs) if self.kind == "diagonal" else (rows, columns)


def mode_of(outputs: Outputs) -> Mode:
    """What the user's word or indices mean.

    Args:
        outputs: A word, an index, or several.

    Returns:
        The mode; of indices, the mean over them.

    Raises:
        SettingsError: It is none of these.
    """
    if isinstance(outputs, str):
        if outputs in _KINDS:
            return Mode(_KINDS[outputs])
    elif _is_index(outputs):
        return Mode("mean", (int(outputs),))
    elif isinstance(outputs, Iterable):
        indices = list(outputs)
        if indices and all(map(_is_index, indices)):
            return Mode("mean", tuple(map(int, indices)))
    raise SettingsError(
        f"outputs is {outputs!r}; choose 'mean', 'sum', 'full', 'diagonal', an index of an output "
        "or a list of indices."
    )


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def flattened(result: object, choice: OutputChoice, samples: int) -> Tensor:
    """All chosen outputs of every sample side by side, (n, o).

    Args:
        result: What ``forward`` returned: a tensor, or several in a tuple, list or mapping.
        choice: Which of several.
        samples: Number of samples.

    Returns:
        The outputs.

    Raises:
        SettingsError: There is no output with this index or key.
        UnsupportedOperation: An output is not a real tensor with the samples first.
    """
    named = _named(result)
    if choice is not None:
        key = choice
        if isinstance(choice, int) and isinstance(result, tuple | list) and choice < 0:
            key = choice + len(result)
        if key not in named:
            raise SettingsError(
                f"The model has no output {choice!r}; those it has are "
                f"{', '.join(repr(name) for name in named) or 'none'}."
            )
        named = {key: named[key]}
    named = {name: part for name, part in named.items() if part is not None}
    reasons = {name: _unfit(part, samples) for name, part in named.items()}
    fit = [repr(name) for name, reason in reasons.items() if reason is None]
    for name, reason in reasons.items():
        if reason is not None:
            way = f"; choose with output=... among {', '.join(fit)}." if fit else "."
            raise UnsupportedOperation(f"The output {name!r} {reason}{way}")
    parts = [part.reshape(samples, -1) for part in named.values() if isinstance(part, Tensor)]
    if not parts or not sum(part.shape[1] for part in parts):
        raise UnsupportedOperation("The model returns no output, so it has no tangent kernel.")
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _unfit(part: object, samples: int) -> str | None:
    """Why there is no tangent kernel of an output, if so."""
    if not isinstance(part, Tensor) or not part.is_floating_point():
        kind = part.dtype if isinstance(part, Tensor) else type(part).__name__
        return f"is of type {kind}; a tangent kernel needs real tensors"
    if part.dtype in HALF:
        return f"is {part.dtype}, too coarse for a kernel; let the model return float32"
    if part.ndim == 0 or part.shape[0] != samples:
        return (
            f"has shape {tuple(part.shape)} for {samples} inputs; its first dimension must be the "
            "batch"
        )
    return None


def _named(result: object) -> dict[int | str, object]:
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, tuple | list):
        return dict(enumerate(result))
    return {0: result}
