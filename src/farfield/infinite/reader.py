"""Running a model's own ``forward`` on the laws of its inputs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from farfield.infinite.duals.numeric import requesting
from farfield.infinite.gram import Scaled, Variance
from farfield.infinite.laws import Mixed, blend, mixed, positions, wide
from farfield.infinite.limit_tensor import (
    RULES,
    LimitTensor,
    Parameterization,
    Reading,
    input_tensor,
)
from farfield.infinite.outputs import OutputChoice, check_rows, outputs_of
from farfield.randomness import NothingRandom
from farfield.replaced import replaced
from farfield.trail import following, has_asked_for_a_shape, readable

Variances = tuple[dict[int, Variance], dict[int, Variance]]

_ANOTHER = "Another call would give another kernel."
_CLOSE = 1e-6  # relative; what the size of a batch changes is far larger


class Reader:
    """A model together with what is to be known to read it.

    Args:
        model: The model, which is not changed.
        weights: Variances of its matrices, by ``id`` of the parameter.
        biases: Those of its vectors.
        parameterization: How gradients are counted.
        output: Which of several outputs counts.
        tolerance: Of quadrature.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: dict[int, Variance],
        biases: dict[int, Variance],
        parameterization: Parameterization,
        output: OutputChoice,
        tolerance: float,
    ) -> None:
        self._model = model
        self._variances = weights, biases
        self._parameterization = parameterization
        self._output = output
        self._tolerance = tolerance
        self._fitting: set[int] = set()  # sizes of batches that are known not to matter

    def moments(self, x1: Tensor, x2: Tensor) -> Mixed:
        """The law of the outputs at two batches.

        Args:
            x1: First batch.
            x2: Second batch; the very same object if there is only one.

        Returns:
            Their moments, those of several outputs blended.

        Raises:
            UnsupportedOperation: The model does something without an exact rule.
        """
        if torch.is_grad_enabled():
            return self._checked(x1, x2, self._variances)
        # What is computed from trained parameters shows only where gradients are recorded.
        with torch.inference_mode(False), torch.enable_grad():
            first = _constant(x1)
            second = first if x2 is x1 else _constant(x2)
            weights, biases = (
                {name: _constant(variance) for name, variance in known.items()}
                for known in self._variances
            )
            return self._checked(first, second, (weights, biases))

    def _checked(self, x1: Tensor, x2: Tensor, variances: Variances) -> Mixed:
        """The same with gradients recorded.

        A model in which the size of the batch enters the numbers is refused: it is no function of
        one input, and here it would see the size of both batches.
        """
        moments, asked_shape = self._run(x1, x2, variances)
        rows = len(x1) + len(x2)
        if asked_shape and rows not in self._fitting and len(x1):
            x = x1[:1]
            two = x.repeat(2, *[1] * (x.ndim - 1))
            others, _ = self._run(x, two if rows == 2 else x, variances)
            if not _agree(moments, others):
                with following(self._model):
                    raise RULES.unsupported(
                        "the size of the batch (x.shape[0]) in the numbers that forward computes",
                        "A kernel belongs to a function of one input; use the size in shapes only.",
                    )
            self._fitting.add(rows)
        return moments

    def reading(self, variances: Variances | None = None) -> Reading:
        """What is known before the model runs; it must hold copies of its buffers already.

        Args:
            variances: Those of the matrices and of the vectors, if not the reader's own.
        """
        held = [
            value
            for module in self._model.modules()
            for value in (*module._buffers.values(), *vars(module).values())
            if isinstance(value, Tensor)
        ]
        return Reading(
            *(variances or self._variances),
            {id(parameter): name for name, parameter in self._model.named_parameters()},
            frozenset(map(id, held)),
            self._parameterization,
        )

    def _run(self, x1: Tensor, x2: Tensor, variances: Variances) -> tuple[Mixed, bool]:
        """The law of the outputs, and whether ``forward`` looked at a shape."""
        readable(self._model)  # it may have changed
        first = wide(x1)
        second = first if x2 is x1 else wide(x2)
        with following(self._model), copied_buffers(self._model):
            reading = self.reading(variances)
            x = input_tensor(first, second, x1.dtype, reading)
            with NothingRandom(RULES, _ANOTHER), requesting(self._tolerance):
                result = self._model(x)
            asked_shape = has_asked_for_a_shape()
            outputs = outputs_of(result, self._output)
            for name, output in outputs.items():
                check_rows(name, output, len(x1) + len(x2), LimitTensor)
        with requesting(self._tolerance):
            return _all_units(list(outputs.values())), asked_shape


_only_one = threading.RLock()


@contextmanager
def copied_buffers(model: nn.Module) -> Iterator[None]:
    """Let the model work with copies of its buffers, for modules that count their calls.

    One reading at a time: another thread would take the copies for the buffers.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    with _only_one:
        copies = {id(buffer): buffer.clone() for buffer in model.buffers()}
        with replaced(model, copies):
            yield


def _constant(value: Any) -> Any:
    """A value without its history, if it is a tensor."""
    if not isinstance(value, Tensor):
        return value
    return value.clone() if value.is_inference() else value.detach()


def _all_units(outputs: Sequence[LimitTensor]) -> Mixed:
    """The moments of a unit of these outputs; of several outputs, of one picked at random."""
    if len(outputs) == 1:
        return mixed(outputs[0].law)
    parts = [(part, x.shape[-1]) for x in outputs for part in positions(mixed(x.law))]
    return blend([part for part, _ in parts], [width for _, width in parts])


def _agree(one: Mixed, other: Mixed) -> bool:
    """Whether two readings say the same of the first input."""
    pairs = [(one.gram.root, other.gram.root), (one.mean, other.mean)]
    if isinstance(one.tangent, Scaled) and isinstance(other.tangent, Scaled):
        pairs.append((one.tangent.root, other.tangent.root))
    return all(
        torch.allclose(
            a.left[..., :1].detach(),
            b.left[..., :1].detach(),
            rtol=_CLOSE,
            atol=0.0,
            equal_nan=True,
        )
        for a, b in pairs
    )
