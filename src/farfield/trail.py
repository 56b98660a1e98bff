"""Where a reading is: the modules whose ``forward`` is running, so that errors can name them.

A reading runs a model's own ``forward`` (see :mod:`farfield.reading`). Here is which models can be
read, and what is known while one runs: the module, and whether a rule or the model itself asks.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy

from farfield.errors import SettingsError, UnsupportedOperation

_INTERPRETER = "TorchScript interpreter"  # what its errors have in common


class _Trail(threading.local):
    """The modules whose ``forward`` is running in this thread, outermost first."""

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self.names: Mapping[int, str] = {}
        self.running: list[nn.Module] = []
        self.in_rule = False
        self.asked_shape = False


_trail = _Trail()

_one_at_a_time = threading.RLock()
"""Held while a model is read: PyTorch's global hooks are those of all threads."""


@contextmanager
def inside_a_rule() -> Iterator[None]:
    """What is asked here is asked by a rule, not by the model."""
    before, _trail.in_rule = _trail.in_rule, True
    try:
        yield
    finally:
        _trail.in_rule = before


def note_question_of_shape() -> None:
    """A shape is asked for: remember it, if it is the model that asks."""
    _trail.asked_shape |= not _trail.in_rule


def has_asked_for_a_shape() -> bool:
    """Whether the model that is read has looked at a shape itself, rather than its functions."""
    return _trail.asked_shape


def current_module() -> str:
    """Where the reading is: the path and class of the module whose ``forward`` is running."""
    module = _trail.running[-1] if _trail.running else _trail.model
    if module is None:
        return "In the model"
    path = _trail.names.get(id(module), "")
    where = f"In module {path!r}" if path else "In the model"
    return f"{where} ({type(module).__name__})"


def readable(model: object) -> nn.Module:
    """The module whose ``forward`` is read, or why there is none.

    Args:
        model: What the caller gave.

    Returns:
        The same model; if ``torch.compile`` made it, the module that it was made from.

    Raises:
        SettingsError: It is no module, or has modules without a ``forward`` in Python or without
            shapes.
    """
    if not isinstance(model, nn.Module):
        raise SettingsError(
            f"The model is of type {type(model).__name__}; it must be a torch.nn.Module. Call a "
            "function from the forward of a module that holds its parameters."
        )
    original = getattr(model, "_orig_mod", model)
    model = original if isinstance(original, nn.Module) else model
    for name, module in model.named_modules():
        where = f"The module {name!r}" if name else "The model"
        if isinstance(module, torch.jit.ScriptModule):
            raise SettingsError(
                f"{where} is scripted or traced ({type(module).__name__}), so its forward no "
                "longer runs in Python, where it can be read; give the module that it was made of."
            )
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False)))):
            raise SettingsError(
                f"{where} ({type(module).__name__}) has parameters without a shape; run one "
                "forward pass first, such as model(x[:1])."
            )
    return model


@contextmanager
def eagerly() -> Iterator[None]:
    """Let compiled parts of a model run as they were written: there is nothing to compile."""
    if "torch._dynamo" not in sys.modules:  # nothing can have been compiled, and its import is slow
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def running_module() -> tuple[str, str]:
    """Path and class of the module whose ``forward`` is running; ("", "the model") at the top."""
    if not _trail.running:
        return "", "the model"
    module = _trail.running[-1]
    return _trail.names.get(id(module), ""), type(module).__name__


@contextmanager
def following(model: nn.Module) -> Iterator[None]:
    """Keep track of the module that is running, so that errors can name it.

    The hooks are PyTorch's global ones and are gone afterwards: the model itself gets none.

    Args:
        model: The model that is read.

    Yields:
        Nothing.

    Raises:
        UnsupportedOperation: A part of it runs in TorchScript's interpreter.
    """
    with _one_at_a_time:
        yield from _following(model)


def _following(model: nn.Module) -> Iterator[None]:
    before = (_trail.model, _trail.names, _trail.running, _trail.in_rule, _trail.asked_shape)
    _trail.model = model
    _trail.names = {id(module): name for name, module in model.named_modules()}
    _trail.running, _trail.in_rule, _trail.asked_shape = [], False, False

    def enter(module: nn.Module, args: object) -> None:
        if id(module) in _trail.names:
            _trail.running.append(module)

    def leave(module: nn.Module, args: object, output: object) -> None:
        if _trail.running and _trail.running[-1] is module:
            _trail.running.pop()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        with eagerly():
            yield
    except RuntimeError as error:
        if _INTERPRETER not in str(error):
            raise
        raise UnsupportedOperation(
            f"{current_module()}: it calls a function that torch.jit.script or torch.jit.trace "
            "made, which no longer runs in Python, where it could be read. Call the function that "
            "it was made of, or set PYTORCH_JIT=0 in the environment."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        _trail.model, _trail.names, _trail.running, _trail.in_rule, _trail.asked_shape = before
