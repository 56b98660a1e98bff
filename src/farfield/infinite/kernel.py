"""The kernels of a model in the limit of infinite width."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from farfield.destination import Output
from farfield.errors import FarfieldWarning, SettingsError
from farfield.infinite import rules
from farfield.infinite.duals.numeric import TOLERANCE
from farfield.infinite.gram import Scaled, Unknown, constant
from farfield.infinite.limit_tensor import Parameterization, Reading
from farfield.infinite.native import fuse
from farfield.infinite.outputs import OutputChoice, check_features
from farfield.infinite.pairs import Program
from farfield.infinite.reader import Reader
from farfield.infinite.variances import VarianceChoice, parameter_variances
from farfield.kernel import MEMORY_BUDGET, Kernel, Tiles, evaluate
from farfield.trail import readable

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
    concurrent = True

    @property
    def origin(self) -> dict[str, str]:
        """Where the kernel comes from, in words."""
        return {"kernel": self.name, **self.limit.origin}

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
        tolerance: float = TOLERANCE,
    ) -> None:
        self._model = readable(model)
        self._arguments = (
            self._model, weight_var, bias_var, parameterization, memory_budget, output, tolerance
        )  # fmt: skip
        weights, biases = parameter_variances(self._model, weight_var, bias_var)
        self._reader = Reader(self._model, weights, biases, parameterization, output, tolerance)
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

    @property
    def origin(self) -> dict[str, str]:
        """The model and how it is read, in words; the variances show in the kernel's values."""
        return {
            "model": repr(self._model),
            "parameterization": str(self._arguments[3]),
            "output": str(self._arguments[5]),
        }

    def reading(self) -> Reading:
        """A fresh reading of the model, with the variances of its parameters."""
        return self._reader.reading()

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
        outs = (None, None) if out is None else out
        if not isinstance(outs, tuple | list) or len(outs) != 2:
            raise SettingsError(
                "out must be a pair of matrices, one for the NNGP and one for the NTK; for one "
                "kernel alone call limit.nngp or limit.ntk."
            )
        nngp, ntk = evaluate(
            lambda x1, x2: self._tiles(x1, x2, ["nngp", "ntk"]), x1, x2, outs, self._memory_budget
        )
        return nngp, ntk

    def diagonal(
        self, x: Float[Tensor, "n *features"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The diagonals of the NNGP and of the NTK, each (n,)."""
        return self.nngp.diagonal(x), self.ntk.diagonal(x)

    def _tiles(self, x1: Tensor, x2: Tensor, wanted: Sequence[str]) -> Tiles:
        check_features(x1)
        moments = self._reader.moments(x1, x2)
        if "ntk" in wanted and next(self._model.parameters(), None) is None:
            warnings.warn(
                f"The model ({type(self._model).__name__}) has no parameters, so its tangent "
                "kernel is zero everywhere. Parameters count if named_parameters() lists them.",
                FarfieldWarning,
                stacklevel=2,
            )
        pairs = len(x1) * len(x2)
        nothing = constant(moments.gram.root, 0.0).plain()
        both = {"nngp": moments.gram.plain(), "ntk": moments.tangent or nothing}
        kernels: list[Scaled] = []
        for name in wanted:
            kernel = both[name]
            if isinstance(kernel, Unknown):
                raise kernel.error
            kernels.append(kernel)
        roots = [root for kernel in kernels for root in (kernel.root.left, kernel.root.right)]
        program = Program([kernel.values() for kernel in kernels])
        fused = fuse(program) if pairs >= _WORTH_COMPILING else None

        def values(rows: slice, columns: slice) -> list[Tensor]:
            computed = fused.values(rows, columns) if fused else program.tile(rows, columns)
            return [_over_positions(value) for value in computed]

        return Tiles(
            values,
            lambda: [_over_rows(kernel.root.left.square()).to(x1.dtype) for kernel in kernels],
            parallel=not any(root.requires_grad for root in roots),
            entry_size=8 * program.positions,
            write=fused.run if fused else None,
            longest_side=fused.longest_side if fused else None,
        )


def infinite_width(
    model: nn.Module,
    weight_var: VarianceChoice = None,
    bias_var: VarianceChoice = None,
    parameterization: Parameterization = "ntk",
    memory_budget: int = MEMORY_BUDGET,
    output: OutputChoice = None,
    tolerance: float = TOLERANCE,
) -> InfiniteWidth:
    r"""The exact kernels of a model whose hidden layers are infinitely wide.

    The model's own ``forward`` runs on the Gaussian laws of its layers; the widths it has do not
    matter. With W ~ N(0, weight_var / fan_in) and b ~ N(0, bias_var), every linear layer makes
    ``K <- weight_var K + bias_var``, every activation ``K <- E[phi(u) phi(v)]``.

    Args:
        model: Any module; it is not changed. What ``torch.compile`` made is read as the module it
            was made from.
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
        tolerance: Estimated relative error of an activation's expectations above which
            quadrature gives an :class:`farfield.errors.AccuracyWarning`; closed forms do not
            need it.

    Returns:
        An object with the kernels ``nngp`` and ``ntk``.

    Raises:
        SettingsError: An unknown parametrisation, a variance that is not allowed, or a model that
            cannot be read: no module, scripted or traced, or with parameters without a shape.

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
    if not 0.0 < tolerance < 1.0:
        raise SettingsError(f"The tolerance is {tolerance}; it must lie between 0 and 1.")
    return InfiniteWidth(
        model, weight_var, bias_var, parameterization, memory_budget, output, tolerance
    )


def _over_positions(values: Tensor) -> Tensor:
    """(*positions, n1, n2) -> (n1, n2): the mean over all outputs, of which positions are some."""
    return values if values.ndim == 2 else values.flatten(0, -3).mean(0)


def _over_rows(values: Tensor) -> Tensor:
    """(*positions, n) -> (n,): the same mean."""
    return values if values.ndim == 1 else values.flatten(0, -2).mean(0)
