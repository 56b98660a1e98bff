"""Running a model so that nothing of it changes, with the graph of its gradients."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farfield.empirical.inputs import (
    Inputs,
    as_arguments,
    count,
    mapped,
    tensors_of,
    with_channels_last,
)
from farfield.empirical.outputs import HALF, OutputChoice, flattened
from farfield.errors import SettingsError, UnsupportedOperation
from farfield.replaced import replaced
from farfield.trail import eagerly

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_WITH_DROPOUT = (nn.MultiheadAttention, nn.RNNBase)


@dataclass(frozen=True)
class Forward:
    """A model, and which of its outputs are wanted.

    Attributes:
        model: The model.
        output: Which output tensor, if it returns several.
        channels_last: Whether images are given to the model with their channels last in memory.
    """

    model: nn.Module
    output: OutputChoice = None
    channels_last: bool = False

    def __call__(
        self, inputs: Inputs, parameters: Sequence[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """All outputs of every sample, (n, o), with their graph of gradients.

        Args:
            inputs: The samples.
            parameters: Pairs of a parameter and what is to stand in its place.

        Returns:
            The outputs.

        Raises:
            SettingsError: The inputs are of another dtype than the model takes.
            UnsupportedOperation: ``forward`` draws random numbers.
        """
        # Copies of the buffers, for modules that change them when they are called.
        with _surroundings(self.model, inputs):
            values = {id(buffer): buffer.clone() for buffer in self.model.buffers()}
            values |= {id(own): other for own, other in parameters or ()}
            ordered = mapped(inputs, with_channels_last) if self.channels_last else inputs
            positional, named = as_arguments(mapped(ordered, _plain))
            named_inputs = _inputs_named(self.model, inputs)
            with replaced(self.model, values), named_inputs, _drawn() as drawn:
                result = self.model(*positional, **named)
            if drawn:
                raise UnsupportedOperation(
                    "The model draws random numbers in forward, so that every call would give "
                    "another kernel. Switch that off, such as with model.eval()."
                )
            return flattened(result, self.output, count(inputs))


@contextmanager
def _drawn() -> Iterator[list[bool]]:
    """Tell whether random numbers were drawn, and put the generator back."""
    drawn: list[bool] = []
    before = torch.get_rng_state()
    try:
        yield drawn
    finally:
        if not torch.equal(before, torch.get_rng_state()):
            drawn.append(True)
            torch.set_rng_state(before)


def _plain(tensor: Tensor) -> Tensor:
    # Tensors of inference mode cannot be saved for gradients, their copies can.
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@contextmanager
def _inputs_named(model: nn.Module, inputs: Inputs) -> Iterator[None]:
    """If a call fails, say so where it may be for the number or the dtype of the inputs."""
    try:
        yield
    except TypeError as error:
        positional, named = as_arguments(inputs)
        try:
            inspect.signature(model.forward).bind(*positional, **named)
        except TypeError:
            what = ", ".join(map(repr, named)) if named else f"{len(positional)} in a row"
            raise SettingsError(
                f"The model's forward does not take the tensors given ({what}): {error}. Give "
                "those that it takes; from_batch=... takes them out of a DataLoader's batches, "
                "such as lambda batch: batch[0]."
            ) from error
        raise
    except RuntimeError as error:
        own = {p.dtype for p in model.parameters() if p.is_floating_point()}
        given = {t.dtype for t in tensors_of(inputs)} - own
        if not given or "dtype" not in str(error):
            raise
        raise SettingsError(
            f"The inputs are {_listed(given)} and the parameters {_listed(own)}, with which the "
            f"model cannot be called ({error}); convert the inputs, such as with x.to(...)."
        ) from error


def _listed(dtypes: set[torch.dtype]) -> str:
    return " and ".join(sorted(map(str, dtypes)))


@contextmanager
def full_precision() -> Iterator[None]:
    """Leave autocast, which would round to half precision."""
    if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
        yield  # nothing to leave, which a small model's call would notice
        return
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def _surroundings(model: nn.Module, inputs: Inputs) -> Iterator[None]:
    device = tensors_of(inputs)[0].device
    devices = [device] if device.type == "cuda" else []
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    steps = _step_by_step() if recurrent else nullcontext()
    random = torch.random.fork_rng(devices=devices) if devices else nullcontext()
    with (
        random,
        torch.inference_mode(False),
        torch.enable_grad(),
        full_precision(),
        eagerly(),
        steps,
    ):
        yield


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Recurrent layers in one piece hide how they use their weights; step by step they show it."""
    before = torch.backends.mkldnn.enabled
    setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010 - mypy knows only its getter
    try:
        yield
    finally:
        setattr(torch.backends.mkldnn, "enabled", before)  # noqa: B010


def check_model(model: object) -> dict[str, nn.Parameter]:
    """Refuse a model whose outputs have no tangent kernel.

    Args:
        model: The model.

    Returns:
        Its parameters, by name.

    Raises:
        SettingsError: No module; dropout or batch statistics; embeddings that change when they
            are used; hooks on gradients; parameters that are complex, of half precision, of
            inference mode or without values.
    """
    if not isinstance(model, nn.Module):
        raise SettingsError(
            f"The model is of type {type(model).__name__}; it must be a torch.nn.Module. Call a "
            "function from the forward of a module that holds its parameters."
        )
    for name, module in model.named_modules():
        reason = _unfit(module)
        if reason is not None:
            raise SettingsError(f"The module {name!r} ({type(module).__name__}) {reason}")
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        _check_parameter(name, parameter)
    return parameters


def _unfit(module: nn.Module) -> str | None:
    """Why outputs that a module works on have no tangent kernel, if so, and what to do."""
    if module.training and _dropout(module) > 0:
        return "is in training mode, where it drops units at random; call model.eval() first."
    if module._backward_hooks or module._backward_pre_hooks:
        return (
            "has a backward hook, which would be called many times and may change the gradients; "
            "remove it (handle.remove()), and register it again afterwards."
        )
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if module.training:
            return (
                "is in training mode, where it ties the inputs of a batch together; call "
                "model.eval() first."
            )
        if module.running_mean is None:
            return (
                "has no running statistics, so that it ties the inputs of a batch together even "
                "in eval mode; make it with track_running_stats=True."
            )
    if isinstance(module, _EMBEDDINGS):
        if module.max_norm is not None:
            return (
                f"has max_norm={module.max_norm}, which changes its weights whenever it is "
                "called; a kernel must not do that. Set max_norm=None."
            )
        if module.scale_grad_by_freq:
            return (
                "has scale_grad_by_freq=True, so that the gradient of one input depends on the "
                "others of its batch. Set it to False."
            )
    return None


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise SettingsError(
            f"The parameter {name!r} has no shape yet; call the model once on an input."
        )
    if parameter.is_meta:
        raise SettingsError(
            f"The parameter {name!r} is on the meta device, where it has no values; load the "
            "weights, or make them with model.to_empty(device='cpu') and draw them."
        )
    if parameter.is_inference():
        raise SettingsError(
            f"The parameter {name!r} was made in inference mode and can have no gradients; make "
            "the model outside of torch.inference_mode(), or use copy.deepcopy(model)."
        )
    if parameter._backward_hooks:
        raise SettingsError(
            f"The parameter {name!r} has a hook on its gradient, which would be called many times "
            "and may change it; remove it (handle.remove()), and register it again afterwards."
        )
    if parameter.is_complex():
        raise SettingsError(
            f"The parameter {name!r} is complex; only real parameters are supported. Hold its "
            "real and imaginary parts as one real parameter (torch.view_as_complex)."
        )
    if parameter.dtype in HALF:
        raise SettingsError(
            f"The parameter {name!r} is {parameter.dtype}, too coarse for a kernel; use "
            "model.float() or model.double()."
        )


def _dropout(module: nn.Module) -> float:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return float(module.p)
    if isinstance(module, _WITH_DROPOUT):
        return float(module.dropout)
    return 0.0
