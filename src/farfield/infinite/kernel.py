"""The kernels of a model in the limit of infinite width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from farfield.errors import SettingsError
from farfield.infinite import rules
from farfield.infinite.gram import Unknown, constant
from farfield.infinite.laws import Mixed, blend, mixed, positions
from farfield.infinite.limit_tensor import (
    RULES,
    LimitTensor,
    Parameterization,
    Reading,
    input_tensor,
)
from farfield.infinite.native import fuse
from farfield.infinite.outputs import OutputChoice, check_rows, outputs_of
from farfield.infinite.pairs import Program
from farfield.infinite.variances import VarianceChoice, parameter_variances
from farfield.kernel import MEMORY_BUDGET, Kernel, Output, Tiles, evaluate
from farfield.reading import following

__all__ = ["InfiniteWidth", "infinite_width", "rules"]


_WORTH_COMPILING = 2**19  # pairs; with fewer, PyTorch is done before a compiler would be


@dataclass(frozen=True, eq=False)
class KernelOf:
    """How one kernel of a limit is computed, and so where it comes from.

    Attributes:
        limit: The limit.
        name: ``"nngp"`` or ``"ntk"``.
    """

    limit: InfiniteWidth
    name: str

    def __call__(self, x1: Tensor, x2: Tensor) -> Tiles:
        """The tiles of two blocks of inputs."""
        return self.limit._tiles(x1, x2, [self.name])


class InfiniteWidth:
    """The infinite-width limit of a model; made by :func:`infinite_width`.

    Attributes:
        nngp: Kernel of the Gaussian process that the network is at initialisation,
            ``E[f(x1) f(x2)]`` of one output.
        ntk: Neural tangent kernel, the limit of ``grad f(x1) . grad f(x2)`` of one output.
    """

    def __init__(
        self,
        model: nn.Module,
        weight_var: VarianceChoice,
        bias_var: VarianceChoice,
        parameterization: Parameterization,
        memory_budget: int,
        output: OutputChoice = None,
    ) -> None:
        self._arguments = (
            model, weight_var, bias_var, parameterization, memory_budget, output
        )  # fmt: skip
        self._model = model
        self._output = output
        self._weights, self._biases = parameter_variances(model, weight_var, bias_var)
        self._parameterization = parameterization
        self._memory_budget = memory_budget
        self.nngp = Kernel.tiled(KernelOf(self, "nngp"), memory_budget)
        self.ntk = Kernel.tiled(KernelOf(self, "ntk"), memory_budget)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles are made anew: variances are known by the identity of parameters."""
        return type(self), self._arguments

    @property
    def model(self) -> nn.Module:
        """The model that is read."""
        return self._model

    def reading(self) -> Reading:
        """A fresh reading of the model, with the variances of its parameters."""
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        return Reading(self._weights, self._biases, names, self._parameterization)

    def __call__(
        self,
        x1: Float[Tensor, "n1 *features"],
        x2: Float[Tensor, "n2 *features"] | None = None,
        out: tuple[Output, Output] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both kernels in one pass.

        Args:
            x1: First batch.
            x2: Second batch; the first one when ``None``.
            out: Where to write the two matrices.

        Returns:
            The matrices of the NNGP and of the NTK, each (n1, n2).

        Raises:
            UnsupportedOperation: The model does something without an exact rule.
            SettingsError: As :meth:`farfield.kernel.Kernel.__call__`.
        """
        nngp, ntk = evaluate(
            lambda x1, x2: self._tiles(x1, x2, ["nngp", "ntk"]), x1, x2, out or [None, None],
            self._memory_budget,
        )  # fmt: skip
        return nngp, ntk

    def diagonal(
        self, x: Float[Tensor, "n *features"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The diagonals of the NNGP and of the NTK, each (n,)."""
        return self.nngp.diagonal(x), self.ntk.diagonal(x)

    def _tiles(self, x1: Tensor, x2: Tensor, wanted: Sequence[str]) -> Tiles:
        moments = self._read(x1, x2)
        pairs = len(x1) * len(x2)
        nothing = constant(moments.gram.root, 0.0).plain()
        both = {"nngp": moments.gram.plain(), "ntk": moments.tangent or nothing}
        kernels = [both[name] for name in wanted]
        for kernel in kernels:
            if isinstance(kernel, Unknown):
                raise kernel.error
        roots = [root for kernel in kernels for root in (kernel.root.left, kernel.root.right)]
        program = Program([kernel.values() for kernel in kernels])
        fused = fuse(program) if pairs >= _WORTH_COMPILING else None

        def values(rows: slice, columns: slice) -> list[Tensor]:
            computed = fused.values(rows, columns) if fused else program.tile(rows, columns)
            return [_over_positions(value) for value in computed]

        return Tiles(
            values,
            lambda: [
                kernel.root.left.square().reshape(-1, len(x1)).mean(0).to(x1.dtype)
                for kernel in kernels
            ],
            parallel=not any(root.requires_grad for root in roots),
            entry_size=8 * program.positions,
            write=fused.run if fused else None,
        )

    def _read(self, x1: Tensor, x2: Tensor) -> Mixed:
        """Run the model's own ``forward`` on the law of its inputs."""
        reading = self.reading()
        first = _wide(x1)
        second = first if x2 is x1 else _wide(x2)
        # Copies of the buffers, for modules that count how often they are called.
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        inputs = (input_tensor(first, second, x1.dtype, reading),)
        with following(self._model), torch.random.fork_rng(devices=[]):
            before = torch.get_rng_state()
            result = functional_call(self._model, buffers, inputs)
            if not torch.equal(before, torch.get_rng_state()):
                raise RULES.unsupported(
                    "random numbers in forward", "Another call would give another kernel."
                )
        outputs = outputs_of(result, self._output)
        for name, output in outputs.items():
            check_rows(name, output, len(x1) + len(x2), LimitTensor)
        return _all_units(list(outputs.values()))


def infinite_width(
    model: nn.Module,
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    parameterization: Parameterization = "ntk",
    memory_budget: int = MEMORY_BUDGET,
    output: OutputChoice = None,
) -> InfiniteWidth:
    r"""The exact kernels of a model whose hidden layers are infinitely wide.

    The model's own ``forward`` runs on the Gaussian laws of its layers; the widths it has do not
    matter. With W ~ N(0, weight_var / fan_in) and b ~ N(0, bias_var), every linear layer makes
    ``K <- weight_var K + bias_var``, every activation ``K <- E[phi(u) phi(v)]``.

    Args:
        model: Any module; it is not changed.
        weight_var: A float, or a mapping from module names (as in ``model.named_modules()``).
            Where nothing is given, the variances that ``gaussian_init_`` remembers count, and
            else those of the parameters as they are.
        bias_var: Likewise.
        parameterization: ``"ntk"`` counts a gradient with the variance its parameter was drawn
            with, so that the kernel is finite; ``"standard"`` counts it plainly, with the
            model's actual widths.
        memory_budget: Bytes for the intermediate arrays of a tile.
        output: Which output, where ``forward`` returns several: an index of a tuple or list, a
            key of a mapping. ``None`` takes the mean over the units of all of them. The units
            of one tensor all have the same kernel, that of any one of them.

    Returns:
        An object with the kernels ``nngp`` and ``ntk``.

    Raises:
        SettingsError: An unknown parametrisation, or a variance that is not allowed.

    Source: Jacot, Gabriel and Hongler (2018); Lee et al., "Deep Neural Networks as Gaussian
    Processes" (2018).

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(2, [8], 1), weight_var=2.0, bias_var=0.0)
        >>> x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
        >>> round(limit.nngp.diagonal(x).item(), 9), round(limit.ntk.diagonal(x).item(), 9)
        (25.0, 50.0)
    """
    if parameterization not in ("ntk", "standard"):
        raise SettingsError(
            f"The parameterization is {parameterization!r}; choose 'ntk' or 'standard'."
        )
    return InfiniteWidth(model, weight_var, bias_var, parameterization, memory_budget, output)


def _wide(x: Tensor) -> Tensor:
    """The inputs in float64: single precision would not survive fifty layers."""
    return x if x.device.type == "mps" else x.double()  # Apple's GPUs have no float64


def _all_units(outputs: Sequence[LimitTensor]) -> Mixed:
    """The moments of a unit of these outputs; of several outputs, of one picked at random."""
    if len(outputs) == 1:
        return mixed(outputs[0].law)
    parts = [(part, x.shape[-1]) for x in outputs for part in positions(mixed(x.law))]
    return blend([part for part, _ in parts], [width for _, width in parts])


def _over_positions(values: Tensor) -> Tensor:
    """(*positions, n1, n2) -> (n1, n2): the mean over all outputs, of which positions are some."""
    return values if values.ndim == 2 else values.flatten(0, -3).mean(0)
