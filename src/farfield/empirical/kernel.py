"""The tangent kernel of a finite network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn

from farfield import fingerprint
from farfield.destination import Output
from farfield.empirical.choice import ALL, ParameterChoice, chosen, groups_of
from farfield.empirical.contraction import Contraction
from farfield.empirical.costs import Pair
from farfield.empirical.engine import Engine
from farfield.empirical.fill import diagonals, fill
from farfield.empirical.forward import Forward, check_model
from farfield.empirical.inputs import Inputs
from farfield.empirical.memory import parse_memory, scratch_of
from farfield.empirical.outputs import OutputChoice, Outputs, mode_of
from farfield.empirical.streams import Data, Stream, TakeInputs, stream
from farfield.empirical.weights import Parameterization, VarianceChoice, kernel_weights
from farfield.kernel import Kernel


class EmpiricalNTKs:
    """The tangent kernels of a finite network's parameters or modules, by name.

    ``kernels(x1, x2)`` is a dictionary of matrices, in one pass; made by
    :func:`empirical_ntk` with ``by=...``.
    """

    def __init__(self, engine: Engine, device: torch.device, take: TakeInputs | None) -> None:
        self._engine = engine
        self._device = device
        self._take = take

    def __call__(
        self, x1: Data, x2: Data | None = None, out: Mapping[str, Output] | None = None
    ) -> dict[str, Tensor]:
        """One matrix for each name.

        Args:
            x1: Rows, as of :class:`EmpiricalNTK`.
            x2: Columns; the rows when ``None``.
            out: Where to write each matrix.

        Returns:
            Name -> matrix. Their sum is the kernel of all parameters.

        Raises:
            SettingsError: As :meth:`EmpiricalNTK.__call__`.
            RangeError: A kernel is not finite.
            UnsupportedOperation: The outputs of one input depend on others.
        """
        second = None if x2 is None or x2 is x1 else self._stream(x2)
        return fill(self._engine, self._stream(x1), second, out)

    def diagonal(self, x: Data) -> dict[str, Tensor]:
        """The kernels of every input with itself, by name."""
        return diagonals(self._engine, self._stream(x))

    def _stream(self, data: Data) -> Stream:
        return stream(data, self._take, self._device)


class EmpiricalNTK(Kernel):
    """The tangent kernel of a finite network; made by :func:`empirical_ntk`."""

    def __init__(self, engine: Engine, device: torch.device, take: TakeInputs | None) -> None:
        self._engine = engine
        self._device = device
        self._take = take
        self.memory_budget = engine.budget

    @property
    def origin(self) -> dict[str, str]:
        """Where the kernel comes from, in words: the model, and a sum over its parameters."""
        engine = self._engine
        return {
            "kernel": f"empirical NTK, outputs={engine.mode.kind}",
            "model": repr(engine.forward.model),
            "parameters": fingerprint.of_tensors(engine.parameters),
            "weights": str(sorted(set(engine.weights.values()))),
        }

    @property
    def concurrent(self) -> bool:
        """No: the model's parameters are replaced while it runs."""
        return False

    def __call__(self, x1: Data, x2: Data | None = None, out: Output | None = None) -> Tensor:
        """The matrix of kernel values.

        Args:
            x1: Rows: a tensor (n1, *features), a tuple of tensors or a mapping for a model of
                several inputs, or a DataLoader that does not shuffle.
            x2: Columns; the rows when ``None``.
            out: Where to write: a tensor or a NumPy array, such as a memory map.

        Returns:
            (n1, n2); (n1, n2, o) for ``outputs="diagonal"``, (n1, o, n2, o) for ``"full"``; in
            the dtype and on the device of the model's outputs: ``out`` itself when it was a
            tensor, a view of its memory when it was an array.

        Raises:
            SettingsError: Inputs or an ``out`` that are not allowed, or no parameter that
                influences the outputs.
            RangeError: The kernel is not finite.
            UnsupportedOperation: The outputs of one input depend on others, or the model is
                random.
        """
        first, second = self._stream(x1), None if x2 is None or x2 is x1 else self._stream(x2)
        outs = None if out is None else {ALL: out}
        return fill(self._engine, first, second, outs)[ALL]

    def diagonal(self, x: Data) -> Tensor:
        """The kernel of every input with itself, without the matrix.

        Args:
            x: Inputs, as of :meth:`__call__`.

        Returns:
            (n,); (n, o) for ``outputs="diagonal"``, (n, o, o) for ``"full"``.

        Raises:
            RangeError: The kernel is not finite.
        """
        return diagonals(self._engine, self._stream(x))[ALL]

    @torch.no_grad()
    def explain(self, x: Inputs) -> list[Contracted]:
        """How each parameter's share of the kernel of these inputs is computed.

        Args:
            x: Some inputs.

        Returns:
            One entry for each parameter that influences the outputs.
        """
        engine = self._engine
        engine.check()
        block = engine.gradients(x)
        found = []
        for names in [*block.block.plan.units, *([name] for name in sorted(block.slow))]:
            pairs = [Pair(factor, factor) for factor in map(block.factor, names)]
            way = Contraction(block.like, engine.mode.kind, scratch_of(engine.budget), True)
            for name, route in zip(names, way.routes(pairs), strict=True):
                reason = block.block.plan.slow.get(name)
                found.append(Contracted(name, f"sample by sample: {reason}" if reason else route))
        return sorted(found, key=lambda entry: list(engine.parameters).index(entry.parameter))

    def _stream(self, data: Data) -> Stream:
        return stream(data, self._take, self._device)


@dataclass(frozen=True)
class Contracted:
    """How a parameter's share of a kernel is computed.

    Attributes:
        parameter: Its name.
        way: ``Gram matrices``, ``per-sample gradients``, or ``sample by sample`` with the reason
            why no rule was used.
    """

    parameter: str
    way: str


@overload
def empirical_ntk(
    model: nn.Module,
    outputs: Outputs = "mean",
    *,
    parameters: ParameterChoice = None,
    by: None = None,
    parameterization: Parameterization = "standard",
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    memory: str | int = "2GB",
    output: OutputChoice = None,
    from_batch: TakeInputs | None = None,
) -> EmpiricalNTK: ...


@overload
def empirical_ntk(
    model: nn.Module,
    outputs: Outputs = "mean",
    *,
    parameters: ParameterChoice = None,
    by: str,
    parameterization: Parameterization = "standard",
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    memory: str | int = "2GB",
    output: OutputChoice = None,
    from_batch: TakeInputs | None = None,
) -> EmpiricalNTKs: ...


def empirical_ntk(
    model: nn.Module,
    outputs: Outputs = "mean",
    *,
    parameters: ParameterChoice = None,
    by: str | None = None,
    parameterization: Parameterization = "standard",
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    memory: str | int = "2GB",
    output: OutputChoice = None,
    from_batch: TakeInputs | None = None,
) -> EmpiricalNTK | EmpiricalNTKs:
    r"""The tangent kernel of a finite network, exactly, without its Jacobian.

    For outputs a, b it is ``k_ab(x, x') = sum_p df_a(x)/dp df_b(x')/dp`` over the parameters p that
    need a gradient. Each use of a parameter in the model's own ``forward`` is found in the graph of
    its gradients and contracted in the way that takes the fewest operations; uses that have no
    rule are computed sample by sample. Nothing of the model is changed.

    Args:
        model: Any module whose outputs of one input do not depend on the others of its batch; in
            eval mode if it has dropout or batch statistics.
        outputs: ``"mean"``: (n1, n2), the mean over the outputs a of ``k_aa``; ``"sum"``: (n1, n2),
            the kernel of the sum of the outputs; ``"diagonal"``: (n1, n2, o), each ``k_aa``;
            ``"full"``: (n1, o, n2, o), all ``k_ab``; an index or several: the mean over these.
        parameters: Which parameters count: names or beginnings of names (``"encoder"`` or
            ``["0.weight"]``), or a function of name and value. All that need a gradient when
            ``None``.
        by: ``"parameter"`` or ``"module"``: one kernel for each, in a dictionary.
        parameterization: ``"standard"`` counts gradients plainly; ``"ntk"`` counts them with the
            variance that the parameter was drawn with (1 for norms), which makes the kernel
            comparable to that of :func:`farfield.infinite_width`.
        weight_var: For ``"ntk"``: W was drawn from N(0, weight_var / fan_in); a number or a mapping
            from module names. What ``gaussian_init_`` remembers when ``None``.
        bias_var: Likewise; b was drawn from N(0, bias_var).
        memory: Budget for everything but the model, the inputs and the result; ``"2GB"`` or bytes.
        output: Which output, where ``forward`` returns several tensors: an index or key. All of
            them, side by side, when ``None``.
        from_batch: Takes the model's inputs out of a batch of a DataLoader, such as
            ``lambda batch: batch[0]``.

    Returns:
        The kernel, to be called on inputs; with ``by``, kernels by name.

    Raises:
        SettingsError: An argument that is not allowed, or a model that has no kernel: dropout or
            batch statistics in training mode, complex or half-precision parameters.

    Source: Jacot, Gabriel and Hongler (2018); Novak, Sohl-Dickstein and Schoenholz, "Fast Finite
    Width Neural Tangent Kernel" (2022).

    Example:
        >>> import torch, farfield as ff
        >>> model = torch.nn.Linear(2, 1)
        >>> ff.empirical_ntk(model)(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        tensor([[ 6.,  7.],
                [ 7., 10.]])
    """
    check_model(model)
    engine = engine_of(
        model,
        outputs,
        parameters=parameters,
        by=by,
        weights=kernel_weights(model, parameterization, weight_var, bias_var),
        memory=memory,
        output=output,
    )
    device = next(iter(engine.parameters.values())).device
    kind = EmpiricalNTK if by is None else EmpiricalNTKs
    return kind(engine, device, from_batch)


def engine_of(
    model: nn.Module,
    outputs: Outputs,
    *,
    parameters: ParameterChoice = None,
    by: str | None = None,
    weights: Mapping[str, float] | None = None,
    memory: str | int = "2GB",
    output: OutputChoice = None,
) -> Engine:
    """Check a model and what is wanted of it; the arguments are those of :func:`empirical_ntk`."""
    check_model(model)
    mode = mode_of(outputs)
    counted = chosen(model, parameters)
    factors = dict.fromkeys(counted, 1.0) if weights is None else weights
    groups = groups_of(list(counted), by)
    return Engine(Forward(model, output), counted, factors, mode, groups, parse_memory(memory))
