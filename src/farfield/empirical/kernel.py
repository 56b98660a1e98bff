"""The tangent kernel of a finite network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from farfield.empirical.contraction import Contraction, Pair
from farfield.empirical.engine import Engine, Size
from farfield.empirical.forward import Forward, check_model
from farfield.empirical.inputs import Inputs
from farfield.empirical.memory import block_side, parse_memory, scratch_of
from farfield.empirical.outputs import OutputChoice, Outputs, mode_of
from farfield.empirical.plan import SAMPLES
from farfield.empirical.streams import Data, Stream, TakeInputs, stream
from farfield.empirical.weights import Parameterization, VarianceChoice, kernel_weights
from farfield.errors import SettingsError
from farfield.kernel import Kernel, Output

ParameterChoice = str | Sequence[str] | Callable[[str, Tensor], bool] | None
"""Names or beginnings of names, or a function of a parameter's name and value."""

_ALL = ""


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
        return _fill(self._engine, self._stream(x1), second, out)

    def diagonal(self, x: Data) -> dict[str, Tensor]:
        """The kernels of every input with itself, by name."""
        return _diagonals(self._engine, self._stream(x))

    def _stream(self, data: Data) -> Stream:
        return stream(data, self._take, self._device)


class EmpiricalNTK(Kernel):
    """The tangent kernel of a finite network; made by :func:`empirical_ntk`."""

    def __init__(self, engine: Engine, device: torch.device, take: TakeInputs | None) -> None:
        self._engine = engine
        self._device = device
        self._take = take
        self.memory_budget = engine.budget

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
        outs = None if out is None else {_ALL: out}
        return _fill(self._engine, first, second, outs)[_ALL]

    def diagonal(self, x: Data) -> Tensor:
        """The kernel of every input with itself, without the matrix.

        Args:
            x: Inputs, as of :meth:`__call__`.

        Returns:
            (n,); (n, o) for ``outputs="diagonal"``, (n, o, o) for ``"full"``.
        """
        return _diagonals(self._engine, self._stream(x))[_ALL]

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
    chosen = _chosen(model, parameters)
    factors = dict.fromkeys(chosen, 1.0) if weights is None else weights
    groups = _groups(list(chosen), by)
    return Engine(Forward(model, output), chosen, factors, mode, groups, parse_memory(memory))


def _chosen(model: nn.Module, choice: ParameterChoice) -> dict[str, Tensor]:
    """The parameters that count, in the order of the model."""
    everything: dict[str, Tensor] = dict(model.named_parameters())
    wanted = {name: p for name, p in everything.items() if p.requires_grad}
    if callable(choice):
        wanted = {name: p for name, p in wanted.items() if choice(name, p)}
    elif choice is not None:
        starts = [choice] if isinstance(choice, str) else list(choice)
        for start in starts:
            if not any(_begins(name, start) for name in everything):
                raise SettingsError(
                    f"parameters names {start!r}, but the model has no such parameter or module; "
                    f"its parameters are {', '.join(everything) or 'none'}."
                )
        wanted = {n: p for n, p in wanted.items() if any(_begins(n, start) for start in starts)}
    if not wanted:
        raise SettingsError(
            "No parameter is left to count: the model has none with requires_grad=True"
            + (" that parameters=... leaves over." if choice is not None else ".")
        )
    return wanted


def _begins(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}.")


def _groups(names: Sequence[str], by: str | None) -> dict[str, list[str]]:
    if by is None:
        return {_ALL: list(names)}
    if by == "parameter":
        return {name: [name] for name in names}
    if by == "module":
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name.rpartition(".")[0], []).append(name)
        return groups
    raise SettingsError(f"by is {by!r}; choose 'parameter', 'module' or None.")


def _fill(
    engine: Engine, first: Stream, second: Stream | None, outs: Mapping[str, Output] | None
) -> dict[str, Tensor]:
    """All kernels between two streams of samples, block by block."""
    other = first if second is None else second
    n1, n2 = len(first), len(other)
    side, start = _start(engine, first, other)
    shape = engine.mode.shape(n1, n2, start.outputs)
    targets = {
        name: _target(outs.get(name) if outs else None, shape, start.like) for name in engine.groups
    }
    kept = None
    for rows, inputs in first.blocks(side):
        left = engine.gradients(inputs)
        if second is None:
            _write(targets, engine.tile(left, left), rows, rows)
            for columns, more in first.blocks(side, rows.stop):
                tiles = engine.tile(left, engine.gradients(more))
                _write(targets, tiles, rows, columns)
                _write(targets, {n: _mirrored(t, engine) for n, t in tiles.items()}, columns, rows)
            continue
        for columns, more in other.blocks(side):
            right = kept or engine.gradients(more)
            kept = right if n2 <= side else None
            _write(targets, engine.tile(left, right), rows, columns)
    return targets


def _diagonals(engine: Engine, data: Stream) -> dict[str, Tensor]:
    side, _ = _start(engine, data, data)
    parts = [engine.own(engine.gradients(inputs)) for _, inputs in data.blocks(side)]
    return {name: torch.cat([part[name] for part in parts]) for name in engine.groups}


def _start(engine: Engine, first: Stream, other: Stream) -> tuple[int, Size]:
    """The number of samples of a block, and what the kernel is made of."""
    for _, inputs in first.blocks(SAMPLES):
        size = engine.size(inputs)
        longest = max(len(first), len(other))
        return block_side(size.need, engine.budget, longest), size
    raise SettingsError("There are no inputs; a kernel needs at least one.")


def _write(
    targets: Mapping[str, Tensor], tiles: Mapping[str, Tensor], rows: slice, columns: slice
) -> None:
    for name, tile in tiles.items():
        if tile.ndim == 4:
            targets[name][rows, :, columns] = tile
        else:
            targets[name][rows, columns] = tile


def _mirrored(tile: Tensor, engine: Engine) -> Tensor:
    """The tile of exchanged rows and columns."""
    return tile.permute(2, 3, 0, 1) if engine.mode.kind == "full" else tile.transpose(0, 1)


def _target(out: Output | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    if out is None:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    target = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
    if target.shape != shape or target.dtype != like.dtype:
        raise SettingsError(
            f"out has shape {tuple(target.shape)} and dtype {target.dtype}; it must have "
            f"{shape} and {like.dtype}, as the kernel has."
        )
    return target
