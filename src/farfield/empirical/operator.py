"""The tangent kernel as a linear operator: products with vectors, never the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from farfield.empirical.choice import ParameterChoice
from farfield.empirical.engine import Engine
from farfield.empirical.forward import full_precision
from farfield.empirical.inputs import Inputs, count, rows_of
from farfield.empirical.kernel import engine_of
from farfield.empirical.memory import block_side
from farfield.empirical.outputs import OutputChoice
from farfield.empirical.streams import stream
from farfield.empirical.tangents import moved
from farfield.errors import RangeError, SettingsError, UnsupportedOperation

_DENSE = 32  # operators of this size are taken apart as matrices


@dataclass(frozen=True)
class Estimate:
    """A number or numbers estimated from random vectors.

    Attributes:
        value: The mean over the vectors.
        error: Its standard error.
    """

    value: Tensor
    error: Tensor


class NTKOperator(LinearOperator):  # type: ignore[misc]
    """``v -> J J^T v``; made by :func:`ntk_operator`.

    A vector holds one number for each output of each sample, the outputs of a sample side by side.
    ``op @ v`` takes tensors and NumPy arrays, one or several columns; everything in
    ``scipy.sparse.linalg`` takes the operator.
    """

    def __init__(self, engine: Engine, inputs: Inputs) -> None:
        size = engine.size(rows_of(inputs, slice(0, 4)))
        self._inputs = inputs
        self._engine = engine
        self._forward = engine.forward
        self._parameters = list(engine.parameters.values())
        self._outputs = size.outputs
        self._like = size.like
        self._side = block_side(size.need, engine.budget, count(inputs))
        side = count(inputs) * size.outputs
        super().__init__(_numpy_type(size.like.dtype), (side, side))

    def __matmul__(self, vectors: Any) -> Any:
        """The product with vectors: (n o,) or (n o, k), a tensor or an array.

        Args:
            vectors: What to multiply with.

        Returns:
            As many vectors, in the dtype of the model's outputs.

        Raises:
            RangeError: A product is not finite.
            SettingsError: A vector of another length, complex, or not finite.
        """
        if _is_complex(vectors):
            raise SettingsError("The vector is complex; multiply with its real and imaginary part.")
        if not isinstance(vectors, Tensor):
            return super().__matmul__(vectors)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != self.shape[0]:
            raise SettingsError(
                f"The operator is {self.shape[0]} x {self.shape[1]}; it cannot be multiplied with "
                f"a tensor of shape {tuple(vectors.shape)}."
            )
        columns = vectors.to(self._like).reshape(self.shape[0], -1)
        found = torch.zeros_like(columns)
        for place, column in enumerate(columns.unbind(1)):
            found[:, place] = self._product(column)
        return found.reshape(vectors.shape)

    def eigenpairs(self, k: int, *, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
        """The largest eigenvalues and their eigenvectors, by Lanczos' method (ARPACK).

        Args:
            k: How many.
            tolerance: Relative accuracy of the eigenvalues; that of the dtype when 0.

        Returns:
            The eigenvalues (k,), largest first, and the eigenvectors (n o, k).

        Raises:
            SettingsError: ``k`` is not between 1 and the size of the operator.
            RangeError: The kernel is zero.
        """
        if not 1 <= k <= self.shape[0]:
            raise SettingsError(
                f"k is {k}; the operator has {self.shape[0]} eigenvalues: ask for 1 to that many."
            )
        if self.shape[0] <= _DENSE or k >= self.shape[0] - 1:
            matrix = self @ torch.eye(self.shape[0], dtype=torch.float64)
            values, vectors = torch.linalg.eigh(((matrix + matrix.T) / 2).double())
            values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k]
        else:
            start = np.random.default_rng(0).standard_normal(self.shape[0]).astype(self.dtype)
            if not (self @ start).any():
                raise RangeError("The kernel is zero, so that every vector is an eigenvector.")
            found, columns = eigsh(self, k, which="LA", tol=tolerance, v0=start)
            values = torch.from_numpy(found[::-1].copy())
            vectors = torch.from_numpy(columns[:, ::-1].copy())
        return values.to(self._like), vectors.to(self._like)

    def trace(self, probes: int = 32, generator: torch.Generator | None = None) -> Estimate:
        """Hutchinson's estimate of the trace: the mean of ``z . K z`` over signs z.

        The exact trace is the sum of ``ff.empirical_ntk(model, outputs="diagonal").diagonal(x)``,
        which takes one gradient for each output.

        Args:
            probes: Number of random vectors, at least 2.
            generator: Source of randomness.

        Returns:
            The trace, with its standard error.

        Raises:
            SettingsError: Fewer than two vectors.

        Source: Hutchinson (1989); the variance is twice the sum of squares off the diagonal.
        """
        return _estimate(self._probed(probes, generator).sum(1))

    def diagonal(self, probes: int = 32, generator: torch.Generator | None = None) -> Estimate:
        """An estimate of the diagonal: the mean of ``z * K z`` over signs z.

        Args:
            probes: Number of random vectors, at least 2.
            generator: Source of randomness.

        Returns:
            The diagonal (n o,), with its standard errors.

        Raises:
            SettingsError: Fewer than two vectors.

        Source: Bekas, Kokiopoulou and Saad (2007).
        """
        return _estimate(self._probed(probes, generator))

    def _probed(self, probes: int, generator: torch.Generator | None) -> Tensor:
        """``z * K z`` of random signs, (probes, n o)."""
        if probes < 2:
            raise SettingsError(f"probes is {probes}; a standard error needs at least 2.")
        shape = (probes, self.shape[0])
        signs = 2 * torch.randint(2, shape, generator=generator).to(self._like) - 1
        return torch.stack([sign * self._product(sign) for sign in signs])

    def _matvec(self, vector: NDArray[Any]) -> NDArray[Any]:
        column = torch.from_numpy(np.ascontiguousarray(vector)).reshape(-1).to(self._like)
        return self._product(column).cpu().numpy()

    def _rmatvec(self, vector: NDArray[Any]) -> NDArray[Any]:
        return self._matvec(vector)  # symmetric

    @full_precision()
    def _product(self, vector: Tensor) -> Tensor:
        if not bool(vector.isfinite().all()):
            raise SettingsError(
                "The vector holds NaN or infinite numbers; it must be finite, also when rounded "
                f"to {vector.dtype}, in which the model computes."
            )
        self._engine.check()
        rows = vector.view(-1, self._outputs)
        total = [torch.zeros_like(parameter) for parameter in self._parameters]
        for block in self._blocks():
            outputs = self._forward(rows_of(self._inputs, block))
            gradients = torch.autograd.grad(
                [outputs], self._parameters, [rows[block]], allow_unused=True
            )
            for sum_, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    sum_ += gradient
        found = torch.cat([self._moved(block, total) for block in self._blocks()]).flatten()
        if not bool(found.isfinite().all()):
            raise RangeError(
                f"The product grows beyond the range of {found.dtype}, or the model's gradients "
                "are not finite. Scale the inputs, or use model.double()."
            )
        return found

    def _moved(self, block: slice, direction: list[Tensor]) -> Tensor:
        inputs = rows_of(self._inputs, block)

        def run(values: Any) -> Tensor:
            return self._forward(inputs, list(zip(self._parameters, values, strict=True)))

        try:
            return moved(run, self._parameters, direction).detach()
        except NotImplementedError as error:
            raise UnsupportedOperation(
                f"An operation of the model has neither forward-mode nor second derivatives "
                f"({str(error).splitlines()[0]}), so that its kernel has no products without the "
                "matrix; use ff.empirical_ntk(model, outputs='full')."
            ) from error

    def _blocks(self) -> list[slice]:
        n = count(self._inputs)
        return [slice(i, min(i + self._side, n)) for i in range(0, n, self._side)]


def ntk_operator(
    model: nn.Module,
    x: Inputs,
    *,
    parameters: ParameterChoice = None,
    memory: str | int = "2GB",
    output: OutputChoice = None,
) -> NTKOperator:
    """The tangent kernel of a finite network as a linear operator.

    ``op @ v = J J^T v``, where J holds the gradients of all outputs of all samples: one backward
    and one forward-mode pass over the samples for each vector, whatever the number of outputs.
    It is the matrix of ``ff.empirical_ntk(model, outputs="full")(x)``, never formed.

    Args:
        model: Any module, as for :func:`farfield.empirical_ntk`; it is not changed.
        x: The samples, (n, *features), or several tensors.
        parameters: Which parameters count.
        memory: Budget for everything but the model, the samples and the vectors.
        output: Which output, where ``forward`` returns several tensors.

    Returns:
        A ``scipy.sparse.linalg.LinearOperator`` of shape (n o, n o).

    Raises:
        SettingsError: As :func:`farfield.empirical_ntk`.
        UnsupportedOperation: The outputs of one sample depend on others.

    Example:
        >>> import torch, farfield as ff
        >>> op = ff.ntk_operator(torch.nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        >>> op.shape, op @ torch.tensor([1.0, 0.0])
        ((2, 2), tensor([6., 7.]))
    """
    engine = engine_of(model, "full", parameters=parameters, memory=memory, output=output)
    device = next(iter(engine.parameters.values())).device
    for _, inputs in stream(x, None, device).blocks(max(1, count(x))):
        return NTKOperator(engine, inputs)
    raise SettingsError("There are no inputs; a kernel needs at least one.")


def _is_complex(vectors: Any) -> bool:
    return vectors.is_complex() if isinstance(vectors, Tensor) else np.iscomplexobj(vectors)


def _numpy_type(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _estimate(samples: Tensor) -> Estimate:
    return Estimate(samples.mean(0), samples.std(0) / len(samples) ** 0.5)
