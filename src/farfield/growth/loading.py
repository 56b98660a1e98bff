"""A model from a user's Python file and its weights from a file that cannot run code."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from farfield.errors import DataError, MissingExtraError, SettingsError

# What the user's own code may fail with.
_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    NameError, OSError, RuntimeError, StopIteration, SyntaxError, SystemExit, TypeError, ValueError,
)  # fmt: skip


def build_model(target: str) -> nn.Module:
    """Call a function of a Python file that makes a model.

    The file runs: it is the user's own.

    Args:
        target: ``my_model.py:build``; the function takes no arguments.

    Returns:
        The model.

    Raises:
        SettingsError: The target is not of this form, there is no such file or function, the code
            fails, or what it returns is no module.
    """
    return load_builder(target)()


def load_builder(target: str) -> Callable[[], nn.Module]:
    """The function of a Python file that makes a model; each call makes another one.

    The file runs, once: it is the user's own.

    Args:
        target: As of :func:`build_model`.

    Returns:
        A function without arguments. It raises SettingsError where the user's fails or returns no
        module.

    Raises:
        SettingsError: The target is not of this form, or there is no such file or function.
    """
    path_text, _, name = target.rpartition(":")
    if not path_text or not name.isidentifier():
        raise SettingsError(
            f"The model {target!r} is not of the form my_model.py:build, a Python file and a "
            "function in it that returns the model."
        )
    path = Path(path_text)
    if not path.is_file():
        raise SettingsError(f"There is no file {path}.")
    module = _run(path)
    build = getattr(module, name, None)
    if not callable(build):
        raise SettingsError(f"{path} has no function {name!r} that returns the model.")

    def built() -> nn.Module:
        try:
            model = build()
        except _FAILURES as error:
            raise SettingsError(f"{name}() of {path} failed: {_told(error)}.") from error
        if not isinstance(model, nn.Module):
            raise SettingsError(
                f"{name}() of {path} returned a {type(model).__name__}; it must return a "
                "torch.nn.Module."
            )
        return model

    built.__name__ = name
    return built


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} is not a Python file; its name must end with .py.")
    module = importlib.util.module_from_spec(spec)
    folder = str(
        path.resolve().parent
    )  # as for `python my_model.py`: its neighbours can be imported
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except _FAILURES as error:
        raise SettingsError(f"{path} failed: {_told(error)}.") from error
    finally:
        sys.path.remove(folder)
    return module


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a model's weights from a file; nothing in the file is run.

    Args:
        model: The model, changed in place.
        path: A ``.safetensors`` file, or a state dict written with ``torch.save``, which is read
            with ``weights_only=True``.

    Raises:
        DataError: There is no such file, it holds something else than a state dict of tensors, or
            its names or shapes are not those of the model.
        MissingExtraError: A safetensors file, and the library is not installed.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    state = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(
            f"{path} does not hold the weights of this model: {_mismatch(model, state)}."
        ) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError(
            "Reading .safetensors files needs the library safetensors; install it with "
            "pip install 'farfield[safetensors]', or save a state dict with torch.save."
        ) from error
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} cannot be read as safetensors: {_told(error)}.") from error
    return state


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # torch warns of files that it then refuses
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a state dict without running code; save the weights with "
            "torch.save(model.state_dict(), path), or as safetensors."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise DataError(
            f"{path} holds a {type(state).__name__} and not a state dict of tensors; save the "
            "weights with torch.save(model.state_dict(), path)."
        )
    return dict(state)


def _mismatch(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    own = model.state_dict()
    strange = [name for name in state if name not in own]
    if missing := [name for name in own if name not in state]:
        return f"{missing[0]!r} is missing" + (f", but it has {strange[0]!r}" if strange else "")
    if strange:
        return f"the model has no {strange[0]!r}"
    wrong = [name for name in own if own[name].shape != state[name].shape]
    if not wrong:
        return "its values cannot be copied"
    name = wrong[0]
    return f"{name!r} has shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
