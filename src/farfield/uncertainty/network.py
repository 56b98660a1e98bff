"""The network that a posterior is of: its outputs, and products of its Jacobian with directions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from farfield import fingerprint
from farfield.empirical.engine import Engine
from farfield.empirical.expansion import copied
from farfield.empirical.forward import Forward, check_model, full_precision
from farfield.empirical.inputs import Inputs, mapped, rows_of, tensors_of
from farfield.empirical.kernel import EmpiricalNTK, empirical_ntk, engine_of
from farfield.empirical.memory import Need, block_side
from farfield.empirical.outputs import HALF, OutputChoice, flattened
from farfield.empirical.projections import backwards_pays, projected
from farfield.empirical.tangents import moved
from farfield.errors import AccuracyWarning, RangeError, SettingsError, UnsupportedOperation

LONGEST = 512
"""Samples of a block at most: larger ones leave the cache."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network in the precision that its posterior is computed in.

    Attributes:
        own: The user's model.
        model: The same, or a copy in another precision.
        dtype: Of the parameters of ``model``.
        device: Where it is.
        output: Which output tensor, if it returns several.
        budget: Bytes.
    """

    own: nn.Module
    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    output: OutputChoice
    budget: int
    engine: Engine = field(repr=False)
    _before: tuple[Tensor, ...] = field(repr=False)
    _backwards: dict[object, bool] = field(default_factory=dict, repr=False)

    def __call__(self, inputs: Inputs) -> Tensor:
        """The outputs of every sample, (n, o)."""
        return self.forward(self.prepared(inputs)).detach()

    @property
    def forward(self) -> Forward:
        """Runs the model so that nothing of it changes."""
        return self.engine.forward

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are uncertain: all that need a gradient."""
        return list(self.engine.parameters.values())

    def prepared(self, inputs: Inputs) -> Inputs:
        """The inputs in the model's precision and on its device."""

        def placed(tensor: Tensor) -> Tensor:
            real = tensor.is_floating_point()
            return tensor.to(self.device, self.dtype if real else tensor.dtype)

        return mapped(inputs, placed)

    def kernel(self, outputs: str) -> EmpiricalNTK:
        """The tangent kernel of all outputs (``"full"``) or their mean."""
        return empirical_ntk(self.model, outputs, memory=self.budget, output=self.output)

    def side(self, inputs: Inputs, numbers: int) -> int:
        """How many samples like these fit into memory at once.

        Args:
            inputs: Some samples.
            numbers: How many numbers are kept of each beside what the model needs.
        """
        few = self.prepared(rows_of(inputs, slice(0, 4)))
        need = self.engine.size(few).need
        each = Need(need.graph + 8 * numbers, need.signals, need.values, 0)
        return block_side(each, self.budget, LONGEST)

    def outputs(self, inputs: Inputs) -> int:
        """How many outputs the model has for samples like these."""
        return self.engine.size(self.prepared(rows_of(inputs, slice(0, 4)))).outputs

    def along(self, inputs: Inputs, directions: Sequence[Tensor]) -> Tensor:
        """The derivatives of the outputs along directions of the parameters.

        By a backward pass for each output or a forward-mode product for each direction, whichever
        takes fewer operations.

        Args:
            inputs: Samples that fit into memory at once.
            directions: For each parameter all directions, (K, *shape of the parameter).

        Returns:
            J d for each direction d, (n, o, K).

        Raises:
            RangeError: A derivative is not finite.
            UnsupportedOperation: An operation has neither forward-mode nor second derivatives.
        """
        there = self.prepared(inputs)
        if self.goes_backwards(there, len(directions[0])):
            named = dict(zip(self.engine.parameters, directions, strict=True))
            found = projected(self.engine.gradients(there), named)
        else:
            found = self._forwards(there, directions)
        check_finite(found)
        return found

    def goes_backwards(self, inputs: Inputs, number: int) -> bool:
        """Whether derivatives along so many directions take fewer operations backwards.

        Args:
            inputs: Some samples.
            number: K.
        """
        few = self.prepared(rows_of(inputs, slice(0, 4)))
        kind = number, *((tensor.shape[1:], tensor.dtype) for tensor in tensors_of(few))
        if kind not in self._backwards:
            self._backwards[kind] = backwards_pays(self.engine.gradients(few), number)
        return self._backwards[kind]

    @full_precision()
    def _forwards(self, inputs: Inputs, directions: Sequence[Tensor]) -> Tensor:
        def run(values: Sequence[Tensor]) -> Tensor:
            return self.forward(inputs, list(zip(self.parameters, values, strict=True)))

        try:
            columns = [
                moved(run, self.parameters, direction).detach()
                for direction in zip(*directions, strict=True)
            ]
        except NotImplementedError as error:
            raise UnsupportedOperation(
                "An operation of the model has neither forward-mode nor second derivatives "
                f"({str(error).splitlines()[0]}); use method='exact', which needs neither."
            ) from error
        return torch.stack(columns, 2)

    def squared_norm(self) -> float:
        """Of the uncertain parameters."""
        return sum(float(p.detach().double().square().sum()) for p in self.parameters)

    def check(self) -> None:
        """Refuse a model that has changed since, whichever way.

        Raises:
            SettingsError: A parameter or buffer has.
        """
        now = _tensors(self.own)
        if len(now) != len(self._before) or not all(map(_same, now, self._before)):
            raise SettingsError(
                "Parameters or buffers of the model have changed since the LinearizedLaplace was "
                "made; a posterior is of those it was fitted at. Put them back, or make a new one "
                "and fit it."
            )

    def fingerprint(self) -> str:
        """Of the user's parameters and buffers."""
        return fingerprint_of(self.own)


def network_of(
    model: nn.Module, dtype: torch.dtype | None, output: OutputChoice, budget: int
) -> Network:
    """Check a model, and copy it if it is of another precision.

    Args:
        model: The user's.
        dtype: The precision to compute in; the model's own when ``None``, at least float32.
        output: Which output tensor, if it returns several.
        budget: Bytes.

    Returns:
        The network.

    Raises:
        SettingsError: A model that has no tangent kernel, or a dtype that is no choice.

    Warns:
        AccuracyWarning: The parameters are of half precision.
    """
    if dtype not in (None, torch.float32, torch.float64):
        raise SettingsError(f"dtype is {dtype}; choose torch.float32, torch.float64 or None.")
    half = isinstance(model, nn.Module) and any(p.dtype in HALF for p in model.parameters())
    if not half:
        check_model(model)
    real = [p.dtype for p in model.parameters() if p.is_floating_point()]
    if dtype is None:
        dtype = torch.float64 if torch.float64 in real else torch.float32
    working = model
    if any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in _tensors(model)):
        working = copied(model).to(dtype)
    if half:
        warnings.warn(
            "Parameters of the model are of half precision, too coarse for derivatives: the "
            f"posterior and the predictions are those of a copy in {dtype}, whose outputs differ "
            "from the model's by its rounding.",
            AccuracyWarning,
            stacklevel=3,
        )
        check_model(working)
    engine = engine_of(working, "full", memory=budget, output=output)
    device = next(iter(engine.parameters.values())).device
    before = tuple(tensor.detach().clone() for tensor in _tensors(model))
    return Network(model, working, dtype, device, output, budget, engine, before)


def fingerprint_of(model: nn.Module) -> str:
    """The digest of a model's parameters and buffers."""
    return fingerprint.of_tensors({**dict(model.named_parameters()), **dict(model.named_buffers())})


def check_finite(derivatives: Tensor) -> None:
    """Refuse derivatives, or squares of them, that are not numbers.

    Raises:
        RangeError: One is infinite or NaN.
    """
    if not bool(derivatives.isfinite().all()):
        raise RangeError(
            "Derivatives of the outputs by the parameters, or their squares, are not finite. Ask "
            "for inputs less far away, or compute in float64 (dtype=torch.float64)."
        )


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _same(now: Tensor, before: Tensor) -> bool:
    kinds = [(tensor.dtype, tensor.device) for tensor in (now, before)]
    return kinds[0] == kinds[1] and torch.equal(now, before)


class ChosenOutput(nn.Module):
    """A network that returns one output of each sample, another one for each.

    Args:
        model: The network.
        output: Which output tensor, if it returns several.
    """

    def __init__(self, model: nn.Module, output: OutputChoice) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(
        self, *inputs: Tensor, which_output_: Tensor | None = None, **named: Tensor
    ) -> Tensor:
        """The chosen outputs.

        Args:
            inputs: As of the network, and behind them the index for each sample, (n,).
            which_output_: The indices, where the network's inputs have names.
            named: As of the network.

        Returns:
            (n, 1)
        """
        if which_output_ is None:
            *inputs, which_output_ = inputs  # type: ignore[assignment]
        everything = flattened(self.model(*inputs, **named), self.output, len(which_output_))
        mask = torch.nn.functional.one_hot(which_output_, everything.shape[1])
        return (everything * mask).sum(1, keepdim=True)


def with_choice(inputs: Inputs, which: Tensor) -> Inputs:
    """The inputs of a :class:`ChosenOutput`.

    Args:
        inputs: Of the network.
        which: The index of an output for each sample, (n,).
    """
    if isinstance(inputs, Mapping):
        return {**inputs, "which_output_": which}
    return (*tensors_of(inputs), which)
